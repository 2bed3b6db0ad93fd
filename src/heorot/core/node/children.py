"""The neighbours below a node: which nodes are reached through each, and who may speak for whom.

A child may speak only for nodes that it has brought in with a placement that the head has signed.
"""

from __future__ import annotations

from heorot.core.errors import SecurityError
from heorot.core.node.config import NodeConfig
from heorot.core.routes import Side
from heorot.core.tickets import Verify, open_placement
from heorot.core.tree.accumulator import report_for
from heorot.core.tree.greeting import removal
from heorot.core.tree.runs import flat
from heorot.core.wire import tree as m


class Child:
    """A neighbour below: its link, and the nodes that are reached through it."""

    __slots__ = ("doubted", "greeted", "heard_at_ms", "holder", "is_peer", "link", "mask", "node")

    def __init__(self, link: int, node: int, now_ms: int, holder: bytes = b"") -> None:
        self.link = link
        self.node = node
        self.holder = holder
        """Which key its certificate is for."""
        self.mask = 0
        self.greeted = False
        self.is_peer = False
        """It is no child: it comes for images only, and is never `greeted`."""
        self.doubted = False
        """It said at its last heartbeat that it reaches another number of nodes than are known."""
        self.heard_at_ms = now_ms

    @property
    def side(self) -> Side:
        """As whom it speaks."""
        if self.greeted:
            return Side.CHILD
        return Side.VISITOR if self.is_peer else Side.NEWCOMER


class Children:
    """All children, by link. At most one of them reaches a node."""

    def __init__(self, config: NodeConfig, verify: Verify) -> None:
        self.by_link: dict[int, Child] = {}
        self._config = config
        self._verify = verify
        self.barred = 0
        """Mask of the nodes that were removed from the cluster."""
        self.former: frozenset[tuple[int, bytes]] = frozenset()
        """Numbers that were given anew, and to whom they were given before."""
        self._newest: dict[int, tuple[int, int, tuple[int, int]]] = {}
        """Incarnation, order, and epoch and serial of the placement with which each node below was admitted."""
        self.addresses: dict[int, tuple[str, int]] = {}
        """Where each node below accepts neighbours."""

    @property
    def mask(self) -> int:
        """Every node that is reached through a child."""
        mask = 0
        for child in self.by_link.values():
            mask |= child.mask
        return mask

    def is_barred(self, node: int, holder: bytes) -> bool:
        """Say whether the head has said that this neighbour is none of the cluster's any more."""
        return node >= 0 and (bool(self.barred >> node & 1) or (node, holder) in self.former)

    def admit(self, child: Child, node: int, attach: m.Attach) -> bool:
        """Reach a node through this child from now on; return False if a newer attachment was admitted before.

        Raises
        ------
        SecurityError
            If the head did not place the node here.
        ProtocolError
            If its placement cannot be read.
        """
        here = self._config.node
        if attach.node != node:
            raise SecurityError(f"n{node} attaches as n{attach.node}")
        if self.barred >> node & 1:
            raise SecurityError(removal(node))
        placement = open_placement(self._verify, attach.placement, cluster=self._config.cluster, node=node)
        path = [hop.node for hop in placement.path]
        if child.node == node:
            if here not in path:
                raise SecurityError(f"the head did not place n{node} below n{here}")
        elif not any(child.mask >> hop & 1 for hop in path if hop >= 0):
            # Its ancestors are admitted before it. One of them may have moved below others since it was placed: so
            # what its placement must name is any node that is admitted through this child.
            raise SecurityError(f"the head did not place n{node} below n{child.node}")
        placed = placement.epoch, placement.serial
        if self._is_overtaken(child, node, attach, placed):
            return False
        self._newest[node] = (attach.incarnation, attach.order, placed)
        self.addresses[node] = (attach.host, attach.port)
        bit = 1 << node
        for other in self.by_link.values():
            other.mask &= ~bit
        child.mask |= bit
        return True

    def _is_overtaken(self, child: Child, node: int, attach: m.Attach, placed: tuple[int, int]) -> bool:
        """Whether a newer attachment counts: a node that was broken into must not keep one out with a high order.

        So no order counts against a newer placement, nor after the way that it was said on
        (`heorot.core.head.attachments`).
        """
        known = self._newest.get(node)
        if known is None:
            return False
        incarnation, order, newest = known
        if not any(other.mask >> node & 1 for other in self.by_link.values() if other is not child):
            return False
        return incarnation == attach.incarnation and order > attach.order and placed <= newest


def speakable(child: Child, report: m.Report) -> m.Report | None:
    """Return what of a report its sender may say; None if that is nothing.

    A node that has just moved may still be spoken of on its former way. That is no breach of the protocol, and
    nothing is lost by leaving it out: its inventory says it again on the new way.
    """
    mask = child.mask
    report = flat(report, mask)
    nodes = report.started[0::3] + report.exited[0::5]
    nodes += [failure.node for failure in report.failed] + [note.node for note in report.notes]
    if all(node >= 0 and mask >> node & 1 for node in nodes):
        return report
    return report_for(mask, report)
