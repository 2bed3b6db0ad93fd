"""The nodes of which a head that may have a successor hears nothing: it cannot say what state they are in.

A head that is certain to lead gives a silent node up after the grace, and then says that it is down. One that is not
gives no node up (`heorot.core.head.tenure`), and a node that it took for up long ago may work for another head by now.
What such a head shows is *unknown*, and for how long it has been.
"""

from __future__ import annotations

from msgspec import Struct

from heorot.core.head.context import HeadContext
from heorot.core.tree.nodeset import NodeSet

UNKNOWN = "unknown"
"""The state that is shown of a node of which the head cannot tell whether it is up."""


class Contact(Struct, frozen=True):
    """What is out of reach of a head that may have a successor."""

    lost: NodeSet
    """The nodes that were up, or about to be, when they were heard of last."""
    unknown: NodeSet
    """Of these no state can be told: those that are lost, and all others, too, if the head hears nobody at all."""
    is_with_nobody: bool
    """The head hears no node at all."""
    since_ms: int
    """For how long the first of the lost ones has not been heard of; 0 if none is lost."""

    @property
    def text(self) -> str:
        """A sentence about the lost nodes; empty if there are none."""
        if not self.lost:
            return ""
        what = "any node" if self.is_with_nobody else str(self.lost)
        return (
            f"this head has had no contact with {what} for {self.since_ms / 1000:.0f} s, and another one may lead:"
            " ask on the host of another head"
        )


def contact_of(context: HeadContext) -> Contact:
    """Return what the head can tell of nobody now."""
    tenure, members, now_ms = context.tenure, context.members, context.now_ms
    if tenure.is_certain(now_ms):
        return Contact(NodeSet(), NodeSet(), False, 0)
    # By then a node that is there has asked several times whether this head is.
    patience_ms = context.config.lease_ms or context.config.link_timeout_ms
    heard = 0
    for link in context.below.by_link.values():
        if now_ms - link.heard_at_ms <= patience_ms:
            heard |= link.mask
    lost = NodeSet.of(node for node in members.known if not heard >> node & 1 and members.records[node].word != "down")
    since_ms = 0
    for node in lost:
        record = members.records[node]
        last_ms = record.heard_at_ms if record.link is None else context.below.by_link[record.link].heard_at_ms
        since_ms = max(since_ms, now_ms - last_ms)
    return Contact(lost, lost if heard else members.known, not heard, since_ms)
