"""The agent's way up: which ancestor or head it is linked to, and which to try next when that link is lost.

The order is: the nearest ancestor of the placement, the next one above, ..., then every known head; then a pause that
grows, with jitter, to less than half a second while a head is likely to be elected, and to two seconds later; and from
the start. It never gives up: processes do not notice, and a head will come.

All are tried side by side, each a little after the one before (as RFC 8305 does with addresses): a host that is gone
says nothing, and must not delay the way to another. An ancestor has more time than a head, because it is the better
parent, and is busy when many come to it at once.

Heads on standby refuse: so the search is quick. A node that was away while heads were added may know none but these.
After some rounds in vain it asks them to pass it on to the active head, which tells it of all heads.

A parent that has lost its own way up stays the parent, so that trees stay whole while there is no head. But it may be
the only one that finds none: who has waited for long enough looks past it, for a head alone, and goes there if one
answers. That takes minutes, and each node its own time, so that a head which comes at last finds few of them at once.

Where it stands is one of `heorot.core.node.states.UplinkState`; a link is had while it is greeting or attached.
"""

from __future__ import annotations

from heorot.core.machine import CloseLink, Connect, ConnectFailed, LinkOpened, Log, NodeInstruction, SetTimer
from heorot.core.node.config import NodeConfig
from heorot.core.node.states import UPLINK, UplinkChange, UplinkState
from heorot.core.node.timers import AnotherDue, PulseDue, RetryDue
from heorot.core.tree.greeting import RELAY_REMOVED, REMOVED
from heorot.core.tree.nodeset import HEAD
from heorot.core.wakefulness import Looks
from heorot.core.wire.tree import Placement

FIRST_PAUSE_MS = 50
REMOVED_PAUSE_MS = 15_000
"""How long a node waits that a head refuses because it was removed from the cluster."""
LONGEST_PAUSE_MS = 2_000
EARLY_PAUSE_MS = 200
EARLY_ROUNDS = 80
"""For so many rounds the pause stays below `EARLY_PAUSE_MS`: for about as long as a lease may run."""
PASSED_ON_AFTER_ROUNDS = 6
"""After so many rounds in vain, about two seconds, heads on standby are asked to pass us on: a node that does not know
the new head must be there before that gives it up (`node_grace_ms`)."""
SHORT_LIFE_MS = 1_000
"""A link that is lost sooner after it was greeted is not replaced at once: a parent may take us and drop us again."""
NEXT_HEAD_MS = 250
"""So long a head has for itself before the next one is tried, too; ..."""
NEXT_ANCESTOR_MS = 500
"""... and so long has an ancestor."""
PINGS_IN_LEASE = 3
MAX_REASONS = 16
"""So many different reasons are logged while there is no way up."""


