"""A blocking connection to the head that several threads may share, without a thread of its own.

Whoever waits for something reads from the socket meanwhile, for all: one thread at a time pumps, the others wait for it
to tell them that something has changed, and one of them takes over when the pump has what it wanted. When the head is
lost, the pump looks for the next one, and the session goes on with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from select import POLLIN, POLLOUT, poll
from threading import Condition, Lock
from time import monotonic
from typing import Any

from heorot.client.endpoint import cluster_mark
from heorot.client.search import HeadSearch, reach_head
from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.job import JobState
from heorot.core.client.session import NewOutput, Session
from heorot.core.errors import ProtocolError, RequestError
from heorot.linux.clock import now_ms

RECEIVE_BYTES = 256 * 1024

# A program that uses the library runs longer than a command: the import is worth it.
messages.use_compiled()


class Connection:
    """The socket, the session that speaks over it, and the lock that guards both.

    Hold `lock` while using `session`; call `flush` before giving it up.

    Parameters
    ----------
    reconnect_timeout_s:
        How long to look for another head when one is lost; None: as long as the cluster is there.
    """

    def __init__(
        self, directory: str, on_output: Callable[[NewOutput], None], reconnect_timeout_s: float | None = None
    ) -> None:
        self.session = Session()
        self._directory = directory
        self._reconnect_timeout_s = reconnect_timeout_s
        self._search: HeadSearch | None = None
        """Since the head was lost, until the next one has greeted us."""
        self.lock = Lock()
        self._changed = Condition(self.lock)
        self._on_output = on_output
        self._pumping = False
        self._socket = reach_head(directory)
        self._socket.setblocking(False)
        self._cluster_mark = cluster_mark(directory)
        # Wakes the pump when another thread has more to write than the socket takes.
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        """Close the connection; whoever waits gets an error."""
        with self.lock:
            self.session.disconnected("the connection was closed")
            if self._pumping:
                # The pump closes when it is out of poll: a descriptor in use must not be given to somebody else.
                os.eventfd_write(self._wake_fd, 1)
            else:
                self._close()
            self._changed.notify_all()

    def _close(self) -> None:
        self._socket.close()
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self.session.closed is not None

    def flush(self) -> None:
        """Write what the socket takes; the rest goes when somebody waits. The caller holds the lock."""
        outgoing = self.session.outgoing
        if self.session.closed is not None:
            outgoing.clear()
            return
        while outgoing and self.session.connected:
            try:
                sent = self._socket.send(outgoing)
            except BlockingIOError:
                if self._pumping:
                    os.eventfd_write(self._wake_fd, 1)
                return
            except OSError:
                # The head's last words may still be there to be read: the pump finds out that it is gone.
                outgoing.clear()
                return
            del outgoing[:sent]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Pump until `condition` holds; return False if time ran out. The caller holds the lock, and has it afterwards.

        Raises
        ------
        RequestError
            If the connection ends before.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        self.flush()
        expired = False
        while not condition():
            if self.session.closed is not None:
                raise self.session.closed
            if expired:
                return False
            # Even with no time at all, what has arrived already is looked at once.
            remaining_s = None if deadline is None else max(0.0, deadline - monotonic())
            expired = remaining_s == 0
            if self._pumping:
                self._changed.wait(remaining_s)
            else:
                self._pump(remaining_s)
        return True

    def _pump(self, timeout_s: float | None) -> None:
        poller = poll()
        if self.session.connected:
            poller.register(self._socket, POLLIN | (POLLOUT if self.session.outgoing else 0))
        elif self._search is not None:
            search_s = max(0.0, self._search.next_at - monotonic())
            timeout_s = search_s if timeout_s is None else min(search_s, timeout_s)
        poller.register(self._wake_fd, POLLIN)
        self._pumping = True
        self.lock.release()
        ready: list[tuple[int, int]] = []
        try:
            ready = poller.poll(None if timeout_s is None else ceil(timeout_s * 1000))
        finally:
            self.lock.acquire()
            self._pumping = False
            # Whatever came, and even if we were interrupted: another one must pump, or look again.
            self._changed.notify_all()
            if self.session.closed is not None:
                self._close()
        if self.session.closed is not None:
            return
        if any(fd == self._wake_fd for fd, _ in ready):
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        if any(fd == self._socket.fileno() and events & ~POLLOUT for fd, events in ready):
            self._receive()
        if self._search is not None:
            self._look_for_head(self._search)
        self.flush()

    def _look_for_head(self, search: HeadSearch) -> None:
        if self.session.connected:
            if self.session.greeted:
                self._search = None
        elif monotonic() >= search.next_at and self.session.closed is None:
            try:
                connection = search.attempt()
            except RequestError as error:
                self.session.disconnected(f"the connection to the head is gone: {error.message}")
                self._close()
                return
            if connection is not None:
                connection.setblocking(False)
                self._socket = connection
                self.session.reconnected()

    def spawn(self, fields: dict[str, Any]) -> JobState:
        """Queue a launch. The caller holds the lock."""
        return self.session.spawn(now_ms(), **fields)

    def notice(self) -> None:
        """Take in what has arrived already, the end of the connection above all. The caller holds the lock."""
        self.wait_until(lambda: False, 0)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._socket.close()
            self.session.connection_lost()
            if self._search is None:
                self._search = HeadSearch(self._directory, self._cluster_mark, self._reconnect_timeout_s)
            return
        try:
            events = self.session.receive(data, now_ms())
        except ProtocolError:
            self._close()
            raise
        for event in events:
            if isinstance(event, NewOutput):
                self._on_output(event)
        if self.session.closed is not None:
            self._close()

    def answer(self, request: Request, timeout_s: float | None = None) -> Request:
        """Wait for the answer to a request. The caller holds the lock.

        Raises
        ------
        RequestError
            What the head refused it with.
        TimeoutError
            If the head says nothing for so long.
        """
        if not self.wait_until(lambda: request.finished, timeout_s):
            raise TimeoutError("the head did not answer in time")
        if request.error is not None:
            raise request.error
        return request
