"""On which nodes nothing may be started, because of what is wanted of them, and what is said of that.

A node that is drained takes no launch of anybody. In any other state than ``up`` root and the cluster's owner may start
processes, if they name it: that is how a node is looked after.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode
from heorot.core.quota import ROOT
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.wishes import DRAIN

MAX_TOLD = 4
"""Different states that one refusal tells of."""


def privileged(context: HeadContext, uid: int) -> bool:
    """Say whether this user administers the cluster: root, and who has started it without root."""
    return uid in (ROOT, context.config.owner)


def closed_to(context: HeadContext, uid: int, nodes: NodeSet) -> NodeSet:
    """Return those of these nodes on which this user may start nothing because of what is wanted of them."""
    members = context.members
    closed = NodeSet(nodes.mask & members.closed_mask)
    if not closed or not privileged(context, uid):
        return closed
    return NodeSet.of(node for node in closed if members.records[node].wish.state == DRAIN)


def refusal(context: HeadContext, closed: NodeSet) -> str:
    """Return a sentence that names these nodes, what each is set to, by whom and why."""
    alike: dict[str, list[int]] = {}
    for node in closed:
        alike.setdefault(_what(context.members.records[node]), []).append(node)
    parts = []
    for what, nodes in list(alike.items())[:MAX_TOLD]:
        parts.append(f"{NodeSet.of(nodes)} {'is' if len(nodes) == 1 else 'are'} {what}")
    if len(alike) > MAX_TOLD:
        parts.append("and others")
    return f"{', '.join(parts)}; 'bpstat -l' shows it"


def _what(record: KnownNode) -> str:
    wish = record.wish
    if not wish.state:
        return "boot, because the site's node_up has not ended for it"
    return f"set to {wish.state} (by {wish.by or 'root'}{f': {wish.reason}' if wish.reason else ''})"
