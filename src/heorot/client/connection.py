"""The connection to whichever head leads: every command and both forms of the library speak over this one.

Theory of operation
-------------------
A session says what to tell heads, and what they have said; here are its socket, and the search for the next head when
one is lost. The owner waits as it likes: until `fileno` is ready for `events`, or it is `due_at`. Then it calls
`serve`. An owner that waits for nothing else lets `wait` do both. Neither raises because a head is lost or breaks the
protocol: the next one is looked for, or the session is closed and says why.

Short commands load this: it imports next to nothing, and the search only when there is one.
"""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

from time import monotonic, monotonic_ns, sleep

from heorot.client.endpoint import cluster_mark, connect_head
from heorot.core.errors import ProtocolError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from heorot.client.search import HeadSearch
    from heorot.core.client.conversation import Conversation, Request

RECEIVE_BYTES = 512 * 1024
REACH_S = 5.0
"""How long a head is looked for where one was, by who has nothing under way there."""
READABLE = 1
WRITABLE = 4
"""POLLIN and POLLOUT; a short command that waits for one thing only does without the module."""


class Connection:
    """What connects a session to one head after the other.

    Parameters
    ----------
    directory:
        The cluster's, where heads are looked for.
    limit_s:
        How long to look for another head when one is lost; None: as long as the cluster is there; 0: one attempt.

    Attributes
    ----------
    on_lost:
        Called when a head is lost, with the requests that fail by that.
    before_close:
        Called with a descriptor that is going to be closed, so that nobody waits for it any more.
    heard_at:
        When a head has said something last, or was found, on the clock of `time.monotonic`.
    """

    def __init__(self, directory: str, session: Conversation, limit_s: float | None = None) -> None:
        self.directory = directory
        self.on_lost: Callable[[list[Request]], object] | None = None
        self.before_close: Callable[[int], object] | None = None
        self.heard_at = 0.0
        self._session = session
        self._limit_s = limit_s
        self._mark: tuple[int, int] | None = None
        self._socket: _socket.socket | None = None
        self._search: HeadSearch | None = None
        """Since there is no head, until one has greeted us."""

    # -------------------------------------------------- the first head

    def open(self, patient: bool = True) -> bool:
        """Connect for the first time; return False if that is to be tried again when it is `due_at`.

        Raises
        ------
        RequestError
            As `connect_head`; ``no-head`` only if none is there after `REACH_S`, or at once if not `patient`.
        """
        try:
            if self._search is None:
                connection: _socket.socket | None = connect_head(self.directory)
            else:
                connection = self._search.attempt()
        except RequestError as error:
            if self._search is not None or not patient or error.code != "no-head":
                raise
            from heorot.client.search import HeadSearch

            # Where a head was, another may follow.
            self._search = HeadSearch(self.directory, cluster_mark(self.directory), REACH_S)
            return False
        if connection is None:
            return False
        self._search = None
        self._use(connection)
        self._mark = cluster_mark(self.directory)
        return True

    def reach(self, patient: bool = True) -> None:
        """Connect for the first time, and wait for that. Raises RequestError as `open`."""
        while not self.open(patient):
            sleep(max(0.0, (self.due_at or 0.0) - monotonic()))

    # -------------------------------------------------- what the owner waits for

    def fileno(self) -> int:
        """Return the descriptor to wait for; -1: there is no connection now."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def events(self) -> int:
        """What to wait for on it: `READABLE`, and `WRITABLE` if there is more to send than it took."""
        return READABLE | WRITABLE if self._session.outgoing else READABLE

    @property
    def due_at(self) -> float | None:
        """When to call `serve` whatever happens, on the clock of `time.monotonic`; None: there is no need."""
        if self._search is None or self._socket is not None or self._session.closed is not None:
            return None
        return self._search.next_at

    # -------------------------------------------------- what the owner calls

    def serve(self, ready: int) -> list[Any]:
        """Do what there is to do, the descriptor being `ready` for these events; return what happened to jobs."""
        happened = self._receive() if ready & ~WRITABLE else []
        self._look()
        self.flush()
        return happened

    def wait(self, timeout_s: float | None = None) -> list[Any]:
        """Wait for so long at most until something comes, or can be sent; return what happened to jobs."""
        self.flush()
        due_at = self.due_at
        if due_at is not None:
            due_s = max(0.0, due_at - monotonic())
            timeout_s = due_s if timeout_s is None else min(due_s, timeout_s)
        if self._socket is None:
            sleep(timeout_s or 0.0)
            return self.serve(0)
        if self._session.outgoing:
            from select import poll

            poller = poll()
            poller.register(self._socket, self.events)
            ready = poller.poll(None if timeout_s is None else int(timeout_s * 1000) + 1)
            return self.serve(ready[0][1] if ready else 0)
        self._socket.settimeout(timeout_s)
        try:
            happened = self._receive()
        finally:
            if self._socket is not None:
                self._socket.setblocking(False)
        self._look()
        self.flush()
        return happened

    def flush(self) -> None:
        """Send what the socket takes."""
        outgoing = self._session.outgoing
        if self._session.closed is not None:
            outgoing.clear()
        while outgoing and self._socket is not None:
            try:
                sent = self._socket.send(outgoing)
            except (BlockingIOError, TimeoutError):
                return
            except OSError:
                # The head's last words may still be there to be read, and say more than this error.
                outgoing.clear()
                return
            del outgoing[:sent]

    def close(self) -> None:
        """Send what the socket takes, and close it; whoever waits for an answer gets an error."""
        self.flush()
        self._session.disconnected("the connection was closed")
        self._drop()

    # -------------------------------------------------- from one head to the next

    def _use(self, connection: _socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.heard_at = monotonic()

    def _drop(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            if self.before_close is not None:
                self.before_close(connection.fileno())
            connection.close()

    def _receive(self) -> list[Any]:
        if self._socket is None:
            return []
        data, count = b"", 0
        room = self._session.room()
        try:
            if room is None:
                data = self._socket.recv(RECEIVE_BYTES)
            else:
                count = self._socket.recv_into(room)
        except (BlockingIOError, TimeoutError):
            return []
        except OSError:
            pass
        if not data and not count:
            self._lose()
            return []
        self.heard_at = monotonic()
        now_ms = monotonic_ns() // 1_000_000
        happened: list[Any] = []
        try:
            happened = self._session.received(count, now_ms) if count else self._session.receive(data, now_ms)
        except ProtocolError:
            pass  # the session is closed, and tells everybody
        if self._session.closed is not None:
            self._drop()
        elif self._session.greeted:
            self._search = None
        return happened

    def _lose(self) -> None:
        self._drop()
        failed = self._session.connection_lost()
        if self._search is None:
            from heorot.client.search import HeadSearch

            self._search = HeadSearch(self.directory, self._mark, self._limit_s)
        if self.on_lost is not None:
            self.on_lost(failed)

    def _look(self) -> None:
        """Look for the next head, if it is time to."""
        due_at = self.due_at
        if self._search is None or due_at is None or monotonic() < due_at:
            return
        try:
            connection = self._search.attempt()
        except RequestError as error:
            self._session.disconnected(error.message)
            return
        if connection is not None:
            self._use(connection)
            self._session.reconnected()
