"""Ranks are where the ticket puts them until they have moved, and of two words on a move the later one counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.head.rank_places import RankPlaces
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.node_runs import nodes_in

RUNS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=4)
MOVES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9), st.integers(0, 3)), max_size=12)


@given(RUNS, MOVES)
def test_all_that_is_said_of_places_agrees_wherever_ranks_go(
    flat: list[tuple[int, int]], moves: list[tuple[int, int, int]]
) -> None:
    runs = [value for run in flat for value in run]
    places, nodes, generations = RankPlaces(runs), nodes_in(runs), dict[int, int]()
    for rank, node, generation in moves:
        if rank not in places:
            continue
        is_news = generation > generations.get(rank, 0)
        assert places.move(rank, node, generation) is is_news
        if is_news:
            nodes[rank], generations[rank] = node, generation
    assert list(places.nodes) == nodes_in(places.runs) == nodes
    assert places.node_set == NodeSet.of(nodes)
    assert places.one_on_each == (len(set(nodes)) == len(nodes) == len(places))
    for node in range(12):
        assert places.ranks_on(node) == [rank for rank, where in enumerate(nodes) if where == node]
    for rank, node in enumerate(nodes):
        assert places.has(node, rank)
        assert places.has_run(node, rank, 1)
        assert not places.has(node + 1, rank)
        assert not places.has_run(node + 1, rank, 1)
        assert places.generation_of(rank) == generations.get(rank, 0)
    assert not places.has_run(nodes[-1], len(nodes) - 1, 2)
    assert not places.has_run(nodes[0], -1, 1)


def test_a_run_is_of_consecutive_ranks_on_consecutive_nodes_also_beside_one_that_has_moved() -> None:
    places = RankPlaces([4, 4])
    assert places.has_run(4, 0, 4)
    assert places.move(3, 9, 1)
    assert not places.has_run(4, 0, 4)
    assert places.has_run(4, 0, 3)
    assert places.runs == [4, 3, 9, 1]
