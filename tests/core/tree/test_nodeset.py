"""Node sets against Python's own sets as the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.tree.nodeset import MAX_NODES, NodeSet

members = st.sets(st.integers(0, 300) | st.integers(0, MAX_NODES - 1), max_size=60)


@given(members)
def test_holds_what_it_was_given_in_ascending_order(numbers: set[int]) -> None:
    nodes = NodeSet.of(numbers)
    assert list(nodes) == sorted(numbers)
    assert len(nodes) == len(numbers)
    assert bool(nodes) == bool(numbers)
    assert all(number in nodes for number in numbers)


@given(members, members)
def test_operators_agree_with_sets(left: set[int], right: set[int]) -> None:
    assert set(NodeSet.of(left) & NodeSet.of(right)) == left & right
    assert set(NodeSet.of(left) | NodeSet.of(right)) == left | right
    assert set(NodeSet.of(left) - NodeSet.of(right)) == left - right
    assert (NodeSet.of(left) == NodeSet.of(right)) == (left == right)


@given(members)
def test_ranges_are_ascending_never_touch_and_round_trip(numbers: set[int]) -> None:
    nodes = NodeSet.of(numbers)
    ranges = nodes.ranges()
    bounds = list(zip(ranges[::2], ranges[1::2], strict=True))
    assert all(first <= last for first, last in bounds)
    assert all(bounds[i][1] + 1 < bounds[i + 1][0] for i in range(len(bounds) - 1))
    assert NodeSet.from_ranges(ranges) == nodes
    assert hash(NodeSet.from_ranges(ranges)) == hash(nodes)


@pytest.mark.parametrize(
    ("numbers", "folded"),
    [([], ""), ([3], "n3"), ([0, 1, 2], "n[0-2]"), ([70, *range(64)], "n[0-63,70]"), ([1, 3], "n[1,3]")],
)
def test_folds(numbers: list[int], folded: str) -> None:
    assert str(NodeSet.of(numbers)) == folded


@pytest.mark.parametrize("ranges", [[1], [2, 1], [-1, 3], [0, MAX_NODES], [0, 1, 2]])
def test_hostile_ranges_are_refused(ranges: list[int]) -> None:
    with pytest.raises(ProtocolError):
        NodeSet.from_ranges(ranges)


@pytest.mark.parametrize("number", [-1, MAX_NODES])
def test_numbers_out_of_bounds_are_refused(number: int) -> None:
    with pytest.raises(ProtocolError, match=str(number)):
        NodeSet.of([number])
    assert number not in NodeSet.of(range(10))
