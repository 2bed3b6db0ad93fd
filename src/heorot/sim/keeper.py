"""The keeper of a head's lease: it campaigns, keeps the lease alive, and outlives the head to give it up at once.

Its rules are those of the real keeper. Time is counted from before a request is sent: an answer that took as long as
the lease lives proves nothing. A store that does not answer changes nothing for a head that serves; only the store's
word that the lease is gone ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heorot.core.machine import HeadsKnown
from heorot.core.messages import HeadAddress
from heorot.sim.store import Alive, Answer, Campaign, Elected, Gone, KeepAlive, Listed, Resign

if TYPE_CHECKING:
    from heorot.sim.head_host import HeadHost

ASK_AGAIN_MS = 250
RESIGN_TIMES = 20
"""So often a lease is given up at most without an answer; then it ends by itself."""


class Keeper:
    """Of one head host; lives from its start to its loss."""

    def __init__(self, host: HeadHost) -> None:
        self.host = host
        self.world = host.world
        self.store = host.cluster.store
        self.alive = False
        self.holding = False
        """Its head serves."""
        self.lease = 0
        self.sure_until_ms = 0
        """Up to here, by the host's clock, nobody else can be elected."""
        self.listed: Listed = 0, ()
        """The newest list of heads that it has seen; it outlives the keeper, on the host's disk."""
        self._life = 0
        self._resigning: dict[int, int] = {}

    def start(self) -> None:
        """The host has booted: campaign."""
        self._life += 1
        self.alive = True
        self._campaign_anew(0)

    def stop(self) -> None:
        """The host is lost."""
        self._life += 1
        self.alive = self.holding = False
        self.lease = 0
        self._resigning.clear()

    def _campaign_anew(self, after_ms: int) -> None:
        self.holding = False
        self.lease = self.host.cluster.network.number()
        self._in_ms(after_ms, self._campaign, self.lease)

    def _in_ms(self, in_ms: int, call: Callable[[int], None], lease: int) -> None:
        self.world.after(in_ms * 1000, self._due, self._life, call, lease)

    def _due(self, life: int, call: Callable[[int], None], lease: int) -> None:
        if life == self._life:
            self.host.do(call, lease)

    def _hear(self, life: int, answer: Answer) -> None:
        if life == self._life:
            self.host.do(self._answered, answer)

    def _ask(self, kind: type[Campaign | KeepAlive | Resign], lease: int) -> None:
        life = self._life
        request = kind(self.host.name, lease, self.host.clock.now_ms)
        self.store.ask(request, lambda answer: self._hear(life, answer))

    # ------------------------------------------------------------------ becoming the head

    @property
    def is_removed(self) -> bool:
        """This head is to be none any more: it does not campaign."""
        version, names = self.listed
        return version > 0 and self.host.name not in names

    def _campaign(self, lease: int) -> None:
        if self.is_removed:
            return
        if lease == self.lease and not self.holding:
            self._ask(Campaign, lease)
            self._in_ms(ASK_AGAIN_MS, self._campaign, lease)

    def _answered(self, answer: Answer) -> None:
        if isinstance(answer, Gone):
            self._resigning.pop(answer.lease, None)
        elif answer.listed > self.listed:
            self.listed = answer.listed
        if answer.lease != self.lease:
            if isinstance(answer, Elected):
                self._resign(answer.lease)
            return
        deadline_ms = answer.sent_ms + self.store.ttl_ms
        if isinstance(answer, Elected) and not self.holding:
            if deadline_ms <= self.host.clock.now_ms:
                self._resign(answer.lease)
                self._campaign_anew(0)
                return
            self.holding = True
            self.sure_until_ms = deadline_ms
            self._in_ms(self.store.ttl_ms // 3, self._keep, answer.lease)
            self.host.start_head(answer.epoch)
            self._tell_head()
        elif isinstance(answer, Alive):
            self.sure_until_ms = max(self.sure_until_ms, deadline_ms)
            self._tell_head()
        elif isinstance(answer, Gone):
            self.lost(answer.lease)

    # ------------------------------------------------------------------ being the head

    def _tell_head(self) -> None:
        """Tell the head until when nobody else can be elected."""
        heads = [head for head in self.host.cluster.heads if head.up]
        listed = tuple(HeadAddress(name, name, 1) for name in self.listed[1])
        roles = tuple((head.name, "active" if head is self.host else "standby") for head in heads)
        self.host.tell_head(HeadsKnown(roles, "simulated", True, 0, self.sure_until_ms, "", listed))

    def _keep(self, lease: int) -> None:
        if lease == self.lease and self.holding:
            self._ask(KeepAlive, lease)
            self._in_ms(self.store.ttl_ms // 3, self._keep, lease)

    def lost(self, lease: int) -> None:
        """The store says that the lease is gone: step down."""
        if self.holding:
            self.world.tell(self.host.name, "steps down: lease %d is gone", lease)
        self._campaign_anew(ASK_AGAIN_MS)
        self.host.end_head()

    def head_died(self, pause_ms: int) -> None:
        """The head has ended: give up its lease at once, and campaign for another after a while."""
        if self.alive and self.holding:
            self._resign(self.lease)
            self._campaign_anew(pause_ms)

    def _resign(self, lease: int) -> None:
        self._resigning[lease] = RESIGN_TIMES
        self._resign_again(lease)

    def _resign_again(self, lease: int) -> None:
        left = self._resigning.get(lease, 0)
        if left:
            self._resigning[lease] = left - 1
            self._ask(Resign, lease)
            self._in_ms(ASK_AGAIN_MS, self._resign_again, lease)
