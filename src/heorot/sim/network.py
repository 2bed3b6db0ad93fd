"""The virtual network: connections that deliver in order, late, or not at all.

A connection has two lanes in each direction, as the real send queue has: what is *bulk* waits for everything else, so
that other messages may overtake it, and never the other way round. Whatever is in flight when a connection is cut is
lost, and each end notices the cut in its own time, or by silence only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from heorot.sim.world import World

LATE_CLOSE_US = (200_000, 3_000_000)
Received: TypeAlias = Callable[["End", bytes], None]
Closed: TypeAlias = Callable[["End", str], None]


class Link:
    """A connection; `alive` until it is cut or both ends are closed."""

    __slots__ = ("alive", "delay_us", "held_until_us", "left", "name", "random", "right", "us_per_kib")

    def __init__(self, name: str, delay_us: tuple[int, int], us_per_kib: int, random: Random) -> None:
        self.name = name
        self.random = random
        self.delay_us = delay_us
        self.us_per_kib = us_per_kib
        self.alive = True
        self.held_until_us = 0
        """Nothing that is sent before this time arrives before it."""
        self.left: End
        self.right: End


class End:
    """One end of a connection, as its owner knows it: by number."""

    __slots__ = (
        "bulk_us", "control_us", "host", "in_flight_bytes", "link", "number", "on_closed", "on_received", "open",
    )  # fmt: skip

    def __init__(self, number: int, link: Link, on_received: Received, on_closed: Closed) -> None:
        self.number = number
        self.link = link
        self.host = ""
        """Where it is; empty: the link is inside of one host."""
        self.open = True
        self.on_received = on_received
        self.on_closed = on_closed
        self.control_us = 0
        """When the last message of this lane arrives here."""
        self.bulk_us = 0
        self.in_flight_bytes = 0
        """On their way to this end."""

    @property
    def other(self) -> End:
        """The far end."""
        return self.link.right if self is self.link.left else self.link.left


class Listener(Protocol):
    """Who can be connected to."""

    def reachable(self) -> bool:
        """Say whether packets arrive at all."""

    def accept(self, peer: int, link: Link) -> End | None:
        """Take a connection from this node; None: nobody listens."""

    def passes_to(self) -> str:
        """Return the host to which this one passes connections on; empty: none."""


@dataclass(slots=True)
class Attempt:
    """A connection that is being made."""

    key: str
    peer: int
    deadline_us: int
    on_opened: Callable[[Attempt, End, int], bool]
    """Called with the new end and the listener's number; returns False if nobody wants it any more."""
    on_failed: Callable[[Attempt, str], None]
    on_received: Received
    on_closed: Closed
    passed_on: bool = False
    """A head on standby is to pass it on."""
    source: str = ""
    """The head that connects; empty: the node `peer`."""

    @property
    def host(self) -> str:
        """From where it comes."""
        return self.source or f"n{self.peer}"


