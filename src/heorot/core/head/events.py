"""What has happened (`heorot.core.wire.events`), as the head that leads sees it.

What happens to many nodes within a second is one event, so that a storm of links that break is a few lines. The latest
are kept here, and put into the store now and then: what a head has told just before it was killed may be lost with it.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode
from heorot.core.head.timers import EventsDue
from heorot.core.machine import NodesJoined
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.events import DOWN, JOINED, LED, MAX_TEXT, UP, ClusterEvent, KeepEvents, TellSite, latest

GATHER_MS = 1_000
UNKNOWN = "unknown"
"""What a node was before this head has seen it."""
KEEP_EVERY_MS = 10_000
"""The store is asked to keep them so often at most."""
MAX_KINDS = 100
"""So many different events in one second are told; a flood of others is not."""


class HeadEvents:
    """Notes what happens, and tells it."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self.events = {event.order: event for event in context.config.events}
        self._happens: dict[tuple[str, str, str], tuple[int, int]] = {}
        """By what, by whom and text: when first, and the nodes."""
        self._unkept: list[ClusterEvent] = []
        self._kept_ms = -KEEP_EVERY_MS
        self._sequence = 0
        self._shown: dict[int, str] = {}
        """What the site was told of each node last."""
        self._armed = False
        context.members.on_step = self._stepped

    def start(self) -> None:
        """The term begins."""
        self.note(LED, 0, by=self._context.config.name)

    def note(self, what: str, mask: int, by: str = "", text: str = "") -> None:
        """Something happens to these nodes."""
        kind = what, by, text[:MAX_TEXT]
        at_ms, nodes = self._happens.get(kind, (self._context.wall_ms, 0))
        if kind in self._happens or len(self._happens) < MAX_KINDS:
            self._happens[kind] = at_ms, nodes | mask
        self._arm(GATHER_MS)

    def _stepped(self, record: KnownNode) -> None:
        self.note(UP if record.is_up else DOWN, 1 << record.node)

    def joined(self, event: NodesJoined) -> None:
        """Know these nodes; those that are new have joined."""
        members = self._context.members
        new = NodeSet.of(event.nodes).mask & ~members.known_mask
        members.register(event.nodes)
        if new:
            self.note(JOINED, new)

    def _arm(self, in_ms: int) -> None:
        if not self._armed:
            self._armed = True
            self._context.set_timer(EventsDue(), in_ms)

    def due(self) -> None:
        """Tell what has happened since, and have it kept if that is due."""
        self._armed = False
        now_ms = self._context.now_ms
        for (what, by, text), (at_ms, mask) in self._happens.items():
            self._sequence += 1
            nodes = str(NodeSet(mask)) if mask else ""
            self._unkept.append(ClusterEvent(self._context.config.epoch, self._sequence, at_ms, what, nodes, by, text))
            self.events[self._unkept[-1].order] = self._unkept[-1]
        self._happens.clear()
        if self._context.config.hook:
            self._tell_site()
        self.events = {event.order: event for event in latest(self.events)}
        if self._unkept and now_ms - self._kept_ms >= KEEP_EVERY_MS:
            self._context.emit(KeepEvents(tuple(self._unkept)))
            self._unkept, self._kept_ms = [], now_ms
        elif self._unkept:
            self._arm(self._kept_ms + KEEP_EVERY_MS - now_ms)

    def _tell_site(self) -> None:
        changes: dict[tuple[str, str], int] = {}
        for record in self._context.members.records.values():
            former, state = self._shown.get(record.node, UNKNOWN), record.told
            if former != state:
                self._shown[record.node] = state
                changes[former, state] = changes.get((former, state), 0) | 1 << record.node
        if changes:
            told = tuple((str(NodeSet(mask)), former, state) for (former, state), mask in changes.items())
            self._context.emit(TellSite(told))

    def after(self, epoch: int, sequence: int) -> list[ClusterEvent]:
        """Return what is later than this."""
        return [event for order, event in self.events.items() if order > (epoch, sequence)]
