"""Runs one machine: feeds it events one at a time and carries its instructions out in order.

What each instruction wants, and what comes back of it, is said in `heorot.core.shells`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from heorot.core.dispatch import Dispatch
from heorot.core.errors import HeorotError
from heorot.core.machine import (
    CloseClient,
    CloseLink,
    Connect,
    FromClient,
    HeadEvent,
    HeadInstruction,
    Kept,
    Log,
    NodeEvent,
    NodeInstruction,
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
from heorot.core.shells import CacheByPart, HeadShell, LinkShell, NodeShell
from heorot.core.timers import Due
from heorot.core.wire.events import KeepEvents, TellSite
from heorot.core.wire.wishes import KeepWishes, Prepare
from heorot.runtime.clients import Clients
from heorot.runtime.images import Images
from heorot.runtime.links import Links
from heorot.runtime.log import LogFile as LogFile
from heorot.runtime.loop import Loop
from heorot.runtime.timers import Timers

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Machine(Protocol[Item_co]):
    """What a shell can run. The shell gives a machine only the events that it knows."""

    def start(self, now_ms: int) -> Iterable[Item_co]:
        """Return what is to be done at first."""

    def handle(self, event: Any, now_ms: int) -> Iterable[Item_co]:
        """Take an event at a time, and return what is to be done."""


class DaemonShell(LinkShell, Dispatch[Item]):
    """The hands of a machine.

    A HeorotError that a neighbour's or client's message provokes closes that link or client, and so does an
    unexpected error while one is handled. An assertion that fails is different: the machine's state is wrong, and the
    daemon ends (its supervisor starts another, which takes the truth from the nodes).
    """

    def __init__(self, loop: Loop, log: LogFile) -> None:
        self._loop = loop
        self._log = log
        self._machine: Machine[Item]
        self._links: Links
        self._timers: Timers[Due] = Timers(loop, lambda key: self.feed(TimerFired(key)))
        self._events: deque[NodeEvent | HeadEvent] = deque()
        self._busy = False
        self.stopped: str | None = None
        """Why the machine wants the daemon to end."""

    def now_ms(self) -> int:
        """The machine's time."""
        return int(self._loop.time() * 1000)

    def start(self) -> None:
        """Let the machine begin."""
        self._busy = True
        try:
            self.carry_out(self._machine.start(self.now_ms()))
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
                self.carry_out(instructions)
        finally:
            self._busy = False

    def _refuse(self, event: NodeEvent | HeadEvent, error: Exception) -> None:
        if type(event) is not Received:
            raise error
        self._explain(error, f"{type(event.message).__name__} on link {event.link}")
        self._links.fail_link(event.link, str(error) or type(error).__name__)

    def _explain(self, error: Exception, what: str) -> None:
        if not isinstance(error, HeorotError):
            self._log.exception(f"an unexpected error while handling {what}")

    # ------------------------------------------------------------------ the instructions

    def send(self, item: Send) -> None:
        """Queue it on the link."""
        self._links.send(item.link, item.message, item.bulk, item.newest_of)

    def close_link(self, item: CloseLink) -> None:
        """Let go of the link, which ends as soon as its queue is empty."""
        self._links.close_link(item.link, item.reason)

    def connect(self, item: Connect) -> None:
        """Dial."""
        self._links.connect(item.key, item.host, item.port, item.timeout_ms, item.passed_on)

    def set_timer(self, item: SetTimer) -> None:
        """Set it in the loop."""
        self._timers.set(item.key, item.at_ms)

    def log(self, item: Log) -> None:
        """Write a line into the daemon's log; if a neighbour can bring it about again and again, once in a while."""
        if item.link and item.level == "warning":
            self._links.warn_of(item.link, item.why, item.text)
        else:
            self._log(item.level, item.text)

    def stop(self, item: Stop) -> None:
        """Leave the loop."""
        self.stopped = item.reason
        self._loop.stop()


class HeadDaemonShell(CacheByPart, DaemonShell[HeadInstruction], HeadShell):
    """The hands of a head."""

    def attach(
        self,
        machine: Machine[HeadInstruction],
        links: Links,
        clients: Clients,
        images: Images,
        keep_wishes: Callable[[KeepWishes], None],
        prepare: Callable[[Prepare], None],
        keep_events: Callable[[KeepEvents], None],
        tell_site: Callable[[TellSite], None],
    ) -> None:
        """Say what the shell works with; then `start`. The others do what is said there, and feed the answers."""
        images.attach(links)
        self._machine = machine
        self._links = links
        self._clients = clients
        self.cache = images
        self._keep_wishes = keep_wishes
        self._prepare = prepare
        self._keep_events = keep_events
        self._tell_site = tell_site

    def _refuse(self, event: NodeEvent | HeadEvent, error: Exception) -> None:
        if type(event) is not FromClient:
            super()._refuse(event, error)
            return
        self._explain(error, f"{type(event.message).__name__} of client {event.client}")
        self._clients.fail_client(event.client, str(error) or type(error).__name__)

    def to_client(self, item: ToClient) -> None:
        """Queue it for the client."""
        self._clients.send(item.client, item.message)

    def close_client(self, item: CloseClient) -> None:
        """Let go of the client, whose connection ends as soon as its queue is empty."""
        self._clients.close_client(item.client)

    def keep_wishes(self, item: KeepWishes) -> None:
        """Write them down, and have them shared."""
        self._keep_wishes(item)

    def prepare(self, item: Prepare) -> None:
        """Run the site's script."""
        self._prepare(item)

    def keep_events(self, item: KeepEvents) -> None:
        """Write them down."""
        self._keep_events(item)

    def tell_site(self, item: TellSite) -> None:
        """Run the site's hook."""
        self._tell_site(item)


class NodeDaemonShell(CacheByPart, DaemonShell[NodeInstruction], NodeShell):
    """The hands of a node's agent."""

    def attach(
        self,
        machine: Machine[NodeInstruction],
        links: Links,
        images: Images,
        *,
        to_space: Callable[[bytes, str], None],
        remember: Callable[[Remember], str],
    ) -> None:
        """Say what the shell works with; then `start`. `remember` returns what went wrong, empty if nothing did."""
        images.attach(links)
        self._machine = machine
        self._links = links
        self.cache = images
        self._to_space = to_space
        self._remember = remember

    def send_encoded(self, item: SendEncoded) -> None:
        """Queue it on the link."""
        self._links.send_encoded(item.link, item.payload)

    def to_space(self, item: ToSpace) -> None:
        """Queue it for bpinit."""
        self._to_space(item.payload, item.newest_of)

    def remember(self, item: Remember) -> None:
        """Write it into a file; what must survive a power cut is there when this returns."""
        error = self._remember(item)
        if item.durable:
            self.feed(Kept(item.name, item.value, error))
