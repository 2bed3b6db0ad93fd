"""Two trees over the same members."""

from __future__ import annotations

from collections import Counter

import pytest

from heorot.core.images.two_trees import TREES, Order, parent_in, parent_rank, root_of

SIZES = [2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100, 255, 256, 257, 1000]


def _depth(tree: int, rank: int, members: int) -> int:
    depth = 0
    while (parent := parent_in(tree, rank, members)) is not None:
        depth, rank = depth + 1, parent
        assert depth <= members, "a ring"
    return depth


@pytest.mark.parametrize("members", SIZES)
@pytest.mark.parametrize("tree", range(TREES))
def test_each_is_a_tree_with_one_root_two_children_at_most_and_little_depth(tree: int, members: int) -> None:
    parents = [parent_in(tree, rank, members) for rank in range(members)]
    assert [rank for rank, parent in enumerate(parents) if parent is None] == [root_of(tree, members)]
    assert max(Counter(parent for parent in parents if parent is not None).values()) <= 2
    assert max(_depth(tree, rank, members) for rank in range(members)) <= members.bit_length()


@pytest.mark.parametrize("members", SIZES)
def test_who_sends_on_in_one_tree_is_a_leaf_of_the_other(members: int) -> None:
    inner = [{parent_in(tree, rank, members) for rank in range(members)} - {None} for tree in range(TREES)]
    assert not inner[0] & inner[1]


def test_the_members_of_even_rank_are_leaves() -> None:
    assert all(parent_rank(rank, 1000) in (None, *range(1, 1000, 2)) for rank in range(1000))


@pytest.mark.parametrize("tops", [(0, 1), (1, 0), (5, 37), (37, 5), (31, 0), (16, 15)])
def test_the_tops_are_the_roots(tops: tuple[int, int]) -> None:
    nodes = list(range(38))
    order = Order(nodes, tops)
    for tree in range(TREES):
        assert [node for node in nodes if order.parent(tree, node) is None] == [tops[tree]]


def test_the_order_knows_its_members() -> None:
    order = Order([3, 5, 9], (3, 9))
    assert [node for node in range(12) if node in order] == [3, 5, 9]
