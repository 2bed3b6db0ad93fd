"""Where nodes belong: the ideal tree, and what is left of it when some nodes are away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.head.membership import Membership
from heorot.core.machine import Instruction
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.shape import ancestors_of, is_ancestor, living_path, parent_of

NODES = st.integers(0, 5_000)
FANOUTS = st.integers(1, 64)


def test_up_to_the_fanout_the_tree_is_flat_and_a_thousand_nodes_are_two_levels() -> None:
    assert [parent_of(node, 32) for node in range(32)] == [HEAD] * 32
    assert max(len(ancestors_of(node, 32)) for node in range(1_024)) == 1
    assert [parent_of(node, 2) for node in range(2, 8)] == [0, 0, 1, 1, 2, 2]


@given(FANOUTS)
def test_nobody_has_more_children_than_the_fanout(fanout: int) -> None:
    children: dict[int, int] = {}
    for node in range(1_000):
        parent = parent_of(node, fanout)
        children[parent] = children.get(parent, 0) + 1
    assert max(children.values()) <= fanout


@given(NODES, FANOUTS)
def test_the_path_leads_from_the_head_to_the_parent(node: int, fanout: int) -> None:
    path = ancestors_of(node, fanout)
    for child, parent in zip([*path, node], [HEAD, *path], strict=True):
        assert parent_of(child, fanout) == parent
        assert parent < child


@given(NODES, NODES, FANOUTS)
def test_an_ancestor_is_who_is_on_the_path_or_the_node_itself(ancestor: int, node: int, fanout: int) -> None:
    assert is_ancestor(ancestor, node, fanout) == (ancestor in [*ancestors_of(node, fanout), node])


@given(NODES, FANOUTS, st.sets(NODES))
def test_the_living_path_leaves_out_who_is_away(node: int, fanout: int, away: set[int]) -> None:
    usable = NodeSet.of(set(range(5_001)) - away)
    assert living_path(node, fanout, usable) == [hop for hop in ancestors_of(node, fanout) if hop not in away]


def test_an_unknown_node_with_a_valid_certificate_gets_a_record_in_its_place() -> None:
    members = Membership(2, (5, 1), NodesBelow(list[Instruction]().append))
    members.record(3)
    assert list(members.records) == [1, 3, 5]
