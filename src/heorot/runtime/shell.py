"""Runs one machine: feeds it events one at a time and carries its instructions out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from heorot.core.errors import HeorotError
from heorot.core.machine import (
    CloseClient,
    CloseLink,
    Connect,
    FromClient,
    HeadEvent,
    Instruction,
    Kept,
    Log,
    NodeEvent,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    Stop,
    TimerFired,
    ToClient,
    ToSpace,
)
from heorot.core.timers import Due
from heorot.runtime.clients import Clients
from heorot.runtime.images import Images
from heorot.runtime.links import Links
from heorot.runtime.log import LogFile as LogFile
from heorot.runtime.loop import Loop
from heorot.runtime.timers import Timers


class Machine(Protocol):
    """What a shell can run. The shell gives a machine only the events that it knows."""

    def start(self, now_ms: int) -> list[Instruction]:
        """Return what is to be done at first."""

    def handle(self, event: Any, now_ms: int) -> list[Instruction]:
        """Take an event at a time, and return what is to be done."""


class Shell:
    """The hands of a machine.

    A HeorotError that a neighbour's or client's message provokes closes that link or client, and so does an
    unexpected error while one is handled. An assertion that fails is different: the machine's state is wrong, and the
    daemon ends (its supervisor starts another, which takes the truth from the nodes).
    """

    def __init__(self, loop: Loop, log: LogFile) -> None:
        self._loop = loop
        self._log = log
        self._machine: Machine | None = None
        self._links: Links | None = None
        self._clients: Clients | None = None
        self._timers: Timers[Due] = Timers(loop, lambda key: self.feed(TimerFired(key)))
        self._events: deque[NodeEvent | HeadEvent] = deque()
        self._busy = False
        self.stopped: str | None = None
        """Why the machine wants the daemon to end."""
        self._to_space: Callable[[bytes, str], None] | None = None
        self._remember: Callable[[Remember], str] | None = None
        self._hands: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            SendEncoded: self._send_encoded,
            CloseLink: self._close_link,
            Connect: self._connect,
            SetTimer: self._set_timer,
            ToSpace: self._space,
            Remember: self._keep,
            ToClient: self._client,
            CloseClient: self._close_client,
            Log: self._say,
            Stop: self._stop,
        }

    def attach(
        self,
        machine: Machine,
        links: Links,
        *,
        clients: Clients | None = None,
        to_space: Callable[[bytes, str], None] | None = None,
        remember: Callable[[Remember], str] | None = None,
        images: Images | None = None,
    ) -> None:
        """Say what the shell works with; then `start`. `remember` returns what went wrong, empty if nothing did."""
        if images is not None:
            images.attach(links)
            self._hands |= images.hands
        self._machine = machine
        self._links = links
        self._clients = clients
        self._to_space = to_space
        self._remember = remember

    def now_ms(self) -> int:
        """The machine's time."""
        return int(self._loop.time() * 1000)

    def start(self) -> None:
        """Let the machine begin."""
        assert self._machine is not None
        self._busy = True
        try:
            self._carry_out(self._machine.start(self.now_ms()))
        finally:
            self._busy = False
        self._drain()

    def feed(self, event: NodeEvent | HeadEvent) -> None:
        """Give the machine an event, after those that wait."""
        self._events.append(event)
        if not self._busy:
            self._drain()

    def _drain(self) -> None:
        machine = self._machine
        assert machine is not None
        events = self._events
        self._busy = True
        try:
            while events and self.stopped is None:
                event = events.popleft()
                try:
                    instructions = machine.handle(event, int(self._loop.time() * 1000))
                except AssertionError:
                    raise
                except Exception as error:
                    self._refuse(event, error)
                    continue
                self._carry_out(instructions)
        finally:
            self._busy = False

    def _carry_out(self, instructions: list[Instruction]) -> None:
        hands = self._hands
        for instruction in instructions:
            hands[type(instruction)](instruction)

    def _refuse(self, event: NodeEvent | HeadEvent, error: Exception) -> None:
        if type(event) is Received and self._links is not None:
            self._explain(error, f"{type(event.message).__name__} on link {event.link}")
            self._links.fail_link(event.link, str(error) or type(error).__name__)
        elif type(event) is FromClient and self._clients is not None:
            self._explain(error, f"{type(event.message).__name__} of client {event.client}")
            self._clients.fail_client(event.client, str(error) or type(error).__name__)
        else:
            raise error

    def _explain(self, error: Exception, what: str) -> None:
        if not isinstance(error, HeorotError):
            self._log.exception(f"an unexpected error while handling {what}")

    # ------------------------------------------------------------------ the instructions

    def _send(self, instruction: Send) -> None:
        assert self._links is not None
        self._links.send(instruction.link, instruction.message, instruction.bulk, instruction.newest_of)

    def _send_encoded(self, instruction: SendEncoded) -> None:
        assert self._links is not None
        self._links.send_encoded(instruction.link, instruction.payload)

    def _close_link(self, instruction: CloseLink) -> None:
        assert self._links is not None
        self._links.close_link(instruction.link, instruction.reason)

    def _connect(self, instruction: Connect) -> None:
        assert self._links is not None
        self._links.connect(
            instruction.key, instruction.host, instruction.port, instruction.timeout_ms, instruction.passed_on
        )

    def _set_timer(self, instruction: SetTimer) -> None:
        self._timers.set(instruction.key, instruction.at_ms)

    def _space(self, instruction: ToSpace) -> None:
        assert self._to_space is not None
        self._to_space(instruction.payload, instruction.newest_of)

    def _keep(self, instruction: Remember) -> None:
        assert self._remember is not None
        error = self._remember(instruction)
        if instruction.durable:
            self.feed(Kept(instruction.name, instruction.value, error))

    def _client(self, instruction: ToClient) -> None:
        assert self._clients is not None
        self._clients.send(instruction.client, instruction.message)

    def _close_client(self, instruction: CloseClient) -> None:
        assert self._clients is not None
        self._clients.close_client(instruction.client)

    def _say(self, instruction: Log) -> None:
        self._log(instruction.level, instruction.text)

    def _stop(self, instruction: Stop) -> None:
        self.stopped = instruction.reason
        self._loop.stop()
