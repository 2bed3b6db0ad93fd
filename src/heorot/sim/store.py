"""The coordination store: who is head, by which lease, and in which epoch; and the unreliable way to it.

It behaves as etcd does: a lease that is not kept alive ends, and the leader's entry with it; an epoch is given out
once; asking again with the same lease gives the same answer; after an outage every lease lives on for its full time.
Requests and answers are delayed, lost and repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from heorot.sim.cluster import Cluster

NAME = "store"
SLOWEST_EXPIRY_US = 500_000
"""A lease ends up to so much later than it might."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Make me the head, by this lease, if nobody is. Answered by `Elected`, `Taken` or `Gone`."""

    name: str
    lease: int
    sent_ms: int
    """By the asker's clock; comes back with the answer."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Let this lease live on. Answered by `Alive` or `Gone`."""

    name: str
    lease: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Resign:
    """End this lease. Answered by `Gone`."""

    name: str
    lease: int
    sent_ms: int


Listed: TypeAlias = tuple[int, tuple[str, ...]]
"""Which heads the cluster is to have, behind a number that grows with each change."""


@dataclass(frozen=True, slots=True)
class Elected:
    """You are the head."""

    lease: int
    epoch: int
    sent_ms: int
    listed: Listed


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else is."""

    lease: int
    sent_ms: int
    listed: Listed


@dataclass(frozen=True, slots=True)
class Alive:
    """The lease lives on."""

    lease: int
    sent_ms: int
    listed: Listed


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such lease any more, and there never will be again."""

    lease: int
    sent_ms: int


Request: TypeAlias = Campaign | KeepAlive | Resign
Answer: TypeAlias = Elected | Taken | Alive | Gone


class Store:
    """See the module."""

    def __init__(self, cluster: Cluster, ttl_ms: int) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.ttl_ms = ttl_ms
        self.epoch = 0
        """The last one that was given out."""
        self.leader: tuple[str, int, int] | None = None
        """Name, lease, epoch."""
        self.listed: Listed = 0, ()
        """Heads read it whenever they ask; who writes it is an administrator, on the host of any of them."""
        self.up = True
        self.delay_us = (100, 3_000)
        self.loss_rate = cluster.settings.store_loss_rate
        self.repeat_rate = cluster.settings.store_repeat_rate
        self._until_us: dict[int, int] = {}
        """When each lease ends."""
        self._ended: set[int] = set()
        """Only looked up."""

    # ------------------------------------------------------------------ the way to it

    def ask(self, request: Request, answer: Callable[[Answer], None]) -> None:
        """Send a request; the answer, if there is any, comes late, or more than once."""
        self._carry(request.name, NAME, self._take, request, answer)

    def _carry(self, source: str, to: str, call: Callable[..., None], *args: object) -> None:
        world = self.world
        if self.cluster.network.blocked_until(source, to) > world.now_us or world.chance(self.loss_rate):
            return
        world.after(world.between(*self.delay_us), call, *args)
        while world.chance(self.repeat_rate):
            world.after(world.between(*self.delay_us) * world.between(1, 300), call, *args)

    def _take(self, request: Request, answer: Callable[[Answer], None]) -> None:
        if not self.up:
            return
        reply = self._handle(request)
        if not isinstance(reply, (Taken, Alive)):
            self.world.tell(NAME, "%s -> %s", str(request), str(reply))
        self._carry(NAME, request.name, answer, reply)

    # ------------------------------------------------------------------ what it does

    def _handle(self, request: Request) -> Answer:
        lease, sent_ms = request.lease, request.sent_ms
        if isinstance(request, Resign):
            self._end(lease)
            return Gone(lease, sent_ms)
        if lease in self._ended:
            return Gone(lease, sent_ms)
        if isinstance(request, KeepAlive):
            if lease not in self._until_us:
                return Gone(lease, sent_ms)
            self._renew(lease)
            return Alive(lease, sent_ms, self.listed)
        if self.leader is None:
            self._renew(lease)
            self.leader = request.name, lease, self.next_epoch()
        if self.leader[1] == lease:
            return Elected(lease, self.leader[2], sent_ms, self.listed)
        return Taken(lease, sent_ms, self.listed)

    def list_heads(self, names: tuple[str, ...]) -> None:
        """Have the cluster consist of these heads."""
        self.world.tell(NAME, "the heads are %s", " ".join(names))
        self.listed = self.listed[0] + 1, names

    def next_epoch(self) -> int:
        """Return an epoch that was never given out."""
        self.epoch += 1
        return self.epoch

    def _renew(self, lease: int) -> None:
        until_us = self.world.now_us + self.ttl_ms * 1000
        self._until_us[lease] = until_us
        self.world.at(until_us + self.world.between(0, SLOWEST_EXPIRY_US), self._expire, lease, until_us)

    def _expire(self, lease: int, until_us: int) -> None:
        if self.up and self._until_us.get(lease) == until_us:
            self.world.tell(NAME, "lease %d expires", lease)
            self._end(lease)

    def _end(self, lease: int) -> None:
        self._until_us.pop(lease, None)
        self._ended.add(lease)
        if self.leader is not None and self.leader[1] == lease:
            self.leader = None

    # ------------------------------------------------------------------ outages

    def fail(self) -> None:
        """Answer nothing from now on."""
        self.world.tell(NAME, "is lost")
        self.up = False

    def recover(self) -> None:
        """Answer again; every lease lives on for its full time."""
        if not self.up:
            self.world.tell(NAME, "is back")
            self.up = True
            for lease in list(self._until_us):
                self._renew(lease)
