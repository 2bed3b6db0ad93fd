"""On which nodes nothing may be started, because of what is wanted of them, and what is said of that.

A node that is drained takes no launch of anybody. In any other state than ``up`` root and the cluster's owner may start
processes, if they name it: that is how a node is looked after.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
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
    wished = NodeSet(nodes.mask & members.wished_mask)
    if not wished or not privileged(context, uid):
        return wished
    return NodeSet.of(node for node in wished if members.records[node].wish.state == DRAIN)


def refusal(context: HeadContext, closed: NodeSet) -> str:
    """Return a sentence that names these nodes, what each is set to, by whom and why."""
    alike: dict[tuple[str, str, str], list[int]] = {}
    for node in closed:
        wish = context.members.records[node].wish
        alike.setdefault((wish.state, wish.by, wish.reason), []).append(node)
    parts = []
    for (state, by, reason), nodes in list(alike.items())[:MAX_TOLD]:
        why = f": {reason}" if reason else ""
        parts.append(
            f"{NodeSet.of(nodes)} {'is' if len(nodes) == 1 else 'are'} set to {state} (by {by or 'root'}{why})"
        )
    if len(alike) > MAX_TOLD:
        parts.append("and others")
    return f"{', '.join(parts)}; 'bpstat -l' shows it"
