"""Which attachment of a node counts, when a neighbour below speaks for it: that neighbour may have been broken into.

A node's own link is shown by its certificate. Every other way to it needs a placement that a head has signed for that
node, and that names a node which is reached through the neighbour. Placements of earlier heads count, because with them
nodes come to a new head; so an old one may be shown again by a neighbour that the node has left. Therefore:

- An attachment under an older placement than the node has shown does not replace a way that stands.
- Nor does one replace the node's own link, unless a head has just sent the node there. Perhaps it has lost that link,
  and this end does not know yet: so it is asked over it to attach again. When it does, nothing has happened; when that
  link ends, or nothing comes over it in `DOUBT_MS`, those behind the other way are asked.
- Among attachments under one placement the node's own order decides, as far as it can be true: it follows a clock. A
  link of its own that is newer than what was taken needs none, and no order outlives the way that it was taken on.

The head and every relay judge so. Only the head takes a node without a placement, over its own link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from heorot.core.context import MachineContext
from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import Send
from heorot.core.tickets import Verify, open_placement
from heorot.core.timers import Due
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.outcasts import Outcasts
from heorot.core.wire import tree as m

DOUBT_MS = 2_000
ORDER_SLACK_MS = 60_000
"""Orders are times on the node's clock; one message may have been on its way so much longer than another."""


class DoubtDue(Due, frozen=True, gc=False):
    """A node that has come another way may have a link of its own that is dead."""

    node: int


@dataclass(slots=True)
class NodeBelow:
    """What is known of the way to a node."""

    node: int
    link: int | None = None
    """The link through which it is reached; None: it is not."""
    incarnation: int | None = None
    host: str = ""
    """Where it accepts neighbours."""
    port: int = 0
    order: int = 0
    """Of its newest `Attach`."""
    shown: tuple[int, int] = (0, 0)
    """Epoch and serial of the newest placement that it has shown; zeros: of none."""
    attached_at_ms: int = 0
    taken: int = 0
    """When, in the sequence of events, its newest `Attach` was taken."""


class AttachPoint(Protocol):
    """Where these nodes are attached: a head, or a relay."""

    def known(self, node: int) -> NodeBelow | None:
        """Return what is known of a node; None: nothing."""

    def record(self, node: int) -> NodeBelow:
        """Return what is known of a node; from now on there is something."""

    def was_sent_there(self, record: NodeBelow, placed: tuple[int, int]) -> bool:
        """Say whether a head has sent a node to another way, by this placement, since it came over its own link."""

    def reattached(self) -> m.Reattached:
        """Return the word with which somebody below is asked to attach again."""


def latest_order(order: int, elapsed_ms: int) -> int:
    """Return the highest order that can be true so long after an attachment had `order`; clocks go nearly alike."""
    return order + elapsed_ms + elapsed_ms // 500 + ORDER_SLACK_MS


