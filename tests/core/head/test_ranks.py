"""More ranks than nodes: where a head believes them to be, what it tells, and what the next head makes of it."""

from __future__ import annotations

import pytest

from heorot.core.client.job import JobState
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.node_runs import nodes_in
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import KEY, hand_over, new_head


@pytest.fixture
def head() -> HeadRig:
    """A head with n0 to n4."""
    rig = HeadRig(5)
    for node in range(5):
        rig.attach(node)
    rig.client()
    return rig


def test_ranks_are_in_blocks_and_only_their_nodes_are_asked(head: HeadRig) -> None:
    head.ask(spawn_of(1, "n[0-4]", ranks=7, ranks_per_node=3))
    launches = head.commands(m.Launch)
    assert [where for where, _ in launches] == ["n0", "n1", "n2"]
    launch = launches[0][1]
    sent = m.decode_ticket(launch.ticket)
    assert [m.ranks_on(sent, node) for node in range(4)] == [[0, 1, 2], [3, 4], [5, 6], []]
    (spawned,) = (told for told in head.told() if isinstance(told, c.Spawned))
    state = JobState(1)
    state.spawned(spawned.job, spawned.runs, spawned.window_bytes, spawned.spare_bytes, spawned.ranks)
    assert state.nodes == list(head.machine.jobs.jobs[spawned.job].nodes) == [0, 0, 0, 1, 1, 2, 2]


def test_nodes_behind_those_that_get_ranks_may_be_down(head: HeadRig) -> None:
    head.close(4)
    head.ask(spawn_of(1, "n[0-4]", ranks=2))
    assert [where for where, _ in head.commands(m.Launch)] == ["n0", "n1"]


def test_one_rank_on_each_is_told_as_it_always_was(head: HeadRig) -> None:
    head.ask(spawn_of(1, "n[0-4]", ranks=5))
    (spawned,) = (told for told in head.told() if isinstance(told, c.Spawned))
    assert (spawned.runs, spawned.ranks) == ([0, 5], 0)


def test_what_cannot_be_spread_is_refused(head: HeadRig) -> None:
    head.ask(spawn_of(1, "n[0-1]", ranks=9, ranks_per_node=4))
    (error,) = head.told()
    assert isinstance(error, c.Error)
    assert (error.code, error.message) == ("bad-request", "9 ranks, 4 on each node, need 3 nodes; the list has 2")
    assert head.commands(m.Launch) == []


def test_nodes_of_another_release_are_not_asked_for_what_they_may_not_know(head: HeadRig) -> None:
    head.up(3, m.Attach(3, 7, "host3", 1, b"", release="0.0.1", order=9))
    head.ask(spawn_of(1, "n[0-4]", ranks_per_node=2))
    (error,) = (told for told in head.told() if isinstance(told, c.Error))
    assert error.message == "n3 may not know what this launch asks for: release test is needed there"
    head.looked()
    head.ask(spawn_of(2, "n[0-4]"))
    assert head.commands(m.Launch) != []


def test_a_new_head_finds_the_ranks_where_the_ticket_has_put_them() -> None:
    head = new_head(2)
    sealed = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0, ranks=3))
    head.attach(0, [held("1.1", running=[0, 100, 1, 101])])
    head.attach(1, [held("1.1", running=[2, 200])])
    hand_over(head, 0, sealed)
    job = head.machine.jobs.jobs["1.1"]
    assert list(job.nodes) == nodes_in([0, 2], 3) == [0, 0, 1]
    assert (job.running, job.pids) == (3, [100, 101, 200])
    head.report(0, "1.1", exited=[1, 0, 0, 0])
    assert job.live_ranks_on(0) == [0]
