"""The lease keeper, the parent of a head's process: it campaigns, has the head started, and keeps the lease.

Its rules, whose reasons are in docs/decisions/lease-keeper.md:

- A head process that has ended was reaped by its keeper: it is dead for certain, and the lease is given up at once.
- The kernel kills the head when the keeper dies; then the lease runs out (or the lock is free, at once).
- The store says that the lease is gone: the head is killed at once.
- The head says nothing for a long time, though the keeper is awake: the head is killed at once.
- The store says nothing: nobody else can be elected either, so the head goes on, and says so.
- The settings have changed: the head ends in good order, and the next term begins with them.

A keeper does one thing at a time, and waits for it to be done, with a bound on each wait. So it is written as what it
does, one step after the other: `KeeperMachine.run` yields steps (`heorot.core.keeper.steps`). Whoever runs it carries
each out, sends the answer back or throws the HeorotError, and says before what time it is. It is the same one in
the daemon (`heorot.daemons.keeper`) and in the simulator::

    standby ── nobody leads, nobody else goes first: Campaign ──▶ elected ── KeepEpoch, StartHead ──▶ active
       ▲                                                            │ cannot                            │
       └─────────── Resign ◀── the head's process is dead ◀─────────┴──────── Renew and TellHead, until ◀┘
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership, LeaseLost, StoreForeign, StoreRefused, StoreUnavailable, Term
from heorot.core.keeper.settings import KeeperConfig, SettingsReader
from heorot.core.keeper.sharing import share_records
from heorot.core.keeper.store_health import StoreHealth
from heorot.core.keeper.watchdog import PULSE_S, Watchdog
from heorot.core.machine import HeadsKnown, Log
from heorot.core.wire.heads import HeadAddress

QUICK_END_S = 0.5
"""A head that dies sooner after its election has probably met what kills it in any term: it is not started at once."""
HOLD_BACK_AFTER_END_S = 0.5
"""A keeper whose head has just died lets the others go first, if there are any: their hosts may be in better health."""
LONGEST_PAUSE_S = 2.0
REFUSED_PAUSE_S = 2.0
UNAVAILABLE_PAUSE_S = 0.25
SOON_S = 0.02
MAX_PROBLEM_CHARACTERS = 400
"""Of what is wrong with the store: what the keeper says fits into a pipe at once."""


class Listing(Struct, frozen=True):
    """Which heads the cluster is to have; empty: that is not known, or never changes."""

    heads: tuple[HeadAddress, ...] = ()
    removed: frozenset[str] = frozenset()
    """Names of those that were heads, and are to be none any more."""


class KeeperMachine:
    """Keeps one head. `random` gives numbers from 0 to below 1."""

    def __init__(self, config: KeeperConfig, random: Callable[[], float]) -> None:
        self.now_s = 0.0
        """The time, which goes on while the host is suspended; whoever runs this sets it before each step."""
        self.listing = Listing()
        """As it was read last; set likewise."""
        self._told_heads = self.listing.heads
        """Of that list, what the head was told last."""
        self._config = config
        self._name = config.name
        self._random = random
        self._known: s.Known | None = None
        self._role = "standby"
        self._view = Leadership("", 0, (), "")
        self._epoch = 0
        self._seen_epoch = 0
        self._has_looked = False
        """The store was read once without an error."""
        self._head_pid = 0
        self._quick_ends = 0
        self._not_before_s = 0.0
        self._others_first_until_s = 0.0
        self._lease_until_s = 0.0
        self._store = StoreHealth(config.store)
        self._failure = ""
        """Why the head's process could not be started, or ended soon."""
        self._ending = self._switch_asked = self._handing_over = False
        self._settings = SettingsReader()

    def run(self) -> s.Flow[None]:
        """Go on until told to end; no head of ours lives, and nothing is held, when this returns.

        Raises
        ------
        StoreForeign
            If the first look shows that the store is another cluster's: a mistake in the configuration.
        """
        self._store.since_s = self.now_s
        yield Log("info", "on standby")
        while not self._ending:
            term = yield from self._stand_by()
            if term is not None:
                yield from self._lead(term)

    # ------------------------------------------------------------------ standby

    def _stand_by(self) -> s.Flow[Term | None]:
        """Wait until this candidate is the leader; None: told to end."""
        self._role = "standby"
        pause_s = 0.0
        while True:
            yield from self._publish()
            if pause_s:
                leader = self._view.leader
                yield s.PassClientsOn(leader if leader != self._name else "")
            yield from self._wait(pause_s, hints=pause_s > 0)
            if self._ending:
                return None
            self._switch_asked = False
            yield from self._settings.read_as_asked(leads=False)
            try:
                self._view = yield s.LookAtStore()
                self._has_looked = True
                yield from self._store.answers(self.now_s)
                yield from self._store.warn(self._view.warning)
                yield from self._note_epoch(self._view.epoch)
                pause_s = yield from self._wait_before_campaign()
                if not pause_s:
                    term: Term | None = yield s.Campaign(self._seen_epoch)
                    if term is not None:
                        # The head is about to serve these clients itself. They come again.
                        yield s.StopPassing()
                        self._store.complained = ""
                        return term
                    pause_s = SOON_S
                if not self._store.problem:
                    self._store.complained = ""
            except StoreUnavailable as error:
                yield from self._store.is_unreachable(str(error), self.now_s, self._role == "active")
                pause_s = UNAVAILABLE_PAUSE_S * (1 + self._random())
            except StoreForeign as error:
                if not self._has_looked:
                    # Whoever has just started this head shall see it.
                    raise
                yield from self._store.complain(str(error))
                pause_s = REFUSED_PAUSE_S * (1 + self._random())
            except HeorotError as error:
                yield from self._store.complain(str(error))
                pause_s = REFUSED_PAUSE_S * (1 + self._random())

    def _wait_before_campaign(self) -> s.Flow[float]:
        """Return how long to wait before looking again; 0: campaign now."""
        view, look_every_s = self._view, self._config.look_every_s
        others = self._others()
        if self._name in self.listing.removed:
            yield from self._store.complain(
                f"{self._name} was removed from the cluster (heorot head remove) and does not stand for head"
            )
            return look_every_s
        if view.leader:
            self._failure = ""
            return look_every_s
        if view.preferred and view.preferred != self._name and view.preferred in others:
            return SOON_S
        wait_s = self._not_before_s - self.now_s
        if others and view.preferred != self._name:
            wait_s = max(wait_s, self._others_first_until_s - self.now_s)
        return max(0.0, min(wait_s, look_every_s))

    def _note_epoch(self, epoch: int) -> s.Flow[None]:
        """Remember the epochs of others, too: if the store loses them, nodes obey nobody below what they have seen."""
        if epoch > self._seen_epoch:
            try:
                yield s.KeepEpoch(epoch)
            except StoreRefused:
                raise  # what is there cannot be read: this host cannot stand for election
            except HeorotError as error:
                yield Log("warning", f"cannot note the epoch: {error}")
            self._seen_epoch = epoch

    # ------------------------------------------------------------------ lead

    def _lead(self, term: Term) -> s.Flow[None]:
        """Run the head until it ends or must end; afterwards it is dead and the lease is given up."""
        began_s = self._lease_until_s = self.now_s
        if term.warning:
            yield Log("warning", term.warning)
        try:
            yield s.KeepEpoch(term.epoch)
            self._seen_epoch = max(self._seen_epoch, term.epoch)
            self._epoch = term.epoch
            self._head_pid = yield s.StartHead(term)
        except HeorotError as error:
            yield Log("error", f"cannot start the head: {error}")
            self._ended(began_s)
            self._failure = f"cannot start the head: {error}"
        else:
            self._role = "active"
            yield from self._tried("cannot note the head's process in the store", s.HandOver())
            why = yield from self._keep()
            on_purpose = self._ending or self._handing_over or self._settings.begin_anew
            yield Log("info" if on_purpose else "warning", f"the head {why}; giving up the lease")
            if not on_purpose:
                self._ended(began_s)
                said = yield s.LastWords()
                self._failure = f"the head {why}{': ' if said else ''}{said}" if self._quick_ends else ""
        # The head is reaped, or was never started: nobody acts in this epoch any more.
        yield from self._tried("cannot give the lease up; it runs out by itself", s.Resign())
        self._role = "standby"
        self._head_pid = 0
        if self._handing_over:
            self._others_first_until_s = self.now_s + HOLD_BACK_AFTER_END_S
        self._handing_over = self._settings.begin_anew = False

    def _keep(self) -> s.Flow[str]:
        """Keep the lease until the head ends or must be ended; return what became of it."""
        began_s = next_s = self.now_s
        watchdog = Watchdog(self._config.hang_s, began_s)
        while True:
            if self.now_s >= next_s:
                try:
                    next_s = yield from self._renew()
                except LeaseLost as error:
                    yield Log("error", f"this head must not go on: {error}")
                    return (yield from self._end_head(force=True))
                yield from self._tell_head()
                yield from self._publish()
            woken = yield from self._wait(min(next_s - self.now_s, PULSE_S), hints=True)
            if woken.ended is not None:
                return woken.ended
            if self._failure and self.now_s - began_s >= QUICK_END_S:
                self._failure = ""
                yield from self._publish()
            if watchdog.is_silent(self.now_s, woken.heard):
                silent_s = watchdog.silent_s
                yield Log("error", f"the head hangs: it has given no sign of life for {silent_s:.1f} s")
                return (yield from self._end_head(force=True))
            if self.listing.heads != self._told_heads:
                # A head that is added just before the active one is lost must be known to the nodes by then.
                yield from self._tell_head()
            if woken.hinted:
                next_s = 0.0
            elif self._name in self.listing.removed and self._others():
                yield from self._try_to_hand_over("was removed, and cannot hand over")
            if self._switch_asked:
                self._switch_asked = False
                yield from self._try_to_hand_over("cannot hand over")
            yield from self._settings.read_as_asked(leads=True)
            if self._ending or self._handing_over or self._settings.begin_anew:
                how: str = yield s.EndHead(force=False)
                return how

    def _renew(self) -> s.Flow[float]:
        """Renew the lease; return when to do so again. Raises LeaseLost."""
        asked_s = self.now_s
        try:
            self._view = yield s.Renew()
        except LeaseLost:
            raise
        except StoreUnavailable as error:
            yield from self._store.is_unreachable(str(error), self.now_s, self._role == "active")
            return self.now_s + UNAVAILABLE_PAUSE_S
        except HeorotError as error:
            yield from self._store.complain(str(error))
            yield from self._store.is_unreachable(str(error), self.now_s, self._role == "active")
            return self.now_s + self._config.renew_every_s
        yield from self._store.answers(self.now_s)
        self._store.complained = ""
        yield from self._store.warn(self._view.warning)
        # Counted from before the request: this is when the store may have begun to count.
        self._lease_until_s = asked_s + self._config.lease_s
        return asked_s + self._config.renew_every_s

    def _renewed(self) -> s.Flow[Leadership | None]:
        """Renew the lease; return what the store says, None if it says nothing of use. Raises LeaseLost."""
        former = self._view = replace(self._view)
        yield from self._renew()
        return self._view if self._view is not former else None

    def _end_head(self, force: bool) -> s.Flow[str]:
        how = yield s.EndHead(force)
        return f"was ended ({how})"

    def _ended(self, began_s: float) -> None:
        now_s = self.now_s
        self._quick_ends = self._quick_ends + 1 if now_s - began_s < QUICK_END_S else 0
        pause_s = 0.0 if self._quick_ends <= 1 else min(0.1 * 2 ** (self._quick_ends - 2), LONGEST_PAUSE_S)
        self._not_before_s = now_s + pause_s
        self._others_first_until_s = now_s + HOLD_BACK_AFTER_END_S

    def _others(self) -> list[str]:
        """Return the other heads that are alive and may lead."""
        return [name for name in self._view.candidates if name != self._name and name not in self.listing.removed]

    def _try_to_hand_over(self, what: str) -> s.Flow[None]:
        try:
            yield from self._hand_over("")
        except HeorotError as error:
            yield Log("warning", f"{what}: {error}")

    def _hand_over(self, name: str) -> s.Flow[str]:
        """Prefer the head of this name, or any other one, and have ours ended. Raises HeorotError."""
        self._view = yield s.LookAtStore()
        others = self._others()
        if name == self._name:
            raise HeorotError(f"{name} is the active head already")
        if not others:
            raise HeorotError("there is no standby head to hand over to")
        if name and name not in others:
            raise HeorotError(f"there is no standby head {name!r}; there is {', '.join(others)}")
        target = name or others[0]
        yield s.Prefer(target)
        yield Log("info", f"handing over to {target}")
        self._handing_over = True
        return target

    # ------------------------------------------------------------------ what others are told

    def _tried(self, what: str, step: s.Step) -> s.Flow[None]:
        """Have a step done whose failure is only a word in the log."""
        try:
            yield step
        except HeorotError as error:
            yield Log("warning", f"{what}: {error}")

    def _heads(self) -> tuple[tuple[str, str], ...]:
        leader = self._name if self._role == "active" else self._view.leader
        names = sorted({*self._view.candidates, self._name})
        return tuple((name, "active" if name == leader else "standby") for name in names)

    def _tell_head(self) -> s.Flow[None]:
        until_s, self._told_heads = self._lease_until_s, self.listing.heads
        yield s.TellHead(
            HeadsKnown(
                self._heads(),
                self._config.store,
                self._store.reachable,
                int(self._store.since_s * 1000),
                None if math.isinf(until_s) else int(until_s * 1000),
                "" if self._store.reachable else self._store.problem[:MAX_PROBLEM_CHARACTERS],
                self.listing.heads,
            )
        )

    def _why_not(self) -> str:
        return (self._failure or self._store.problem)[:MAX_PROBLEM_CHARACTERS]

    def _publish(self) -> s.Flow[None]:
        leader = self._name if self._role == "active" else self._view.leader
        known = s.Known(self._role, self._head_pid, self._quick_ends, leader, self._why_not())
        if known != self._known:
            self._known = known
            yield s.Publish(known)

    # ------------------------------------------------------------------ waiting, and who speaks to us

    def _wait(self, timeout_s: float, hints: bool) -> s.Flow[s.Woken]:
        """Wait until the time is over, something happens or somebody speaks to us."""
        woken: s.Woken = yield s.WaitForNews(max(0.0, timeout_s), hints)
        self._ending = self._ending or woken.told_to_end
        self._switch_asked = self._switch_asked or woken.told_to_switch
        self._settings.asked = self._settings.asked or woken.told_to_reload
        if woken.request is not None:
            try:
                answer = yield from self._obey(woken.request)
            except HeorotError as error:
                answer = {"error": str(error)}
            yield s.ControlAnswer(answer)
        return woken

    def _obey(self, request: dict[str, Any]) -> s.Flow[dict[str, Any]]:
        if request.get("do") == "switch":
            if self._role != "active":
                raise HeorotError(f"{self._name} is not the active head; {self._view.leader or 'nobody'} is")
            target = yield from self._hand_over(str(request.get("name") or ""))
            return {"to": target, "epoch": self._epoch}
        if request.get("do") == "share" and self._role == "active":
            return (yield from share_records(self._renewed))
        if request.get("do") == "reload":
            changed = yield from self._settings.read(leads=self._role == "active")
            return {"name": self._name, "changed": list(changed)}
        if request.get("do") == "status":
            return self._status()
        raise HeorotError(f"unknown command {request.get('do')!r}")

    def _status(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "role": self._role,
            "epoch": self._epoch if self._role == "active" else self._view.epoch,
            "pid": self._config.pid,
            "head_pid": self._head_pid,
            "quick_ends": self._quick_ends,
            "problem": self._why_not(),
            "heads": [{"name": name, "role": role} for name, role in self._heads()],
            "store": self._store.row(self.now_s),
        }
