"""What is said of nodes that are closed: which, to what, by whom and why, and not without end."""

from __future__ import annotations

from heorot.core.head.closed_nodes import closed_to, privileged, refusal
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.wishes import NodeWish
from tests.core.rigs import HeadRig


def test_nodes_that_are_alike_are_told_together_and_of_many_kinds_a_few() -> None:
    wishes = [NodeWish(node, 1, 1, "drain", "fan", "root") for node in (0, 1)]
    wishes += [NodeWish(node, 1, 1, "drain", f"fan {node}", "root") for node in range(2, 8)]
    context = HeadRig(9, wishes=tuple(wishes)).machine.context
    text = refusal(context, NodeSet.of(range(8)))
    assert text.startswith("n[0-1] are set to drain (by root: fan), n2 is set to drain (by root: fan 2), ")
    assert "fan 4" in text
    assert "fan 5" not in text
    assert "and others" in text


def test_a_drained_node_is_closed_to_everybody_and_any_other_state_to_users() -> None:
    wishes = (NodeWish(0, 1, 1, "drain"), NodeWish(1, 1, 1, "mine"))
    context = HeadRig(3, owner=500, wishes=wishes).machine.context
    all_of_them = NodeSet.of(range(3))
    assert str(closed_to(context, 1000, all_of_them)) == "n[0-1]"
    assert [str(closed_to(context, uid, all_of_them)) for uid in (0, 500)] == ["n0", "n0"]
    assert [privileged(context, uid) for uid in (0, 500, 1000)] == [True, True, False]