class Uplink:
    """See the module. Methods return instructions."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.state = UPLINK.start
        self.story = 0
        self.attached = False
        """Whether the way up is open: what `state` says, which is asked for with each message."""
        self.heads = config.heads
        """Host and port of all heads to try, in this order; see `heorot.core.node.known_heads`."""
        self.link: int | None = None
        """The link upward while it is being greeted or attached."""
        self.parent = HEAD
        self.heard_at_ms = 0
        self.answered_at_ms = 0
        """The head's time of its latest `Pong`; 0: it has sent none over this link."""
        self._greeted_at_ms = 0
        self._short_lives = 0
        """So many times in a row the link was lost soon."""
        self._placement: Placement | None = None
        self._sealed = b""
        self._passed_over: set[int] = set()
        """Ancestors of this placement that were removed from the cluster, as they say themselves; only looked up."""
        self._candidates: list[tuple[int, str, int]] = []
        self._next = 0
        self._attempt = 0
        self._connecting: dict[str, tuple[int, str, int]] = {}
        """Connections on their way, by key."""
        self._asked_to_pass: set[str] = set()
        """Keys of those of them that a head on standby may pass on."""
        self.passed_on = False
        """The link may lead through a head on standby."""
        self._pause_ms = FIRST_PAUSE_MS
        self._rounds = 0
        self._epoch = 0
        """Of the parent that has greeted last."""
        self._lease_ms = 0
        self._pulses = Looks()
        """Of that parent, if it is a head."""
        self._past: set[str] = set()
        """Keys of connections to heads that are wanted though there is a parent."""
        self._told: list[str] = []
        self._random = config.jitter_seed * 2654435761 + config.node * 40503 + 1

    @property
    def name(self) -> str:
        """Whose it is, for people."""
        return f"n{self._config.node}"

    @property
    def parent_name(self) -> str:
        """The parent's name for people."""
        return _name_of(self.parent)

    def sealed_placement(self, remembered: bytes) -> bytes:
        """Return the signed placement in force, empty if there is none."""
        return self._sealed or (remembered if self._placement is not None else b"")

    def is_news(self, placement: Placement) -> bool:
        """Say whether this placement is newer than the one in force: old ones may be replayed."""
        former = self._placement
        return former is None or (placement.epoch, placement.serial) > (former.epoch, former.serial)

    def placed(self, placement: Placement) -> None:
        """Take a placement that an earlier agent remembered."""
        self._placement = placement

    def _step(self, change: UplinkChange) -> UplinkState:
        state = UPLINK.step(self, change)
        self.attached = state is UplinkState.ATTACHED
        return state

    def connect(self, now_ms: int) -> list[NodeInstruction]:
        """Try every candidate once more, from the nearest; nothing to do if there is a link by now."""
        if self.link is not None:
            return []
        self._step(UplinkChange.SEARCH)
        return self._from_the_nearest(now_ms)

    def _from_the_nearest(self, now_ms: int) -> list[NodeInstruction]:
        self._list_candidates()
        return self._try_next(now_ms)

    def _list_candidates(self) -> None:
        ancestors = list(reversed(self._placement.path)) if self._placement else []
        self._candidates = [
            (hop.node, hop.host, hop.port)
            for hop in ancestors
            if hop.node != HEAD and hop.node not in self._passed_over
        ]
        self._candidates += [(HEAD, host, port) for host, port in self.heads]
        on_their_way = list(self._connecting.values())
        self._candidates = [candidate for candidate in self._candidates if candidate not in on_their_way]
        self._next = 0

    def try_another(self, now_ms: int) -> list[NodeInstruction]:
        """The timer for `AnotherDue` has fired: nobody has answered yet, try the next one, too."""
        return self._try_next(now_ms)

    def _try_next(self, now_ms: int) -> list[NodeInstruction]:
        if self.state is not UplinkState.SEARCHING:
            return []
        if self._next >= len(self._candidates):
            self._step(UplinkChange.ALL_TRIED)
            pause_ms = self._pause_ms
            self._rounds += 1
            self._pause_ms = min(
                self._pause_ms * 2, EARLY_PAUSE_MS if self._rounds < EARLY_ROUNDS else LONGEST_PAUSE_MS
            )
            return self._pause(now_ms, pause_ms)
        candidate = self._candidates[self._next]
        self._next += 1
        parent = candidate[0]
        return [
            self._connect(candidate, parent == HEAD and self._rounds >= PASSED_ON_AFTER_ROUNDS),
            SetTimer(AnotherDue(), now_ms + (NEXT_HEAD_MS if parent == HEAD else NEXT_ANCESTOR_MS)),
        ]

    def _connect(self, candidate: tuple[int, str, int], passed_on: bool) -> Connect:
        self._attempt += 1
        key = f"up:{self._attempt}"
        self._connecting[key] = candidate
        if passed_on:
            self._asked_to_pass.add(key)
        _, host, port = candidate
        return Connect(key, host, port, self._config.connect_timeout_ms, passed_on)

    def look_past(self) -> list[NodeInstruction]:
        """The parent has known no way to a head for long: ask all heads for one, those on standby, too."""
        if not self.attached or self.parent == HEAD:
            return []
        on_their_way = list(self._connecting.values())
        heads = [(HEAD, host, port) for host, port in self.heads]
        connects = [self._connect(head, True) for head in heads if head not in on_their_way]
        self._past.update(connect.key for connect in connects)
        return list(connects)

    def stay(self) -> None:
        """The parent knows a way to a head: none is wanted beside it."""
        self._past.clear()

    def spread(self, limit_ms: int) -> int:
        """Return a time below this limit, one for each node and each way that it has tried."""
        return (self._random >> 33) % limit_ms

    def _pause(self, now_ms: int, pause_ms: int) -> list[NodeInstruction]:
        return [SetTimer(RetryDue(), now_ms + pause_ms + self._jitter(pause_ms))]

    def _jitter(self, limit_ms: int) -> int:
        # A linear congruential step (Knuth, MMIX): jitter needs no better, and the machine must stay reproducible.
        self._random = (self._random * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._random >> 33) % max(limit_ms, 1)

    def opened(self, event: LinkOpened, now_ms: int) -> list[NodeInstruction]:
        """A connection stands; it is `link` from now on if it is the one that is waited for."""
        parent = self._connecting.pop(event.connected_for, (None,))[0]
        passed_on = event.connected_for in self._asked_to_pass
        is_past = self.attached and event.connected_for in self._past
        self._asked_to_pass.discard(event.connected_for)
        self._past.discard(event.connected_for)
        if parent is None or (self.link is not None and not is_past):
            return [CloseLink(event.link, "no longer needed")]
        if event.peer != parent:
            # The address was given to somebody else meanwhile.
            return [CloseLink(event.link, f"it is not {_name_of(parent)}"), *self._try_next(now_ms)]
        left: list[NodeInstruction] = []
        if self.link is not None:
            left = [CloseLink(self.link, "it has no way to a head, and others have")]
            self._leave(UplinkChange.LEFT)
            self._list_candidates()
        self._past.clear()
        self._step(UplinkChange.OPENED)
        self.parent = parent
        self.link = event.link
        self.passed_on = passed_on
        self.heard_at_ms = now_ms
        self.answered_at_ms = 0
        return left

    def failed(self, event: ConnectFailed, now_ms: int) -> list[NodeInstruction]:
        """A connection could not be made: try the next candidate."""
        self._asked_to_pass.discard(event.key)
        self._past.discard(event.key)
        if self._connecting.pop(event.key, None) is None or self.link is not None:
            return []
        newest, _, _ = self._connecting.get(f"up:{self._attempt}", (HEAD, "", 0))
        # An ancestor has its time, whoever else has failed: the timer says when the next one is tried.
        return [*self._explain(event.reason), *(self._try_next(now_ms) if newest == HEAD else [])]

    def _explain(self, reason: str) -> list[NodeInstruction]:
        # Each reason once until a parent greets: the log shall say why a node stays alone, and not every 2 s.
        if reason in self._told or len(self._told) >= MAX_REASONS:
            return []
        self._told.append(reason)
        return [Log("warning", f"no way up: {reason}")]

    def greeted(self, now_ms: int, epoch: int, lease_ms: int) -> list[NodeInstruction]:
        """The parent has greeted, with its epoch and, if it is a head, its lease: the way up is open."""
        self._step(UplinkChange.GREETED)
        if epoch != self._epoch:
            # Not the same one that had dropped us before.
            self._epoch, self._short_lives = epoch, 0
        self._rounds = 0
        # What this host's own disk took to write the epoch is not the head's silence.
        self._greeted_at_ms = self.heard_at_ms = now_ms
        self._told.clear()
        self._pause_ms = FIRST_PAUSE_MS
        self._lease_ms = lease_ms
        return self._next_pulse(now_ms)

    def _next_pulse(self, now_ms: int) -> list[NodeInstruction]:
        return (
            [SetTimer(PulseDue(), self._pulses.plan(now_ms, self._lease_ms // PINGS_IN_LEASE))]
            if self._lease_ms
            else []
        )

    def pulse(self, now_ms: int) -> tuple[bool, list[NodeInstruction]]:
        """The timer for `PulseDue` has fired: return whether the head has been silent for its lease, and what follows.

        If it has not, the caller sends a `Ping`. When this process has slept, the head is asked again, as often.
        """
        if not self.attached or not self._lease_ms:
            return False, []
        if self._pulses.were_slept_through(now_ms):
            self.heard_at_ms = now_ms
        # Half an interval less: the answer to the first of the pings came a little after it.
        limit_ms = self._lease_ms - self._lease_ms // (2 * PINGS_IN_LEASE)
        if now_ms - self.heard_at_ms >= limit_ms:
            return True, []
        return False, self._next_pulse(now_ms)

    def _leave(self, change: UplinkChange) -> UplinkState:
        self.link = None
        return self._step(change)

    def lost(self, now_ms: int) -> list[NodeInstruction]:
        """The link has broken: begin with the nearest ancestor again."""
        if not self.attached:
            # A link that broke before it was greeted counts as a failed attempt: go on to the next candidate.
            self._leave(UplinkChange.LOST)
            return self._try_next(now_ms)
        if now_ms - self._greeted_at_ms >= SHORT_LIFE_MS:
            self._short_lives = 0
            self._leave(UplinkChange.LOST)
            return self._from_the_nearest(now_ms)
        self._leave(UplinkChange.LOST_SOON)
        pause_ms = min(FIRST_PAUSE_MS << self._short_lives, LONGEST_PAUSE_MS)
        self._short_lives = min(self._short_lives + 1, 8)
        return self._pause(now_ms, pause_ms)

    def go_direct(self, now_ms: int) -> list[NodeInstruction]:
        """The heads are known now: do without the one on standby that has passed us on."""
        if not self.attached or not self.passed_on:
            return []
        return self._go_elsewhere("going to the head directly", now_ms)

    def _go_elsewhere(self, why: str, now_ms: int) -> list[NodeInstruction]:
        assert self.link is not None
        close = CloseLink(self.link, why)
        self._leave(UplinkChange.LEFT)
        return [close, *self._from_the_nearest(now_ms)]

    def given_up(self, why: str, now_ms: int) -> list[NodeInstruction]:
        """We cannot go on with this parent (the caller closes the link): try the next candidate, and this one later."""
        told = self._explain(why)
        if self._leave(UplinkChange.USELESS) is UplinkState.SEARCHING:
            return [*told, *self._try_next(now_ms)]
        # It would come to the same at once.
        return [*told, *self._pause(now_ms, LONGEST_PAUSE_MS)]

    def refused(self, code: str, now_ms: int) -> list[NodeInstruction]:
        """The parent will not have us (the caller closes the link): try the next candidate, not the same again."""
        if code == REMOVED and self.parent == HEAD:
            # This host is to join anew, and its agent is started again then.
            self._leave(UplinkChange.REMOVED)
            return self._pause(now_ms, REMOVED_PAUSE_MS)
        self._leave(UplinkChange.REFUSED)
        if code == "not-placed-here":
            # The placement is of no use any more: only the head can give a new one.
            self._placement, self._sealed = None, b""
        elif code == RELAY_REMOVED:
            # It still counts for those above, where this node would have to wait for a head without it.
            self._passed_over.add(self.parent)
        return self._try_next(now_ms)

    def move(self, placement: Placement, sealed: bytes, now_ms: int) -> list[NodeInstruction]:
        """Take a placement that is news; change the parent if it names another one."""
        self._placement, self._sealed = placement, sealed
        self._passed_over.clear()
        nearest = placement.path[-1].node if placement.path else HEAD
        if nearest == self.parent or self.link is None:
            return []
        return self._go_elsewhere(f"moving below {_name_of(nearest)}", now_ms)


def _name_of(parent: int) -> str:
    return "the head" if parent == HEAD else f"n{parent}"
