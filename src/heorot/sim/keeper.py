"""Runs the keeper of a head host (`heorot.core.keeper.machine`), as its daemon does; asking the store takes time here.

One step is on its way at a time: what happens meanwhile, the end of the head's process say, is noticed with the next
`Wait`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol

from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import StoreUnavailable
from heorot.core.keeper.machine import KeeperMachine, Listing
from heorot.core.keeper.settings import KeeperConfig
from heorot.core.keeper.shell import LATER, KeeperShell, Later
from heorot.core.machine import Log
from heorot.core.wire.heads import HeadAddress
from heorot.sim.run import SomeHead
from heorot.sim.store import Listed, StoreAnswer, StoreRequest, Wish

if TYPE_CHECKING:
    from heorot.core.machine import HeadsKnown
    from heorot.sim.clocks import Clock
    from heorot.sim.run import Run
    from heorot.sim.wish_disk import WishDisk
    from heorot.sim.world import World

STORE = "simulated"
CALL_BUDGET_MS = 3_000
"""So long the keeper waits for the store, as `heorot.coord.etcd` does; a part of its lease when that is renewed."""
ASK_AGAIN_MS = 250


class Host(SomeHead, Protocol):
    """The head host of a keeper."""

    cluster: Run
    world: World
    clock: Clock
    wish_disk: WishDisk

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call this on the host; later, if it is paused."""

    def start_head(self, epoch: int) -> None:
        """Begin the next term of office."""

    def end_head(self) -> None:
        """Step down: the head is ended by its keeper."""

    def tell_head(self, news: HeadsKnown) -> None:
        """Hand the keeper's word to the head, if it is there."""


