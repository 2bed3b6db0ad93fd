"""A client may go when a node has its job, which it has launched detached or leaves, and not before."""

from __future__ import annotations

from typing import Any

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig
from tests.core.successors import acknowledged, new_head

IMAGE = b"i" * 32


def launched(nodes: int = 2) -> HeadRig:
    """Return a head that was asked for a detached job on all nodes, of which none has answered."""
    rig = HeadRig(nodes)
    for node in range(nodes):
        rig.attach(node)
    rig.client()
    rig.ask(spawn_of(1, f"0-{nodes - 1}", detached=True))
    assert rig.kinds() == []
    rig.looked()
    return rig


def test_a_job_is_acknowledged_when_a_node_has_it() -> None:
    rig = launched()
    rig.up(1, m.LaunchCopy("1.1", b"ticket", b"signature"))
    assert rig.kinds() == [c.Spawned]


def test_a_job_is_refused_when_all_of_its_nodes_are_lost_before_one_is_known_to_have_it() -> None:
    rig = launched()
    rig.up(0, m.SpaceGone(7))
    assert rig.told() == []
    rig.up(1, m.SpaceGone(7))
    (error,) = rig.told()
    assert error == c.Error(
        1, "launch-unknown", "n[0-1] were lost before it was known whether the job was started there"
    )
    rig.looked()
    rig.up(0, m.Inventory(7, [m.JobInventory("1.1", [0, 10], [], [], 0)]))
    assert ("n0", m.Release("1.1")) in rig.commands()


def test_a_node_that_is_lost_after_it_had_the_job_does_not_speak_for_it() -> None:
    rig = launched()
    rig.up(0, m.LaunchCopy("1.1", b"", b""))
    rig.up(0, m.SpaceGone(7))
    rig.report(1, "1.1", started=[1, 11])
    assert rig.kinds() == [c.Spawned]
    rig.looked()
    rig.up(1, m.SpaceGone(7))
    assert rig.kinds() == []


def left(head: HeadRig, job: str = "1.1", request: int = 2) -> list[c.HeadMessage]:
    """Let the reader of a job leave it running; return what it is told at once."""
    head.looked()
    head.ask(c.Detach(request, job))
    return head.told()


def attended(nodes: int = 2, **fields: Any) -> HeadRig:
    """Return a head that was asked for a job whose client stays, of which no node has said anything."""
    rig = HeadRig(nodes)
    for node in range(nodes):
        rig.attach(node)
    rig.client()
    rig.ask(spawn_of(1, f"0-{nodes - 1}", **fields))
    return rig


def test_a_client_may_leave_a_job_when_a_node_has_it() -> None:
    rig = attended()
    assert left(rig) == []
    assert [where for where, _ in rig.commands(m.FetchLaunch)] == ["n0", "n1"]
    rig.up(0, m.LaunchCopy("1.1", b"", b""))
    assert rig.told() == [], "it has not come to n0"
    rig.up(1, m.LaunchCopy("1.1", b"ticket", b"signature"))
    assert rig.told() == [c.Result(2, None)]


def test_a_client_may_leave_a_job_that_runs_at_once() -> None:
    rig = attended()
    rig.report(0, "1.1", started=[0, 10])
    assert left(rig) == [c.Result(2, None)]


def test_what_was_handed_over_by_its_client_is_not_known_to_be_on_a_node() -> None:
    again, spawned = acknowledged(1)
    rig = new_head(1)
    rig.attach(0)
    rig.ask(again)
    assert left(rig, spawned.job) == []
    rig.report(0, spawned.job, started=[0, 10])
    assert rig.told() == [c.Result(2, None)]


def test_a_client_stays_until_its_program_is_kept_by_others_or_needed_no_more() -> None:
    rig = attended(image=IMAGE, program=b"/bin/x")
    rig.report(0, "1.1", started=[0, 10])
    assert left(rig) == []
    rig.report(1, "1.1", started=[1, 11])
    assert rig.told() == [c.Result(2, None)]


def test_a_client_leaves_a_job_whose_nodes_are_lost_as_one_that_is_over() -> None:
    rig = attended(1)
    assert left(rig) == []
    rig.up(0, m.SpaceGone(7))
    assert rig.told() == [c.Result(2, None)]
    assert rig.machine.jobs.jobs["1.1"].done


def test_who_goes_without_waiting_is_not_answered_and_the_job_goes_on() -> None:
    rig = attended(1)
    left(rig)
    rig.leave()
    rig.report(0, "1.1", started=[0, 10])
    assert rig.told() == []
    assert not rig.commands(m.Query)


def test_who_reads_a_job_that_is_not_acknowledged_yet_may_leave_it_when_it_is() -> None:
    rig = launched()
    rig.ask(c.AttachJob(2, "1.1", True))
    assert left(rig, request=3) == []
    rig.ask(c.AttachJob(4, "1.1", True))
    assert left(rig, request=5) == [
        c.Error(5, "busy", "you are leaving job 1.1 already, and no node is known to have it yet")
    ]
    rig.looked()
    rig.up(1, m.LaunchCopy("1.1", b"ticket", b"signature"))
    spawned, result = rig.told()
    assert (spawned.request, result) == (1, c.Result(3, None))
