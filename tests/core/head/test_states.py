"""The states of a node and of a rank, as the head sees them: what leads to each, and the words that users are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heorot.core.head.ends import ExitedRank, LostRank
from heorot.core.head.job import HeadJob
from heorot.core.head.membership import KnownNode
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.states import NODE, RANK, NodeChange, NodeState, RankChange, RankState
from heorot.core.head.timers import GraceDue
from heorot.core.machine import NodesRemoved, Received
from heorot.core.states import ImpossibleStep
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, ticket


def record_of(rig: HeadRig, node: int = 0) -> KnownNode:
    """Return what the head knows of a node."""
    return rig.machine.members.records[node]


def stands(rig: HeadRig) -> tuple[NodeState, str, bool]:
    """Return the state of n0, the word that is told of it, and whether it is among those that are up."""
    record = record_of(rig)
    assert record.is_up == (record.word == "up")
    assert (record.link is None) == (record.state in (NodeState.DOWN, NodeState.DETACHED))
    return record.state, record.word, 0 in rig.machine.members.up


def test_a_node_boots_is_up_is_away_for_a_while_and_is_given_up() -> None:
    rig = HeadRig(1)
    assert stands(rig) == (NodeState.DOWN, "down", False)
    link = rig.connect(0)
    rig.up(0, m.Attach(0, 7, "host0", 1, b"", order=1), link)
    assert stands(rig) == (NodeState.BOOT, "boot", False)
    rig.up(0, m.Inventory(7, []))
    assert stands(rig) == (NodeState.UP, "up", True)
    rig.close(0)
    assert stands(rig) == (NodeState.DETACHED, "up", True)
    rig.attach(0)
    assert stands(rig) == (NodeState.UP, "up", True)
    rig.close(0)
    rig.wait(5_000, GraceDue(0))
    assert stands(rig) == (NodeState.DOWN, "down", False)
    assert NODE.story_of(record_of(rig)) == (
        "down ─attached▶ boot ─listed▶ up ─way lost▶ detached ─attached▶ up ─listed▶ up ─way lost▶ detached"
        " ─grace over▶ down"
    )


def test_a_node_that_is_lost_before_it_has_said_what_it_holds_has_no_grace() -> None:
    rig = HeadRig(1)
    rig.up(0, m.Attach(0, 7, "host0", 1, b"", order=1), rig.connect(0))
    rig.close(0)
    assert stands(rig) == (NodeState.DOWN, "down", False)


def test_what_ran_on_a_node_is_gone_with_its_space_with_its_incarnation_and_with_its_place() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    rig.up(0, m.SpaceGone(7))
    assert stands(rig) == (NodeState.ENDED, "down", False)
    rig.attach(0, incarnation=8)
    assert stands(rig) == (NodeState.UP, "up", True)
    rig.attach(0, incarnation=9)
    assert "up ─restarted▶ ended ─attached▶ boot ─listed▶ up" in NODE.story_of(record_of(rig))
    rig.give(NodesRemoved((0,)))
    assert stands(rig) == (NodeState.DOWN, "down", False)
    assert NODE.story_of(record_of(rig)).endswith("up ─removed▶ ended ─way lost▶ down")


def test_a_node_that_contradicts_itself_is_believed_the_last_word_and_ends_no_head() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    rig.up(0, m.SpaceGone(7))
    rig.up(0, m.SpaceGone(7))
    rig.give(Received(rig.links[0], m.Up(0, m.encode(m.Inventory(7, [])))))
    assert stands(rig) == (NodeState.UP, "up", True)


def test_a_grace_that_ends_for_a_node_that_is_reached_is_a_mistake_that_names_it() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    with pytest.raises(
        ImpossibleStep, match=r"n0 is up, where grace over cannot happen; .* down ─attached▶ boot ─listed▶ up"
    ):
        rig.machine.members.step(record_of(rig), NodeChange.GRACE_OVER)


def job_with_rank(state: RankState) -> HeadJob:
    """Return a job whose second rank of three is in this state."""
    job = HeadJob(ticket("1.1", [0, 3]), RankPlaces([0, 3]), False, 0)
    if state is not RankState.PENDING:
        job.start(1, 500)
    if state is RankState.STOPPED:
        job.stop(1, (1, 19, 0, 0))
    if state is RankState.OVER:
        job.end(1, LostRank(1, "it is gone"))
    return job


END = ExitedRank(0, 0, 0)
TAKES: list[tuple[RankChange, Callable[[HeadJob], bool]]] = [
    (RankChange.STARTED, lambda job: job.start(1, 600)),
    (RankChange.ENDED, lambda job: job.end(1, END)),
    (RankChange.ENDED, lambda job: job.fail(m.Failure(1, 1, 2, "no such file"))),
]
TAKES_MANY: list[tuple[RankChange, Callable[[HeadJob], bool]]] = [
    (RankChange.STARTED, lambda job: job.start_run(1, [600])),
    (RankChange.STARTED, lambda job: job.start_all([1], [600])),
    (RankChange.ENDED, lambda job: job.end_run(1, 1, END)),
    (RankChange.ENDED, lambda job: job.end_all([1], [1, 1, 0, 0, 0])),
]


@pytest.mark.parametrize("state", RankState)
def test_a_job_takes_news_of_a_rank_as_the_table_says(state: RankState) -> None:
    after = {(before, change): then for before, change, then in RANK}
    for change, take in TAKES:
        job = job_with_rank(state)
        assert take(job) == (after[state, change] is not state)
        assert job.states[1] == after[state, change]
    for change, take in TAKES_MANY:
        job = job_with_rank(state)
        taken = take(job)
        # Or it leaves them to the former, one by one.
        assert job.states[1] == (after[state, change] if taken else state)
        alive = job.states.count(RankState.RUNNING) + job.states.count(RankState.STOPPED)
        assert (job.running, job.over) == (alive, job.states.count(RankState.OVER))


@pytest.mark.parametrize("state", RankState)
def test_a_rank_stops_and_goes_on_as_the_table_says(state: RankState) -> None:
    after = {(before, change): then for before, change, then in RANK}
    for change, stands in ((RankChange.STOPPED, (3, 19, 0, 0)), (RankChange.CONTINUED, (4, 0, 0, 0))):
        job = job_with_rank(state)
        assert job.stop(1, stands) == (state in (RankState.RUNNING, RankState.STOPPED))
        assert job.states[1] == after[state, change]
        assert not job.stop(1, stands), "it is no news any more"
