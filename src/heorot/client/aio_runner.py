"""Carries out flows on an event loop, which reads what comes for the connection at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from heorot.client.connection import READABLE, WRITABLE, Connection
from heorot.client.flow import Aside, Flow, Step, Until
from heorot.core.client import messages
from heorot.core.client.session import Session

T = TypeVar("T")

# As in heorot.client.runner.
messages.use_compiled()


class AioRunner:
    """The connection, served by the event loop that runs when it is opened. See `heorot.client.runner.ThreadRunner`."""

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
        self._connection.before_close = self._unwatch
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()
        self._watched = 0
        """For which events the loop waits."""
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect. Raises RequestError if there is no cluster, or no head."""
        while not self._connection.open():
            await asyncio.sleep(max(0.0, (self._connection.due_at or 0.0) - monotonic()))
        self._watch()

    async def run(self, flow: Flow[T]) -> T:
        """Carry a flow out, waiting where it waits. To be cancelled is an error that is raised there."""
        try:
            step = next(flow)
            while True:
                try:
                    held = await self._carry_out(step)
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
        self._connection.close()
        self._watch()
        self._changed()

    async def _carry_out(self, step: Step) -> bool:
        if isinstance(step, Aside):
            step.action()
            return True
        return await self._wait(step)

    async def _wait(self, until: Until) -> bool:
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
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait((waiter,), timeout=remaining_s)
            finally:
                self._waiters.discard(waiter)
        return True

    def _serve(self, ready: int) -> None:
        self._received(self._connection.serve(ready))
        self._watch()
        self._changed()

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _flush(self) -> None:
        self._connection.flush()
        self._watch()

    # -------------------------------------------------- what the event loop waits for

    def _watch(self) -> None:
        fd, due_at = self._connection.fileno(), self._connection.due_at
        if fd >= 0:
            wanted = self._connection.events
            if not self._watched:
                self._loop.add_reader(fd, self._serve, READABLE)
            if wanted & WRITABLE and not self._watched & WRITABLE:
                self._loop.add_writer(fd, self._serve, WRITABLE)
            elif self._watched & WRITABLE and not wanted & WRITABLE:
                self._loop.remove_writer(fd)
            self._watched = wanted
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_at is not None:
            self._timer = self._loop.call_later(max(0.0, due_at - monotonic()), self._serve, 0)

    def _unwatch(self, fd: int) -> None:
        if self._watched:
            self._loop.remove_reader(fd)
            if self._watched & WRITABLE:
                self._loop.remove_writer(fd)
            self._watched = 0
