"""Handing a detached job's program to the head before the launch, to the next one if a head is lost meanwhile.

Nothing has been started by then, so another attempt does no harm. Imported only when a program is to be handed over.
"""

from __future__ import annotations

from time import monotonic, monotonic_ns, sleep

from heorot.cli.foreground.takeover import Takeover
from heorot.client.endpoint import cluster_mark
from heorot.core.client.job import JobState
from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from heorot.core.client.session import Session

RECEIVE_BYTES = 64 * 1024


def stage_program(
    session: Session, connection: _socket.socket, directory: str, image: bytes, say: Callable[[str], None]
) -> _socket.socket:
    """Wait until a head has the image, which the session offers; return the connection to that head.

    A lost head's successor is waited for as by a job in the foreground: as long as the cluster is there.

    Raises
    ------
    RequestError
        If the head refuses, or the cluster is gone.
    """
    mark = cluster_mark(directory)
    takeover: Takeover | None = None
    request = session.stage(image)
    while not request.finished:
        if not session.connected:
            assert takeover is not None
            connection = _next_head(takeover)
            session.reconnected()
        # A head that takes the connection and is silent is worth a word, too.
        due_at = takeover.due_at(connected=True) if takeover is not None else None
        connection.settimeout(None if due_at is None else max(0.001, due_at - monotonic()))
        try:
            data = _exchange(session, connection)
        except TimeoutError:
            if takeover is not None:
                takeover.check()
            continue
        if data:
            session.receive(data, monotonic_ns() // 1_000_000)
            if takeover is not None and session.greeted:
                takeover.over(session)
                takeover = None
        else:
            connection.close()
            session.connection_lost()
            takeover = takeover or Takeover(directory, mark, JobState(0), say, "nothing was started yet")
    if request.error is not None:
        raise RequestError(request.error.code, request.error.message)
    return connection


def _exchange(session: Session, connection: _socket.socket) -> bytes:
    """Send what is to be sent and return what came; nothing: the connection is gone."""
    try:
        while session.outgoing:
            del session.outgoing[: connection.send(session.outgoing)]
    except TimeoutError:
        raise
    except OSError:
        # What the head said before it closed is still to be read, and says more than this error.
        session.outgoing.clear()
    try:
        return connection.recv(RECEIVE_BYTES)
    except TimeoutError:
        raise
    except OSError:
        return b""


def _next_head(takeover: Takeover) -> _socket.socket:
    while (connection := takeover.attempt()) is None:
        takeover.check()
        due_at = takeover.due_at(connected=False)
        assert due_at is not None
        sleep(max(0.0, due_at - monotonic()))
    return connection
