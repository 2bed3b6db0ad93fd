"""Carries out flows for threads: several may share a connection, which has no thread of its own.

Whoever waits for something reads from the connection meanwhile, for all: one thread at a time pumps, the others wait
for it to tell them that something has changed, and one of them takes over when the pump has what it wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from select import POLLIN, poll
from threading import Condition, Lock
from time import monotonic
from typing import Any, TypeVar

from heorot.client.connection import Connection
from heorot.client.flow import Aside, Flow, Step, Until
from heorot.core.client import messages
from heorot.core.client.session import Session

T = TypeVar("T")

# A program that uses the library runs longer than a command: the import is worth it.
messages.use_compiled()


class ThreadRunner:
    """The connection, and the lock that guards it and its session.

    Parameters
    ----------
    received:
        Called with what has happened to jobs, under the lock.
    reconnect_timeout_s:
        How long to look for another head when one is lost; None: as long as the cluster is there.

    Raises
    ------
    RequestError
        If there is no cluster, or no head.
    """

    def __init__(
        self,
        directory: str,
        session: Session,
        received: Callable[[list[Any]], object],
        reconnect_timeout_s: float | None,
    ) -> None:
        self._session = session
        self._received = received
        self._connection = Connection(directory, session, reconnect_timeout_s)
        self._connection.reach()
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._pumping = False
        # Wakes the pump when another thread has more to send than the socket takes, or closes.
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def run(self, flow: Flow[T]) -> T:
        """Carry a flow out, waiting where it waits."""
        with self._lock:
            try:
                step = next(flow)
                while True:
                    try:
                        held = self._carry_out(step)
                    except BaseException as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(held)
            except StopIteration as end:
                value: T = end.value
                return value
            finally:
                self._flush()

    def close(self) -> None:
        """Close the connection; whoever waits gets an error."""
        with self._lock:
            if self._pumping:
                # The pump closes when it is out of poll: a descriptor in use must not be given to somebody else.
                self._connection.flush()
                self._session.disconnected("the connection was closed")
                os.eventfd_write(self._wake_fd, 1)
            else:
                self._close()
            self._changed.notify_all()

    def _close(self) -> None:
        self._connection.close()
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _flush(self) -> None:
        self._connection.flush()
        if self._session.outgoing and self._pumping:
            os.eventfd_write(self._wake_fd, 1)

    def _carry_out(self, step: Step) -> bool:
        if not isinstance(step, Aside):
            return self._wait(step)
        self._flush()
        self._lock.release()
        try:
            step.action()
        finally:
            self._lock.acquire()
        return True

    def _wait(self, until: Until) -> bool:
        deadline = None if until.timeout_s is None else monotonic() + until.timeout_s
        self._flush()
        expired = False
        while not until.condition():
            if self._session.closed is not None:
                raise self._session.closed
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
        head_fd, due_at = self._connection.fileno(), self._connection.due_at
        if head_fd >= 0:
            poller.register(head_fd, self._connection.events)
        if due_at is not None:
            due_s = max(0.0, due_at - monotonic())
            timeout_s = due_s if timeout_s is None else min(due_s, timeout_s)
        poller.register(self._wake_fd, POLLIN)
        self._pumping = True
        self._lock.release()
        ready: dict[int, int] = {}
        try:
            ready = dict(poller.poll(None if timeout_s is None else ceil(timeout_s * 1000)))
        finally:
            self._lock.acquire()
            self._pumping = False
            # Whatever came, and even if we were interrupted: another one must pump, or look again.
            self._changed.notify_all()
            if self._session.closed is not None:
                self._close()
        if self._session.closed is not None:
            return
        if self._wake_fd in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        self._received(self._connection.serve(ready.get(head_fd, 0)))
        if self._session.closed is not None:
            self._close()
