"""Runs name the same nodes in the same order, in as few numbers as their neighbours allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.wire.node_runs import block_places, nodes_in, ranks_in, runs_of


@given(st.lists(st.integers(0, 9)))
def test_runs_name_the_same_nodes(nodes: list[int]) -> None:
    assert nodes_in(runs_of(nodes)) == nodes


def test_neighbours_are_one_run_and_a_node_that_is_named_twice_begins_another() -> None:
    assert runs_of([4, 5, 6, 6, 7, 2]) == [4, 3, 6, 2, 2, 1]
    assert runs_of(list(range(1000))) == [0, 1000]
    assert runs_of([]) == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(1, 40))
def test_ranks_are_in_blocks_on_the_nodes_and_differ_by_one_at_most(nodes: list[int], total: int) -> None:
    runs = runs_of(nodes)
    places = nodes_in(runs, total)
    assert places == block_places(nodes, total)
    assert len(places) == total
    counts = [len(range(index, total, len(nodes))) for index in range(len(nodes))]
    assert places == [node for node, count in zip(nodes, counts, strict=True) for _ in range(count)]
    for node in range(7):
        assert ranks_in(runs, node, total) == [rank for rank, at in enumerate(places) if at == node]


def test_as_many_ranks_as_nodes_are_one_on_each() -> None:
    assert nodes_in([4, 3], 3) == nodes_in([4, 3]) == [4, 5, 6]
    assert nodes_in([], 3) == []
