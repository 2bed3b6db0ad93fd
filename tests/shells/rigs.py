"""What every shell can be asked: to do what a machine of a few lines says, beside neighbours, clients and a cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from heorot.core.machine import LinkClosed, LinkOpened, Received, Send, TimerFired
from heorot.core.timers import Due
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.images import VirtualImage

HELLO = m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, "test", 1, 1, "0")
IMAGE = VirtualImage(Random(7), False)


class Poke(Due, frozen=True, gc=False):
    """The rig wants something done."""

    number: int


class Scripted:
    """A machine that says what it was told to say, and keeps what it is told."""

    epoch = 0

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.times_ms: list[int] = []
        self.pokes: list[list[Any]] = []
        self.poked = 0
        self._carried_out = True

    def start(self, now_ms: int) -> list[Any]:
        """Say nothing."""
        return []

    def handle(self, event: Any, now_ms: int) -> Iterator[Any]:
        """Keep an event; if it is a poke, say what is wanted."""
        assert self._carried_out, f"told of {event} before all that it has said was carried out"
        poke = event.key if type(event) is TimerFired else event
        if isinstance(poke, Poke):
            self.poked = poke.number + 1
            return self._say(self.pokes[poke.number])
        self.events.append(event)
        self.times_ms.append(now_ms)
        return self._say(())

    def _say(self, items: Iterable[Any]) -> Iterator[Any]:
        self._carried_out = False
        yield from items
        self._carried_out = True

    def of(self, *kinds: type) -> list[Any]:
        """Return the events of these kinds."""
        return [event for event in self.events if type(event) in kinds]

    def of_link(self, link: int) -> list[Any]:
        """Return what it was told of a link after its opening and greeting."""
        told = [event for event in self.of(Received, LinkClosed) if event.link == link]
        return [event for event in told if getattr(event, "message", None) != HELLO]


class Neighbour(ABC):
    """The other end of a link."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.connected = False
        self.ended = False

    @abstractmethod
    def say(self, message: m.LinkMessage) -> None:
        """Send a message."""

    @abstractmethod
    def close(self) -> None:
        """Close the link, after what was said."""


class Client(ABC):
    """A client of a head."""

    def __init__(self) -> None:
        self.received: list[str] = []
        """The releases of the heads that have welcomed it."""
        self.ended = False

    @abstractmethod
    def say(self, request: int) -> None:
        """Send `ShowStatus` with this number."""

    @abstractmethod
    def close(self) -> None:
        """Leave, after what was said."""


class Rig(ABC):
    """A shell around a scripted machine."""

    is_head = False

    def __init__(self) -> None:
        self.machine = Scripted()

    def do(self, *items: Any) -> None:
        """Let the machine say this in one turn."""
        self.machine.pokes.append(list(items))
        self.feed(TimerFired(Poke(len(self.machine.pokes) - 1)))

    def neighbour(self) -> tuple[int, Neighbour]:
        """Let a neighbour connect and greet; return the number of its link."""
        before = len(self.machine.of(LinkOpened))
        made = self.connect()
        self.until(lambda: made.connected and len(self.machine.of(LinkOpened)) > before)
        link: int = self.machine.of(LinkOpened)[-1].link
        made.say(HELLO)
        self.until(lambda: Received(link, HELLO) in self.machine.events)
        self.do(Send(link, HELLO))
        self.until(lambda: made.received)
        made.received.clear()
        return link, made

    @abstractmethod
    def feed(self, event: Any) -> None:
        """Give the shell an event for its machine."""

    @abstractmethod
    def now_ms(self) -> int:
        """Return the machine's time."""

    @abstractmethod
    def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until this is true."""

    @abstractmethod
    def settle(self) -> None:
        """Let time pass until whatever is on its way has come."""

    @abstractmethod
    def connect(self) -> Neighbour:
        """Let a neighbour connect."""

    @abstractmethod
    def listening(self) -> tuple[Neighbour, str, int]:
        """Return a neighbour that listens, and where."""

    @abstractmethod
    def nobody(self) -> tuple[str, int]:
        """Return where nobody listens."""

    def client(self) -> Client:
        """Let a client connect."""
        raise NotImplementedError

    def restarted(self, name: str) -> bytes:
        """Return what the next machine of this node is given back under this name."""
        raise NotImplementedError

    def fill_disk(self) -> None:
        """Let there be no room for an image any more."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""


def word(number: int) -> m.LinkMessage:
    """Return a message that is like no other."""
    return m.Up(1, b"%d" % number)


def welcome(number: int) -> c.Welcome:
    """Return an answer to a client that is like no other."""
    return c.Welcome(c.CLIENT_PROTOCOL_VERSION, f"{number}", "h0", 1)
