"""Handing a detached job's program to the head before the launch, to the next one if a head is lost meanwhile.

Nothing has been started by then, so another attempt does no harm. Imported only when a program is to be handed over.
"""

from __future__ import annotations

from time import monotonic

from heorot.cli.foreground.takeover import Takeover
from heorot.core.client.job import JobState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.client.connection import Connection
    from heorot.core.client.session import Session


def stage_program(session: Session, connection: Connection, image: bytes, say: Callable[[str], None]) -> None:
    """Wait until a head has the image, which the session offers.

    A lost head's successor is waited for as by a job in the foreground: as long as the cluster is there.

    Raises
    ------
    RequestError
        If the head refuses, or the cluster is gone.
    """
    takeover: Takeover | None = None

    def lost(_unanswered: object) -> None:
        nonlocal takeover
        takeover = takeover or Takeover(JobState(0), say, "nothing was started yet")

    connection.on_lost = lost
    request = session.stage(image)
    while not request.finished:
        due_at = takeover.due_at if takeover is not None else None
        connection.wait(None if due_at is None else max(0.0, due_at - monotonic()))
        if takeover is not None and session.greeted:
            takeover.over(session)
            takeover = None
        elif takeover is not None:
            # A head that takes the connection and is silent is worth a word, too.
            takeover.check()
    connection.on_lost = None
    if request.error is not None:
        raise request.error
