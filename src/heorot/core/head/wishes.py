"""What is wanted of nodes (`heorot.core.wire.wishes`), at the head that leads: it takes changes, and has them kept.

A change is acknowledged when three things are so. It is in the store, so that every head that is elected from now on
knows it before it takes a launch. It holds here. And where it closes a node, nothing is on its way there any more that
was launched before; if that takes too long, the answer names the node as *late*.

Changes are made one after the other, each on what the one before has left. Of two that contradict each other the later
one holds, whatever the clocks of heads say: a wish is as new as the epoch of its head, and its place in it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from heorot.core.errors import RequestError
from heorot.core.head.closed_nodes import privileged
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.events import HeadEvents
from heorot.core.head.jobs import Jobs
from heorot.core.head.membership import KnownNode
from heorot.core.head.requests import Requests
from heorot.core.head.settling import Settling
from heorot.core.head.timers import WishDue
from heorot.core.quota import Quota
from heorot.core.safe_text import printable
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire.events import SET
from heorot.core.wire.rows import NodesSet
from heorot.core.wire.wishes import (
    ERROR,
    HEALTH,
    MAX_MODE,
    MAX_REASON,
    NODE_UP,
    POWER_STATES,
    UP,
    HealthFound,
    KeepWishes,
    NodeWish,
    WishesKept,
    complaint,
)

MAX_CHANGES = 1024
"""Changes that are being made, of all users; see `heorot.core.quota`."""
LOOK_MS = 50
"""How often it is looked whether anything is still on its way to a node that was closed."""
MAX_ID = 0xFFFF_FFFE
"""The highest number of a user or group."""


@dataclass(slots=True)
class Change:
    """A change that is being made, and who waits for it."""

    caller: Caller | None
    """None: nobody; a node has come back, and what it was set to until then is over."""
    ask: c.SetNodes
    nodes: list[int]
    wishes: list[NodeWish] = field(default_factory=list)
    until_ms: int = 0
    """So long it waits for what is on its way to its nodes."""
    edit: Callable[[KnownNode], NodeWish] | None = None
    """Without a caller: what is to be wanted of each node then."""
    done: Callable[[], None] | None = None
    """Called when it was kept, or could not be."""


class NodeWishes:
    """See the module."""

    def __init__(
        self, context: HeadContext, jobs: Jobs, requests: Requests, settling: Settling, events: HeadEvents
    ) -> None:
        self._events = events
        self._context = context
        self._members = context.members
        self._jobs = jobs
        self._requests = requests
        self._settling = settling
        self._quota = Quota("changes of nodes", MAX_CHANGES, "", context.config.owner)
        self._queue: deque[Change] = deque()
        self._under_way: Change | None = None
        """What the store was given and has not answered for."""
        self._closing: list[Change] = []
        """Changes that hold, and wait for what is on its way."""
        self._serial = self._sequence = 0

    # ------------------------------------------------------------------ what clients ask for

    def ask(self, caller: Caller, ask: c.SetNodes) -> None:
        """Change what is wanted of nodes; the answer comes later.

        Raises
        ------
        RequestError
            ``bad-nodes``, ``no-nodes``, ``bad-request``, ``not-permitted``, ``no-power``, ``node-down`` or ``busy``.
        """
        nodes, by_states = self._requests.select(ask.nodes, "list")
        if by_states:
            self._settling.require()
        self._requests.require_some(nodes, ask.nodes, "list")
        if HEAD in nodes:
            raise self._context.masters.missing()
        self._check(ask)
        for node in set(nodes):
            self._require_right(caller, ask, self._members.records[node])
        if ask.power:
            self._require_power(ask, NodeSet.of(nodes))
        held = Counter(change.caller.uid for change in self._changes() if change.caller is not None)
        why = self._quota.refusal(caller.uid, held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        # A list may name a node thousands of times.
        self._queue.append(Change(caller, ask, list(dict.fromkeys(nodes))))
        self._begin()

    def _changes(self) -> list[Change]:
        under_way = [self._under_way] if self._under_way is not None else []
        return [*self._queue, *under_way, *self._closing]

    @staticmethod
    def _check(ask: c.SetNodes) -> None:
        """See that this can be wanted of a node. Raises RequestError."""
        if not ask.state and max(ask.mode, ask.uid, ask.gid) < 0:
            raise RequestError("bad-request", "nothing is to be changed: give a state, a mode, a user or a group")
        if ask.reason and not ask.state:
            raise RequestError("bad-request", "a reason goes with a state: give that, too")
        why = complaint(ask.state, ask.reason) if ask.state else ""
        if why:
            raise RequestError("bad-request", why)
        if ask.mode >= 0 and ask.mode & ~MAX_MODE:
            raise RequestError(
                "bad-request", f"mode {ask.mode:o}: only the x bits mean something on a node, as in 0111"
            )
        if max(ask.uid, ask.gid) > MAX_ID:
            raise RequestError("bad-request", f"{max(ask.uid, ask.gid)} is no number of a user or group")

    def _require_power(self, ask: c.SetNodes, nodes: NodeSet) -> None:
        """See that this can be done to nodes. Raises RequestError."""
        if ask.state not in POWER_STATES:
            raise RequestError("bad-request", f"'{ask.state}' is done by nobody: only {', '.join(POWER_STATES)} are")
        if ask.state not in self._context.config.power:
            raise RequestError(
                "no-power",
                f"there is no command for '{ask.state}': the site names it in [power] of head.toml; the nodes of an"
                " embedded cluster are processes of this machine, which 'heorot node stop' ends",
            )
        down = nodes - self._members.up
        if down:
            raise RequestError(
                "node-down", f"{down} cannot be reached: only by hand, or by what the site has for its power"
            )

    def _require_right(self, caller: Caller, ask: c.SetNodes, record: KnownNode) -> None:
        """See that this user may change that of a node. Raises RequestError."""
        if privileged(self._context, caller.uid):
            return
        if ask.state or ask.uid >= 0:
            raise RequestError("not-permitted", "only root sets the state of nodes, and whose they are")
        if caller.uid != record.wish.uid:
            raise RequestError("not-permitted", f"{record.name} is not {caller.user}'s: ask its user, or root")
        if ask.gid >= 0 and ask.gid not in (caller.gid, *caller.groups):
            raise RequestError("not-permitted", f"{caller.user} is not in the group {ask.gid}")

    # ------------------------------------------------------------------ one change after the other

    def attached(self, record: KnownNode) -> None:
        """A node has come. If it is another incarnation than one that was about to end, that is over."""
        if record.wish.until and record.incarnation != record.wish.until:
            self._change_by_itself([record.node], self._over)

    def prepared(self, record: KnownNode, incarnation: int, error: str, done: Callable[[], None]) -> None:
        """The site's ``node_up`` has ended for a node; `done` is called when that is kept, or cannot be."""

        def edit(record: KnownNode) -> NodeWish:
            wish = replace(self._next(record), prepared=incarnation)
            if error and not wish.state:
                reason = printable(error)[:MAX_REASON]
                return replace(wish, state=ERROR, reason=reason, by=NODE_UP, at_ms=self._context.wall_ms)
            if not error and (wish.state, wish.by) == (ERROR, NODE_UP):
                return replace(wish, state="", reason="")
            return wish

        self._change_by_itself([record.node], edit, done)

    def checked(self, event: HealthFound) -> None:
        """The site's check sets nodes to `ERROR` that are set to nothing, and takes back what it has set itself."""
        found = dict(event.found)
        records = self._members.records
        changed = [
            node for node, error in found.items() if node in records and self._is_news(records[node].wish, error)
        ]
        if not changed:
            return

        def edit(record: KnownNode) -> NodeWish:
            error, wish = found[record.node], self._next(record)
            if not self._is_news(wish, error):
                return wish
            state, reason = (ERROR, printable(error)[:MAX_REASON]) if error else ("", "")
            return replace(wish, state=state, reason=reason, by=HEALTH, at_ms=self._context.wall_ms)

        self._change_by_itself(changed, edit)

    @staticmethod
    def _is_news(wish: NodeWish, error: str) -> bool:
        own = (wish.state, wish.by) == (ERROR, HEALTH)
        return not wish.state or (own and wish.reason != printable(error)[:MAX_REASON]) if error else own

    def _change_by_itself(
        self, nodes: list[int], edit: Callable[[KnownNode], NodeWish], done: Callable[[], None] | None = None
    ) -> None:
        self._queue.append(Change(None, c.SetNodes(0, ""), nodes, edit=edit, done=done))
        self._begin()

    def _begin(self) -> None:
        """Have the next change kept, if none is on its way."""
        while self._under_way is None and self._queue:
            change = self._queue.popleft()
            try:
                change.wishes = self._wishes(change)
            except RequestError as error:
                self._refuse(change, error)
                continue
            self._under_way = change
            self._serial += 1
            self._context.emit(KeepWishes(self._serial, tuple(change.wishes)))

    def _wishes(self, change: Change) -> list[NodeWish]:
        """Return what is to be wanted of the nodes of a change, as things are now. Raises RequestError."""
        self._sequence += 1
        found: list[NodeWish] = []
        for node in dict.fromkeys(change.nodes):
            record = self._members.records[node]
            if change.caller is None:
                assert change.edit is not None
                found.append(change.edit(record))
                continue
            # Its user may be another one by now.
            self._require_right(change.caller, change.ask, record)
            found.append(self._wish(change.caller, change.ask, record))
        return found

    def _next(self, record: KnownNode) -> NodeWish:
        """Return what is wanted of a node now, under the number of a newer wish."""
        former = record.wish
        holder = self._members.outcasts.given_to.get(record.node, b"").hex()
        epoch, sequence = max((self._context.config.epoch, self._sequence), (former.epoch, former.sequence + 1))
        return replace(former, node=record.node, holder=holder, epoch=epoch, sequence=sequence)

    def _over(self, record: KnownNode) -> NodeWish:
        former = record.wish
        if not former.until or record.incarnation == former.until:
            return self._next(record)  # somebody has set it to something else meanwhile
        wish = replace(self._next(record), state=former.then, reason=former.then_reason)
        return replace(wish, until=0, then="", then_reason="")

    def _wish(self, caller: Caller, ask: c.SetNodes, record: KnownNode) -> NodeWish:
        former, wish = record.wish, self._next(record)
        if ask.state:
            state = "" if ask.state == UP else ask.state
            wish = replace(wish, state=state, reason=ask.reason, by=caller.user, at_ms=self._context.wall_ms)
            wish = replace(wish, until=0, then="", then_reason="")
        if ask.power:
            # Of two in a row, what it was before the first.
            then = (former.then, former.then_reason) if former.until else (former.state, former.reason)
            wish = replace(wish, until=record.incarnation or 0, then=then[0], then_reason=then[1])
        for name in ("mode", "uid", "gid"):
            if getattr(ask, name) >= 0:
                wish = replace(wish, **{name: getattr(ask, name)})
        return wish

    def kept(self, event: WishesKept) -> None:
        """The store has them, or has not."""
        change, self._under_way = self._under_way, None
        assert change is not None
        assert event.serial == self._serial
        changed = [wish for wish in change.wishes if wish.state != self._members.records[wish.node].wish.state]
        # What node_up has found holds here in any case: the next head, which does not know it, runs it again. A node on
        # which it failed must not come into use because the head's disk is full.
        holds = event.written or change.done is not None
        if holds:
            for wish in change.wishes:
                self._members.wish(self._members.record(wish.node), wish)
        if change.done is not None:
            change.done()
        if event.error:
            self._refuse(change, RequestError("not-kept", _not_kept(change, event.error, holds)))
        else:
            self._tell(change, changed)
            change.until_ms = self._context.now_ms + self._context.config.query_timeout_ms
            self._closing.append(change)
            self.look()
        self._begin()

    def _tell(self, change: Change, changed: list[NodeWish]) -> None:
        ask, nodes = change.ask, NodeSet.of(change.nodes)
        if change.caller is None:
            for wish in changed:
                text = f"state {wish.state or UP}{f': {wish.reason}' if wish.reason else ''}"
                self._events.note(SET, 1 << wish.node, wish.by, text)
                self._context.log("info", f"n{wish.node}: {text}, by {wish.by or 'the head'}")
            return
        state = f"state {ask.state}" if ask.state else ""
        mode = f"mode {ask.mode:o}" if ask.mode >= 0 else ""
        owner = f"user {ask.uid}" if ask.uid >= 0 else ""
        group = f"group {ask.gid}" if ask.gid >= 0 else ""
        what = ", ".join(part for part in (state, mode, owner, group) if part)
        text = f"{what}{f': {ask.reason}' if ask.reason else ''}"
        self._context.log("info", f"{nodes}: {text}, by {change.caller.user}")
        self._events.note(SET, nodes.mask, change.caller.user, text)

    def look(self) -> None:
        """Acknowledge the changes to whose nodes nothing is on its way any more, and those that have waited enough."""
        if not self._closing:
            return
        busy, now_ms = self._busy(), self._context.now_ms
        waiting: list[Change] = []
        for change in self._closing:
            closed = [wish.node for wish in change.wishes if wish.state and change.ask.state]
            late = busy & NodeSet.of(closed)
            if late and now_ms < change.until_ms:
                waiting.append(change)
            else:
                self._acknowledge(change, late)
        self._closing = waiting
        if waiting:
            self._context.set_timer(WishDue(), LOOK_MS)

    def _acknowledge(self, change: Change, late: NodeSet) -> None:
        if change.caller is not None:
            command = self._context.config.power[change.ask.state] if change.ask.power else ()
            answer = NodesSet(change.nodes, late.numbers(), list(command))
            self._context.answer(change.caller.client, change.ask.request, answer)

    def _busy(self) -> NodeSet:
        """Return the nodes on which something may be started yet that was launched before now."""
        adoptions = self._jobs.adoptions
        return self._jobs.launching() | adoptions.unclear | self._settling.unknown

    def _refuse(self, change: Change, error: RequestError) -> None:
        if change.caller is None:
            self._context.log("warning", error.message)
        else:
            self._context.refuse(change.caller.client, change.ask.request, error.code, error.message)


def _not_kept(change: Change, error: str, holds: bool) -> str:
    nodes = NodeSet.of(change.nodes)
    if holds:
        return f"{nodes}: it holds as long as this head leads, but is not in the store for the next one: {error}"
    return f"{nodes}: nothing was changed, because it cannot be kept: {error}"
