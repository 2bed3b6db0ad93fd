"""Which attachment of a node the head takes, when a relay speaks for it: a relay may have been broken into.

A node's own link is shown by its certificate. Every other way to it needs a placement that a head has signed for that
node, and that names the relay, or a node which is reached through it. Placements of earlier heads count, because with
them nodes come to a new head; so an old one may be shown again by a relay that the node has left. Therefore:

- An attachment under an older placement than the node has shown does not replace a way that stands.
- One over a relay does not replace the node's own link, unless this head has just sent the node there. Perhaps it has
  lost that link, and this end does not know yet: so it is asked over it to attach again. When it does, nothing has
  happened; when that link ends, or nothing comes over it in `DOUBT_MS`, the relay's nodes are asked.
- Among attachments under one placement the node's own order decides, as far as it can be true: it follows a clock. A
  link of its own that is newer than what was taken needs none, and no order outlives the way that it was taken on.
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode, NodeLink
from heorot.core.head.timers import DoubtDue
from heorot.core.machine import Send
from heorot.core.tickets import open_placement
from heorot.core.wire import tree as m

DOUBT_MS = 2_000
ORDER_SLACK_MS = 60_000
"""Orders are times on the node's clock; one message may have been on its way so much longer than another."""


def latest_order(order: int, elapsed_ms: int) -> int:
    """Return the highest order that can be true so long after an attachment had `order`; clocks go nearly alike."""
    return order + elapsed_ms + elapsed_ms // 500 + ORDER_SLACK_MS


class Attachments:
    """See the module."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._doubted: dict[int, int] = {}
        """Nodes that were asked over their own link, and the relay's link that has offered them."""
        self._told: dict[str, int] = {}
        """By reason: mask of the nodes of which the log tells that they were not taken. A relay may offer them without
        end."""

    def take(self, link: NodeLink, attach: m.Attach) -> bool:
        """Say whether this attachment counts, and note it then. The neighbour is the node or an ancestor by arithmetic.

        Raises
        ------
        ProtocolError
            If this neighbour may not speak for the node.
        """
        members, node = self._context.members, attach.node
        is_own = link.peer == node
        placed = self._shown(link, attach)
        if placed is None:
            return False
        record = members.record(node)
        standing = members.links.get(record.link) if record.link is not None else None
        order = attach.order
        if standing is not None and record.incarnation == attach.incarnation:
            # What its own link has said of its order is true.
            is_newer = link.opened > record.taken if is_own else standing.peer != node and placed > record.shown
            if order < record.order and not is_newer:
                return False  # overtaken by a newer one on another way
            if not is_own:
                order = min(order, latest_order(record.order, self._context.now_ms - record.attached_at_ms))
        if standing is not None and standing is not link and not is_own:
            if placed < record.shown:
                self._ignore(link, node, "the node has shown a newer placement")
                return False
            if standing.peer == node and placed != (self._context.config.epoch, record.placed_serial):
                self._doubt(standing, link, record)
                return False
        self._doubted.pop(node, None)
        record.shown = max(record.shown, placed) if record.incarnation == attach.incarnation else placed
        record.order, record.taken, record.attached_at_ms = order, members.next_event(), self._context.now_ms
        return True

    def _shown(self, link: NodeLink, attach: m.Attach) -> tuple[int, int] | None:
        """Return epoch and serial of the placement that is shown; None if it is not for this way."""
        cluster, node = self._context.config.cluster, attach.node
        try:
            placement = open_placement(self._context.verify, attach.placement, cluster=cluster, node=node)
        except (SecurityError, ProtocolError) as error:
            if link.peer == node:
                return 0, 0  # its certificate vouches for it
            raise ProtocolError(f"n{link.peer} may not speak for n{node}: {error}") from error
        if link.peer != node and self._context.members.was_placed_before(node, placement.holder):
            self._ignore(link, node, "its placement is that of a host that had this number before")
            return None
        path = [hop.node for hop in placement.path]
        if link.peer in (node, *path) or any(link.mask >> hop & 1 for hop in path if hop >= 0):
            return placement.epoch, placement.serial
        self._ignore(link, node, "no head has placed it there")
        return None

    def _ignore(self, link: NodeLink, node: int, why: str) -> None:
        told = self._told.get(why, 0)
        self._told[why] = told | 1 << node
        self._context.log(
            "debug" if told >> node & 1 else "info", f"n{link.peer} offers n{node}, which is not taken: {why}"
        )

    def _doubt(self, own: NodeLink, relay: NodeLink, record: KnownNode) -> None:
        if record.node not in self._doubted:
            self._ignore(relay, record.node, "it has a link of its own, and is asked over that")
            self._context.emit(Send(own.link, m.Reattached(self._context.config.epoch)))
            self._context.await_somebody(DoubtDue(record.node), DOUBT_MS)
        self._doubted[record.node] = relay.link

    def silent(self, node: int) -> NodeLink | None:
        """The time to answer is over: return the node's own link if nothing came over it."""
        record = self._context.members.records.get(node)
        own = self._context.members.links.get(record.link) if record is not None and record.link is not None else None
        if node not in self._doubted or own is None or own.peer != node:
            return None
        if self._context.goes_on_waiting(DoubtDue(node), DOUBT_MS):
            return None
        if self._context.now_ms - own.heard_at_ms >= DOUBT_MS:
            return own
        del self._doubted[node]  # it is there, and a relay says what is not so
        return None

    def way_lost(self, node: int) -> None:
        """The node is not reached any more: whoever has offered it may offer it again."""
        relay = self._doubted.pop(node, None)
        if relay in self._context.members.links:
            self._context.emit(Send(relay, m.Reattached(self._context.config.epoch)))
