"""Runs name the same nodes in the same order, in as few numbers as their neighbours allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.wire.node_runs import nodes_in, runs_of


@given(st.lists(st.integers(0, 9)))
def test_runs_name_the_same_nodes(nodes: list[int]) -> None:
    assert nodes_in(runs_of(nodes)) == nodes


def test_neighbours_are_one_run_and_a_node_that_is_named_twice_begins_another() -> None:
    assert runs_of([4, 5, 6, 6, 7, 2]) == [4, 3, 6, 2, 2, 1]
    assert runs_of(list(range(1000))) == [0, 1000]
    assert runs_of([]) == []
