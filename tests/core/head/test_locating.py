"""A process is asked for where its number says, where its rank has moved to, or everywhere if neither is known."""

from __future__ import annotations

from heorot.core.head.rank_places import RankPlaces
from heorot.core.tree.nodeset import NodeSet
from tests.core.rigs import HeadRig


def head_of(pid_range: int) -> HeadRig:
    """Return a head with three nodes and a client."""
    rig = HeadRig(3, pid_range=pid_range)
    for node in range(3):
        rig.attach(node)
    rig.client()
    rig.looked()
    return rig


def test_a_number_tells_the_node_and_one_of_no_node_is_asked_for_everywhere() -> None:
    locator = head_of(1000).machine.requests.locator
    assert [locator.locate(pid) for pid in (1000, 1999, 3999, 4000, 7)] == [0, 0, 2, None, None]
    assert locator.nodes_of([1000, -2001]) == NodeSet.of([0, 1])
    assert locator.nodes_of([1000, 9000]) == NodeSet.of([0, 1, 2])


def test_without_ranges_of_numbers_a_process_may_be_anywhere() -> None:
    locator = head_of(0).machine.requests.locator
    assert locator.locate(1000) is None
    assert locator.nodes_of([1000]) == NodeSet.of([0, 1, 2])


def test_a_process_that_has_moved_is_found_where_its_rank_is_until_it_ends() -> None:
    locator = head_of(1000).machine.requests.locator
    places = RankPlaces([0, 1])
    assert places.move(0, 2, 1)
    locator.follow(1234, places, 0)
    assert locator.locate(1234) == 2
    assert locator.nodes_of([-1234]) == NodeSet.of([2])
    assert locator.nodes_of([1235, -1234]) == NodeSet.of([0, 2])
    assert places.move(0, 1, 2)
    assert locator.locate(1234) == 1
    locator.forget(1234)
    assert locator.locate(1234) == 0
