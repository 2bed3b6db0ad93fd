"""A simulated cluster in which nothing is left to chance, and no message moves before somebody says so.

The hosts are the simulator's, and so are the machines in them, the real ones. What is different is what they stand in:
a world without chance, and a network that keeps what is sent until it is delivered by name, or *flows* for a while,
each hop in a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import msgspec

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.network import End, Link, Network
from heorot.sim.world import World

HOP_US = 1_000
FOREVER_US = 1 << 60
Heard: TypeAlias = Callable[[str, str, object], None]
"""Gets source, destination and message of each delivery."""
Happened: TypeAlias = Callable[[str, str, tuple[Any, ...]], None]
"""Gets who tells something, a %-format and its arguments."""
_from_head = msgspec.msgpack.Decoder(c.HeadMessage)


class Never(Random):
    """The least that chance can give."""

    def random(self) -> float:
        """Return zero."""
        return 0.0


class StillWorld(World):
    """Virtual time without chance: whatever may happen does not, and everything takes as long as it does at least."""

    def __init__(self, happened: Happened) -> None:
        super().__init__(0)
        self.random = Never(0)
        self._happened = happened

    def between(self, low: int, high: int) -> int:
        """Return the least."""
        return low

    def chance(self, probability: float) -> bool:
        """Return whether it is certain."""
        return probability >= 1

    def _keep(self, who: str, text: str, args: tuple[Any, ...]) -> None:
        super()._keep(who, text, args)
        self._happened(who, text, args)


@dataclass(slots=True, eq=False)
class Flight:
    """What is on its way to an end: a message, or the word that the other end was closed."""

    to: End
    payload: bytes
    closed: str
    due_us: int


class StillNetwork(Network):
    """See the module. What is inside of one host flows all the time."""

    def __init__(self, world: StillWorld, heard: Heard) -> None:
        super().__init__(world, (HOP_US, HOP_US), 0, 0.0)
        self.flowing = False
        self.asleep: set[str] = set()
        """Hosts and agents that take nothing."""
        self._heard = heard
        self._flights: list[Flight] = []
        self._cut: set[tuple[str, str]] = set()
        """By source and destination: nothing passes."""

    # ------------------------------------------------------------------ what is sent

    def send(self, end: End, payload: bytes, bulk: bool = False) -> None:
        """Keep a message until it is delivered; what waits for bulk elsewhere keeps its turn here."""
        if not end.host:
            super().send(end, payload, bulk)
        elif end.open and end.link.alive:
            self._put(Flight(end.other, payload, "", self.world.now_us + HOP_US))

    def close(self, end: End, reason: str = "closed by the peer") -> None:
        """Close: what was sent before arrives first."""
        if not end.host:
            super().close(end, reason)
        elif end.open:
            end.open = False
            self._forget(end.link)
            if end.link.alive and end.other.open:
                self._put(Flight(end.other, b"", reason, self.world.now_us + HOP_US))

    def _put(self, flight: Flight) -> None:
        self._flights.append(flight)
        if self.flowing:
            self.world.at(flight.due_us, self._fly)

    def blocked_until(self, source: str, to: str) -> int:
        """Return when something can pass in this direction."""
        return FOREVER_US if (source, to) in self._cut else 0

    # ------------------------------------------------------------------ what arrives

    def flow(self) -> None:
        """Let everything move, what waits and what will be sent."""
        self.flowing = True
        self.release()

    def hold(self) -> None:
        """Let nothing move but what is named."""
        self.flowing = False

    def release(self) -> None:
        """Let what waits arrive, if nothing holds it."""
        for flight in self._flights:
            flight.due_us = self.world.now_us + HOP_US
        self.world.after(HOP_US, self._fly)

    def deliver(self, to: str, source: str) -> bool:
        """Let arrive what is on its way to somebody now, from `source` or anybody; return whether anything was."""
        mine = [flight for flight in self._flights if flight.to.host == to]
        mine = [flight for flight in mine if source in ("", flight.to.other.host) and not self._is_held(flight)]
        for flight in mine:
            self._land(flight)
        return bool(mine)

    def _fly(self) -> None:
        if not self.flowing:
            return
        for flight in list(self._flights):
            if flight.due_us <= self.world.now_us and not self._is_held(flight):
                self._land(flight)

    def _is_held(self, flight: Flight) -> bool:
        to, source = flight.to.host, flight.to.other.host
        return to in self.asleep or (source, to) in self._cut

    def _land(self, flight: Flight) -> None:
        if flight not in self._flights:
            return
        self._flights.remove(flight)
        to = flight.to
        if not (to.open and to.link.alive):
            return
        if flight.closed:
            self._notice(to, flight.closed)
            return
        self._heard(to.other.host, to.host, self._decode(to, flight.payload))
        self.delivered += 1
        to.on_received(to, flight.payload)

    @staticmethod
    def _decode(to: End, payload: bytes) -> object:
        if not to.link.name.startswith("client-"):
            return m.decode_link(payload)
        if to is to.link.left:
            return _from_head.decode(payload)
        return c.decode_client(payload)

    # ------------------------------------------------------------------ what breaks

    def drop(self, one: str, other: str) -> bool:
        """Break the connections between two, with all that is on its way; both notice at once."""
        links = {id(flight.to.link): flight.to.link for flight in self._flights}
        links |= {id(link): link for link in self.links.values()}
        found = [link for link in links.values() if {link.left.host, link.right.host} == {one, other}]
        for link in found:
            self.cut(link, (0, 0))
        return bool(found)

    def cut(self, link: Link, notice_us: tuple[int | None, int | None]) -> None:
        """Cut, with all that is on its way."""
        super().cut(link, notice_us)
        self._flights = [flight for flight in self._flights if flight.to.link is not link]

    def separate(self, source: str, to: str) -> None:
        """Let nothing pass in this direction until `mend`."""
        self._cut.add((source, to))

    def mend(self) -> None:
        """Let everything pass again."""
        self._cut.clear()
        if self.flowing:
            self.release()