class Network:
    """Makes, delays and cuts connections. `links` are those that may still deliver something, in order of creation."""

    def __init__(self, world: World, delay_us: tuple[int, int], us_per_kib: int, refuse_rate: float) -> None:
        self.world = world
        self.delay_us = delay_us
        self.us_per_kib = us_per_kib
        self.refuse_rate = refuse_rate
        self.late_close_rate = 0.0
        self.listeners: dict[str, tuple[int, Listener]] = {}
        self.links: dict[int, Link] = {}
        self.delivered = 0
        self._walls: dict[tuple[str, str], int] = {}
        """By source and destination: nothing passes before this time."""
        self._numbers = 0
        self._between_heads = Random(f"between heads {world.seed}")
        """What heads say to each other has chances of its own: the rest of a run does not depend on it."""

    def number(self) -> int:
        """Return a number that was never used before."""
        self._numbers += 1
        return self._numbers

    def pair(
        self,
        name: str,
        left: tuple[Received, Closed],
        right: tuple[Received, Closed],
        delay_us: tuple[int, int] | None = None,
        us_per_kib: int | None = None,
    ) -> Link:
        """Return a new connection."""
        link = Link(
            name, delay_us or self.delay_us, self.us_per_kib if us_per_kib is None else us_per_kib, self.world.random
        )
        link.left = End(self.number(), link, *left)
        link.right = End(self.number(), link, *right)
        return link

    # ------------------------------------------------------------------ walls

    def block(self, source: str, to: str, for_us: int) -> None:
        """Let nothing pass in this direction for a while."""
        until_us = self.world.now_us + for_us
        self._walls[source, to] = max(until_us, self._walls.get((source, to), 0))

    def unblock(self) -> None:
        """Tear all walls down; what waits behind them is on its way."""
        self._walls.clear()

    def blocked_until(self, source: str, to: str) -> int:
        """Return when something can pass in this direction, 0 if it can now."""
        return self._walls.get((source, to), 0) if self._walls else 0

    # ------------------------------------------------------------------ connecting

    def connect(self, host: str, attempt: Attempt, timeout_ms: int, reachable: bool) -> None:
        """Try to connect; one of the attempt's callbacks is called within the timeout."""
        world = self.world
        attempt.deadline_us = world.now_us + timeout_ms * 1000
        may_fail = self.refuse_rate and not attempt.source
        if not reachable or (may_fail and world.chance(self.refuse_rate)):
            if not reachable or world.chance(0.3):
                world.at(attempt.deadline_us, attempt.on_failed, attempt, "timeout")
            else:
                world.after(world.between(*self.delay_us), attempt.on_failed, attempt, "reset")
            return
        world.after(_between(self._random_of(attempt), self.delay_us) * 2, self._arrive, host, attempt)

    def _random_of(self, attempt: Attempt) -> Random:
        return self._between_heads if attempt.source else self.world.random

    def _arrive(self, host: str, attempt: Attempt) -> None:
        world = self.world
        number, listener = self.listeners[host]
        source = attempt.host
        blocked_us = max(self.blocked_until(source, host), self.blocked_until(host, source))
        if not listener.reachable() or blocked_us > world.now_us:
            world.at(attempt.deadline_us, attempt.on_failed, attempt, "timeout")
            return
        if attempt.passed_on:
            host = listener.passes_to() or host
            number, listener = self.listeners[host]
            if not listener.reachable():
                world.at(attempt.deadline_us, attempt.on_failed, attempt, "timeout")
                return
        random = self._random_of(attempt)
        link = Link(f"{source}-{host}", self.delay_us, self.us_per_kib, random)
        link.left = End(self.number(), link, attempt.on_received, attempt.on_closed)
        link.left.open = False
        accepted = listener.accept(attempt.peer, link)
        if accepted is None:
            world.after(_between(random, self.delay_us), attempt.on_failed, attempt, "refused")
            return
        link.right = accepted
        link.left.host, link.right.host = source, host
        self.links[accepted.number] = link
        world.after(_between(random, self.delay_us), self._opened, attempt, link, number)

    def _opened(self, attempt: Attempt, link: Link, number: int) -> None:
        if not link.alive or not link.right.open:
            attempt.on_failed(attempt, "reset")
            return
        link.left.open = True
        if self.world.now_us > attempt.deadline_us:
            attempt.on_failed(attempt, "timeout")
            self.close(link.left)
        elif not attempt.on_opened(attempt, link.left, number):
            self.close(link.left)

    # ------------------------------------------------------------------ carrying

    def send(self, end: End, payload: bytes, bulk: bool = False) -> None:
        """Send to the far end."""
        link = end.link
        if not (end.open and link.alive):
            return
        world, to = self.world, end.other
        low, high = link.delay_us
        at_us = world.now_us + low + int(link.random.random() * (high - low + 1))
        if at_us < link.held_until_us:
            at_us = link.held_until_us
        if self._walls and end.host:
            at_us = max(at_us, self.blocked_until(end.host, to.host))
        if bulk:
            at_us = max(at_us, to.control_us, to.bulk_us) + len(payload) * link.us_per_kib // 1024
            to.bulk_us = at_us
        else:
            at_us = max(at_us, to.control_us)
            to.control_us = at_us
        to.in_flight_bytes += len(payload)
        world.at(at_us, self._deliver, to, payload)

    def _deliver(self, to: End, payload: bytes) -> None:
        to.in_flight_bytes -= len(payload)
        if to.open and to.link.alive:
            self.delivered += 1
            to.on_received(to, payload)

    # ------------------------------------------------------------------ ending

    def close(self, end: End, reason: str = "closed by the peer") -> None:
        """Close: what was sent before still arrives, then the far end hears of it."""
        if not end.open:
            return
        end.open = False
        to = end.other
        self._forget(end.link)
        if end.link.alive and to.open:
            at_us = max(to.control_us, to.bulk_us, self.world.now_us + _between(end.link.random, end.link.delay_us))
            at_us = max(at_us, self.blocked_until(end.host, to.host))
            if self.late_close_rate and end.host and self.world.chance(self.late_close_rate):
                # The packet was lost, and is sent again after a time-out.
                at_us += self.world.between(*LATE_CLOSE_US)
            self.world.at(at_us, self._notice, to, reason)

    def cut(self, link: Link, notice_us: tuple[int | None, int | None]) -> None:
        """Cut: what is in flight is lost. Each end notices after its time, or never (None)."""
        if not link.alive:
            return
        link.alive = False
        self._forget(link)
        for end, after_us in ((link.left, notice_us[0]), (link.right, notice_us[1])):
            if after_us is not None:
                self.world.after(after_us, self._notice, end, "reset by the peer")

    def _notice(self, end: End, reason: str) -> None:
        if end.open:
            end.open = False
            self._forget(end.link)
            end.on_closed(end, reason)

    def _forget(self, link: Link) -> None:
        self.links.pop(link.right.number, None)


def _between(random: Random, of_us: tuple[int, int]) -> int:
    low, high = of_us
    return low + int(random.random() * (high - low + 1))
