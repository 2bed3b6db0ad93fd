"""The coordination store: who is head, by which lease, and in which epoch; and the unreliable way to it.

It behaves as etcd does through `heorot.coord.etcd`: a lease that is not kept alive ends, and what hangs on it with it;
an epoch is given out once; after an outage every lease lives on for its full time; who watches hears that something has
changed, if the way is open. Requests and answers are delayed, lost and repeated; who asks repeats a request while it
has time, under the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from heorot.core.errors import HeorotError
from heorot.core.keeper.election import HOLD_BACK_S, Leadership, LeaseLost, Term
from heorot.core.keeper.steps import Campaign, LookAtStore, Prefer, Renew, Resign
from heorot.core.wire.wishes import NodeWish
from heorot.sim.wish_disk import Wishes, newest_of_both

if TYPE_CHECKING:
    from heorot.sim.surroundings import Surroundings

NAME = "store"
SLOWEST_EXPIRY_US = 500_000
"""A lease ends up to so much later than it might."""

Listed: TypeAlias = tuple[int, tuple[str, ...]]
"""Which heads the cluster is to have, behind a number that grows with each change."""
Wish: TypeAlias = LookAtStore | Campaign | Renew | Resign | Prefer
"""What a keeper asks of the store."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A wish of the candidate `name`, by a life of its keeper, under a number that nobody else uses."""

    name: str
    number: int
    lease: int
    """By which it leads, or will when it is elected."""
    wish: Wish
    records: tuple[NodeWish, ...] = ()
    """What its host has on its disk, of what all heads share."""

    def __str__(self) -> str:
        return f"{self.name} by lease {self.lease}: {self.wish}"


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """To the request of this number."""

    number: int
    value: Leadership | Term | HeorotError | None
    listed: Listed
    records: tuple[NodeWish, ...] = ()
    """What all heads share."""


class VirtualStore:
    """See the module."""

    def __init__(self, cluster: Surroundings, ttl_ms: int) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.ttl_ms = ttl_ms
        self.epoch = 0
        """The last one that was given out."""
        self.leader: tuple[str, int, int] | None = None
        """Name, lease, epoch."""
        self.listed: Listed = 0, ()
        """Heads read it whenever they ask; who writes it is an administrator, on the host of any of them."""
        self.records: Wishes = {}
        """What is wanted of nodes."""
        self.up = True
        self.delay_us = (100, 3_000)
        self.loss_rate = cluster.settings.store_loss_rate
        self.repeat_rate = cluster.settings.store_repeat_rate
        self._until_us: dict[int, int] = {}
        """When each lease ends."""
        self._ended: set[int] = set()
        """Only looked up."""
        self._candidates: dict[str, int] = {}
        """Until when each name is there."""
        self._preferred: tuple[str, int] = "", 0
        """Who is to lead next, and until when the others hold back."""
        self._watching: dict[str, Callable[[], None]] = {}

    # ------------------------------------------------------------------ the way to it

    def ask(self, request: StoreRequest, answer: Callable[[StoreAnswer], None]) -> None:
        """Send a request; the answer, if there is any, comes late, or more than once."""
        self._carry(request.name, NAME, self._take, request, answer)

    def watch(self, name: str, changed: Callable[[], None]) -> None:
        """Call this on the host of that name, if the way is open, when something may have changed."""
        self._watching[name] = changed

    def _carry(self, source: str, to: str, call: Callable[..., None], *args: object) -> None:
        world = self.world
        if self.cluster.network.blocked_until(source, to) > world.now_us or world.chance(self.loss_rate):
            return
        world.after(world.between(*self.delay_us), call, *args)
        while world.chance(self.repeat_rate):
            world.after(world.between(*self.delay_us) * world.between(1, 300), call, *args)

    def _take(self, request: StoreRequest, answer: Callable[[StoreAnswer], None]) -> None:
        if not self.up:
            return
        value = self._handle(request)
        if not isinstance(request.wish, (LookAtStore, Renew)) or isinstance(value, HeorotError):
            self.world.tell(NAME, "%s -> %s", str(request), repr(value))
        records = tuple(self.records.values())
        self._carry(NAME, request.name, answer, StoreAnswer(request.number, value, self.listed, records))

    # ------------------------------------------------------------------ what it does

    def _handle(self, request: StoreRequest) -> Leadership | Term | HeorotError | None:
        name, lease, wish = request.name, request.lease, request.wish
        if isinstance(wish, Resign):
            self._end(lease)
        elif isinstance(wish, Prefer):
            self._preferred = wish.name, self.world.now_us + round(HOLD_BACK_S * 1_000_000)
            self._changed()
        elif isinstance(wish, Campaign):
            return self._campaign(name, lease, wish.floor)
        else:
            if isinstance(wish, Renew):
                if self.leader is None or self.leader[:2] != (name, lease):
                    return LeaseLost("its lease has run out")
                self._renew(lease)
            self._announce(name)
            # In one transaction: whoever was elected meanwhile has read all that was put there before.
            self.records = newest_of_both(self.records, request.records)
            return self._view()
        return None

    def _campaign(self, name: str, lease: int, floor: int) -> Term | None:
        if self.leader is None and lease not in self._ended:
            self.epoch = max(self.epoch, floor)
            self._renew(lease)
            self.leader = name, lease, self.next_epoch()
            self._preferred = "", 0
            self._changed()
        elif self.leader is None or self.leader[1] != lease:
            return None
        # It may have asked before, and never have heard the answer.
        return Term(self.leader[2])

    def _view(self) -> Leadership:
        now_us = self.world.now_us
        leader = self.leader[0] if self.leader is not None else ""
        alive = sorted(name for name, until_us in self._candidates.items() if until_us > now_us)
        preferred, until_us = self._preferred
        return Leadership(leader, self.epoch, tuple(alive), preferred if until_us > now_us else "")

    def _announce(self, name: str) -> None:
        now_us = self.world.now_us
        known = self._candidates.get(name, 0) > now_us
        self._candidates[name] = now_us + self.ttl_ms * 1000
        if not known:
            self._changed()

    def _changed(self) -> None:
        for name, call in self._watching.items():
            self._carry(NAME, name, call)

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
            self._changed()

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