class VirtualKeeper(KeeperShell):
    """Of one head host; lives from its start to its loss."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.world = host.world
        self.store = host.cluster.store
        self.alive = False
        self.kept_epoch = 0
        """On the host's disk."""
        self.listed: Listed = 0, ()
        """The newest list of heads that was seen here; it outlives the keeper, on the host's disk."""
        self._life = 0
        self._machine: KeeperMachine | None = None
        self._steps: Generator[s.Step, Any, None] | None = None
        self._lease = 0
        self._pending = 0
        """The number of the request to the store that is on its way, of the wait, or 0."""
        self._waiting: s.WaitForNews | None = None
        self._hinted = False
        self._ended: str | None = None
        self._switch_asked = False
        self._share_asked = 0
        """How often the head wants to know that the store has what is on the disk."""
        self._answers = ""
        """What the request is that is answered next."""

    @property
    def _ttl_ms(self) -> int:
        return self.store.ttl_ms

    def start(self) -> None:
        """The host has booted: stand for election."""
        self._life += 1
        self.alive = True
        ttl_s = self._ttl_ms / 1000
        config = KeeperConfig(self.host.name, STORE, ttl_s, ttl_s / 3, ttl_s / 3)
        self._machine = self.host.cluster.mutate(KeeperMachine(config, self.world.random.random))
        self._hinted = self._switch_asked = False
        self._share_asked = 0
        self._ended = None
        life = self._life
        self.store.watch(self.host.name, lambda: self._in_life(life, self._hint))
        self._set_clock()
        self._steps = self._machine.run()
        self._go_on(None, None)

    def stop(self) -> None:
        """The keeper is lost, and with it what it knows."""
        self._life += 1
        self.alive = False
        self._steps = self._waiting = None
        self._pending = 0

    def head_died(self, how: str) -> None:
        """The head's process has ended: notice it, now or when what is on its way is done."""
        self._ended = how
        self._wake()

    def switch(self) -> None:
        """An administrator wants another head to lead."""
        self._switch_asked = True
        self._wake()

    def share(self) -> None:
        """Its head has written something down that the store is to have."""
        self._share_asked += 1
        self._wake()

    # ------------------------------------------------------------------ one step after the other

    def _in_life(self, life: int, call: Any, *arguments: Any) -> None:
        if life == self._life:
            self.host.do(self._still, life, call, *arguments)

    def _still(self, life: int, call: Any, *arguments: Any) -> None:
        # The host may have been paused, and its keeper lost, in between.
        if life == self._life:
            call(*arguments)

    def _set_clock(self) -> None:
        assert self._machine is not None
        self._machine.now_s = self.host.clock.now_ms / 1000
        version, names = self.listed
        if version:
            heads = tuple(HeadAddress(name, name, 1) for name in names)
            self._machine.listing = Listing(heads, frozenset({self.host.name}) - frozenset(names))

    def _go_on(self, answer: Any, error: HeorotError | None) -> None:
        while self._steps is not None:
            self._set_clock()
            step = self._steps.send(answer) if error is None else self._steps.throw(error)
            error = None
            answer = self.carry_out_one(step)
            if answer is LATER:
                return

    # ------------------------------------------------------------------ steps that are answered at once

    def keep_epoch(self, step: s.KeepEpoch) -> None:
        """Keep it on a disk that is never full."""
        self.kept_epoch = max(self.kept_epoch, step.epoch)

    def start_head(self, step: s.StartHead) -> int:
        """Start the machine of a head."""
        self._ended = None
        self._share_asked = 0
        self.host.start_head(step.term.epoch)
        return 1

    def end_head(self, step: s.EndHead) -> str:
        """End that machine."""
        self.host.end_head()
        self._ended = None
        return "was killed by signal 9" if step.force else "ended with status 0"

    def last_words(self, step: s.LastWords) -> str:
        """It never says why."""
        return ""

    def read_settings(self, step: s.ReadSettings) -> tuple[str, ...]:
        """They never change."""
        return ()

    def tell_head(self, step: s.TellHead) -> None:
        """Tell it at once."""
        self.host.tell_head(step.news)

    def log(self, step: Log) -> None:
        """Add it to the story."""
        self.world.tell(self.host.name, f"[{step.level}] %s", step.text)

    def not_simulated(self, step: object) -> None:
        """Clients find the active head by themselves, the store needs no pid, and nobody looks at a keeper."""

    hand_over = pass_clients_on = stop_passing = publish = not_simulated

    def control_answer(self, step: s.ControlAnswer) -> None:
        """Tell the head, if it has asked; an administrator does not wait."""
        if self._answers == "share":
            self.host.wish_disk.shared(step.value)

    # ------------------------------------------------------------------ the store

    def ask_store(self, step: Wish) -> Later:
        """Send a request; what comes back is the answer to the step."""
        wish = step
        if isinstance(wish, s.Campaign):
            # Of the same number in each repetition of this request, and of a later one never.
            self._lease = self.host.cluster.network.number()
            wish = s.Campaign(max(wish.floor, self.kept_epoch))
        budget_ms = CALL_BUDGET_MS
        if isinstance(wish, (s.Renew, s.Resign)):
            budget_ms = self._ttl_ms // (4 if isinstance(wish, s.Renew) else 2)
        self._pending = self.host.cluster.network.number()
        records = tuple(self.host.wish_disk.wishes.values())
        request = StoreRequest(self.host.name, self._pending, self._lease, wish, records)
        self._send(request, self.host.clock.now_ms + budget_ms)
        return LATER

    look_at_store = campaign = renew = resign = prefer = ask_store

    def _send(self, request: StoreRequest, until_ms: int) -> None:
        if request.number != self._pending:
            return
        left_ms = until_ms - self.host.clock.now_ms
        if left_ms <= 0:
            self._pending = 0
            self._go_on(None, StoreUnavailable("the simulated store does not answer"))
            return
        life = self._life
        self.store.ask(request, lambda answer: self._in_life(life, self._answered, answer))
        self.world.after(min(left_ms, ASK_AGAIN_MS) * 1000, self._in_life, life, self._send, request, until_ms)

    def _answered(self, answer: StoreAnswer) -> None:
        if answer.number != self._pending:
            return
        self._pending = 0
        self.listed = max(self.listed, answer.listed)
        self.host.wish_disk.take(answer.records)
        if isinstance(answer.value, HeorotError):
            self._go_on(None, answer.value)
        else:
            self._go_on(answer.value, None)

    # ------------------------------------------------------------------ waiting

    def wait_for_news(self, step: s.WaitForNews) -> Later:
        """Let the time pass, or less."""
        self._waiting = step
        self._pending = self.host.cluster.network.number()
        timeout_us = 0
        if step.timeout_s > 0 and not self._has_news():
            # A host's clock counts milliseconds: a shorter wait would find the same time again, for ever.
            timeout_us = max(1_000, math.ceil(step.timeout_s * 1_000_000))
        self.world.after(timeout_us, self._in_life, self._life, self._time_is_over, self._pending)
        return LATER

    def _has_news(self) -> bool:
        waiting = self._waiting
        hinted = self._hinted and waiting is not None and waiting.hints
        return hinted or self._ended is not None or self._switch_asked or self._share_asked > 0

    def _hint(self) -> None:
        self._hinted = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and self._has_news():
            self._time_is_over(self._pending)

    def _time_is_over(self, number: int) -> None:
        if self._waiting is None or number != self._pending:
            return
        hints = self._waiting.hints
        woken = s.Woken(
            hinted=hints and self._hinted,
            ended=self._ended,
            # Whoever is paused is paused with its keeper, and a machine that hangs would not be a simulated one.
            heard=True,
            request=self._request(),
        )
        self._hinted = self._hinted and not hints
        self._ended = None
        self._waiting = None
        self._pending = 0
        self._go_on(woken, None)

    def _request(self) -> dict[str, Any] | None:
        """Return what somebody asks of the keeper, one thing at a time."""
        self._answers = "switch" if self._switch_asked else "share" if self._share_asked else ""
        if self._switch_asked:
            self._switch_asked = False
        elif self._share_asked:
            self._share_asked -= 1
        return {"do": self._answers} if self._answers else None