class Attachments:
    """See the module. `here`: the number of the node that takes them, or `HEAD`."""

    def __init__(
        self,
        context: MachineContext[Any],
        below: NodesBelow,
        point: AttachPoint,
        verify: Verify,
        cluster: str,
        here: int,
        outcasts: Outcasts,
    ) -> None:
        self._context = context
        self._below = below
        self._point = point
        self._verify = verify
        self._cluster = cluster
        self._here = here
        self._outcasts = outcasts
        self._doubted: dict[int, int] = {}
        """Nodes that were asked over their own link, and the link on which they were offered."""
        self._told: dict[str, int] = {}
        """By reason: mask of the nodes of which the log tells that they were not taken. A neighbour may offer them
        without end."""

    def take(self, link: LinkBelow, attach: m.Attach) -> NodeBelow | None:
        """Reach the node through this link from now on, and return what is known of it; None if this does not count.

        Its incarnation is left as it was before.

        Raises
        ------
        SecurityError
            If it is the neighbour itself, and was not placed here.
        ProtocolError
            If the neighbour may not speak for the node.
        """
        node, is_own = attach.node, link.peer == attach.node
        placed = self._shown(link, attach)
        if placed is None:
            return None
        record = self._point.record(node)
        standing = self._below.by_link.get(record.link) if record.link is not None else None
        order = attach.order
        if standing is not None and record.incarnation == attach.incarnation:
            # What its own link has said of its order is true.
            is_newer = link.opened > record.taken if is_own else standing.peer != node and placed > record.shown
            if order < record.order and not is_newer:
                return None  # overtaken by a newer one on another way
            if not is_own:
                order = min(order, latest_order(record.order, self._context.now_ms - record.attached_at_ms))
        if standing is not None and standing is not link and not is_own:
            if placed < record.shown:
                self.ignore(link, node, "the node has shown a newer placement")
                return None
            if standing.peer == node and not self._point.was_sent_there(record, placed):
                self._doubt(standing, link, node)
                return None
        self._doubted.pop(node, None)
        record.shown = max(record.shown, placed) if record.incarnation == attach.incarnation else placed
        record.order, record.taken, record.attached_at_ms = order, self._below.next_event(), self._context.now_ms
        record.host, record.port, record.link = attach.host, attach.port, link.link
        self._below.reach(node, link)
        return record

    def _shown(self, link: LinkBelow, attach: m.Attach) -> tuple[int, int] | None:
        """Return epoch and serial of the placement that is shown; None if it is not for this way."""
        node = attach.node
        try:
            placement = open_placement(self._verify, attach.placement, cluster=self._cluster, node=node)
        except (SecurityError, ProtocolError) as error:
            if link.peer != node:
                raise ProtocolError(f"n{link.peer} may not speak for n{node}: {error}") from error
            if self._here == HEAD:
                return 0, 0  # its certificate vouches for it
            raise SecurityError(str(error)) from error
        placed = placement.epoch, placement.serial
        path = [hop.node for hop in placement.path]
        if link.peer == node:
            if self._here != HEAD and self._here not in path:
                raise SecurityError(f"the head did not place n{node} below n{self._here}")
            return placed
        if self._outcasts.was_placed_before(node, placement.holder):
            self.ignore(link, node, "its placement is that of a host that had this number before")
            return None
        # Its ancestors are taken before it. One of them may have moved below others since it was placed: so what its
        # placement must name is any node that is reached through this neighbour.
        if any(link.mask >> hop & 1 for hop in path if hop >= 0):
            return placed
        self.ignore(link, node, "no head has placed it there")
        return None

    def ignore(self, link: LinkBelow, node: int, why: str) -> None:
        """Tell the log that an attachment is not taken: for each reason and node it is news once."""
        told = self._told.get(why, 0)
        self._told[why] = told | 1 << node
        self._context.log(
            "debug" if told >> node & 1 else "info", f"n{link.peer} offers n{node}, which is not taken: {why}"
        )

    def _ask_again(self, link: int) -> None:
        self._context.emit(Send(link, self._point.reattached()))

    def _doubt(self, own: LinkBelow, other: LinkBelow, node: int) -> None:
        if node not in self._doubted:
            self.ignore(other, node, "it has a link of its own, and is asked over that")
            self._ask_again(own.link)
            self._context.await_somebody(DoubtDue(node), DOUBT_MS)
        self._doubted[node] = other.link

    def silent(self, node: int) -> LinkBelow | None:
        """The time to answer is over: return the node's own link if nothing came over it."""
        record = self._point.known(node)
        own = self._below.by_link.get(record.link) if record is not None and record.link is not None else None
        if node not in self._doubted or own is None or own.peer != node:
            return None
        if self._context.goes_on_waiting(DoubtDue(node), DOUBT_MS):
            return None
        if self._context.now_ms - own.heard_at_ms >= DOUBT_MS:
            return own
        del self._doubted[node]  # it is there, and the other says what is not so
        return None

    def lost(self, mask: int) -> None:
        """These nodes are not reached any more: whoever has offered one of them may offer it again."""
        for node in NodeSet(mask):
            record = self._point.known(node)
            if record is not None:
                record.link = None
            other = self._doubted.pop(node, None)
            if other in self._below.by_link:
                self._ask_again(other)
