"""Reports in runs at the head: taken as a whole if all is as usual, rank by rank if anything is not."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.ends import ExitedRank
from heorot.core.head.timers import GraceDue
from heorot.core.machine import Received
from heorot.core.tree.runs import in_runs
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.rows import RankStatus, RankUsed
from tests.core.rigs import HeadRig


@pytest.fixture
def head() -> HeadRig:
    """A head with n0, which has n4 to n7 below it, and n3."""
    rig = HeadRig(8, fanout=4)
    rig.attach(0)
    rig.attach(3)
    for node in range(4, 8):
        rig.attach(node, below=[0])
    rig.client()
    return rig


def news(head: HeadRig) -> list[Any]:
    """Return what the client was told of its ranks."""
    return [told for told in head.told() if isinstance(told, (c.Started, c.Exited, c.ExitedAlike, c.Done))]


def say(head: HeadRig, job: str, sender: int = 0, **fields: Any) -> None:
    """Let a direct child report, in runs as a rule."""
    head.give(
        Received(head.links[sender], m.Report(**{"job": job, "started": [], "exited": [], "failed": []} | fields))
    )


def test_a_run_is_taken_and_told_as_a_whole(head: HeadRig) -> None:
    job = head.spawn("n[4-7]")
    head.looked()
    say(head, job, started_runs=[4, 0, 4], pids=[20, 21, 22, 23], exited_runs=[4, 0, 4, 256, 3, 0])
    assert news(head) == [
        c.Started(job, [0, 20, 1, 21, 2, 22, 3, 23]),
        c.ExitedAlike(job, [0, 4], 256, 3, 0),
        c.Done(job),
    ]
    known = head.machine.jobs.jobs[job]
    assert list(known.pids) == [20, 21, 22, 23]
    assert known.ends == dict.fromkeys(range(4), ExitedRank(256, 3, 0))
    assert (known.running, known.over) == (0, 4)


def test_what_was_killed_is_told_once_at_the_end_and_folded(head: HeadRig) -> None:
    job = head.spawn("n0,n[4-7]")
    head.looked()
    say(head, job, started_runs=[0, 0, 1, 4, 1, 4], pids=[9, 20, 21, 22, 23])
    say(head, job, exited_runs=[0, 0, 1, 0, 0, 0, 4, 1, 3, 0, 0, 0], killed=[0, 0, 2, 4, 1, 1, 6, 3, 1])
    # An inventory says it again.
    head.attach(0, [m.JobInventory(job, [], [0, 0, 0, 0], [], 0, [0, 2])])
    say(head, job, exited=[7, 4, 9, 0, 0])
    told = [told for told in head.told() if isinstance(told, c.Done)]
    assert told == [c.Done(job, "what it left running was ended: 4 processes on n[0,4,6]")]
    shown = head.machine.jobs.jobs[job].details()
    assert (shown.left_running, shown.left_running_by_rank) == (4, {"0": 2, "1": 1, "3": 1})


def test_of_a_rank_that_was_given_up_it_is_not_told_what_it_left_running(head: HeadRig) -> None:
    job = head.spawn("n3,n[4-7]")
    say(head, job, 3, started=[3, 0, 9])
    head.close(3)
    head.wait(5_000, GraceDue(3))
    # It has ended unseen: neither the snapshot of its node nor a report may say otherwise than that it is lost.
    head.attach(3, [m.JobInventory(job, [], [0, 0, 0, 0], [], 0, [0, 2])])
    say(head, job, 3, exited=[3, 0, 0, 0, 0], killed=[3, 0, 2])
    say(head, job, exited_runs=[4, 1, 4, 0, 0, 0], killed=[4, 1, 1])
    told = [told for told in head.told() if isinstance(told, (c.Lost, c.Exited, c.ExitedAlike, c.Done))]
    assert [type(message) for message in told] == [c.Lost, c.ExitedAlike, c.Done]
    assert told[-1] == c.Done(job, "what it left running was ended: 1 process on n4")
    shown = head.machine.jobs.jobs[job].details()
    assert (shown.left_running, shown.left_running_by_rank) == (1, {"1": 1})


@pytest.mark.parametrize("killed", [[4, 9, 1], [3, 0, 1]])
def test_a_count_on_a_node_that_does_not_have_the_rank_is_not_believed(head: HeadRig, killed: list[int]) -> None:
    job = head.spawn("n[4-7]")
    say(head, job, started_runs=[4, 0, 4], pids=[20, 21, 22, 23], killed=killed)
    assert not head.machine.jobs.jobs[job].killed
    assert head.machine.jobs.jobs[job].running >= 3


@pytest.mark.parametrize("killed", [[4, 0], [4, 0, -1]])
def test_a_count_that_cannot_be_true_is_a_breach_of_the_protocol(head: HeadRig, killed: list[int]) -> None:
    job = head.spawn("n[4-7]")
    with pytest.raises(ProtocolError):
        say(head, job, started_runs=[4, 0, 4], pids=[20, 21, 22, 23], killed=killed)
    assert not head.machine.jobs.jobs[job].killed


def used_told(head: HeadRig, client: int = 1) -> list[int]:
    """Return what a client was told that ranks have used."""
    return [number for told in head.told(client) if isinstance(told, c.Used) for number in told.ranks]


def test_what_ranks_have_used_is_kept_and_told_before_their_ends_to_those_who_want_to_hear_it(head: HeadRig) -> None:
    head.client(2, hears_used=True)
    quiet, told = head.spawn("n0,n[4-7]"), head.spawn("n0,n[4-7]", client=2)
    used = [5, 1, 0, 20, 2, 90_000, 21, 2, 90_000, 22, 2, 90_000, 23, 2, 90_000]
    for job in (quiet, told):
        say(head, job, exited_runs=[0, 0, 1, 0, 0, 0, 4, 1, 4, 0, 0, 0], used_runs=[0, 0, 1, 4, 1, 4], used=used)
        shown = head.machine.jobs.jobs[job].details().used
        assert shown["0"] == RankUsed(5, 1, None)
        assert shown["4"] == RankUsed(23, 2, 90_000 * 1024)
    assert used_told(head, 1) == []
    assert used_told(head, 2) == [0, 5, 1, 0, *(n for rank in range(1, 5) for n in (rank, 19 + rank, 2, 90_000))]
    kinds = head.kinds(2)
    assert kinds.index(c.Used) < kinds.index(c.ExitedAlike) < kinds.index(c.Done)


def test_who_attaches_is_told_what_ranks_have_used_that_are_over(head: HeadRig) -> None:
    job = head.spawn("n0,n[4-7]", detached=True)
    head.attach(0, [m.JobInventory(job, [], [0, 0, 0, 0], [], 0, used=[0, 5, 1, 70_000])])
    head.client(2, hears_used=True)
    head.ask(c.AttachJob(9, job, True), 2)
    assert used_told(head, 2) == [0, 5, 1, 70_000]


def test_of_a_rank_that_was_given_up_it_is_not_told_what_it_has_used(head: HeadRig) -> None:
    head.client(2, hears_used=True)
    job = head.spawn("n3,n[4-7]", client=2)
    say(head, job, 3, started=[3, 0, 9])
    head.close(3)
    head.wait(5_000, GraceDue(3))
    head.attach(3, [m.JobInventory(job, [], [0, 0, 0, 0], [], 0, used=[0, 5, 1, 0])])
    assert used_told(head, 2) == []
    assert head.machine.jobs.jobs[job].details().used == {}


def test_a_measure_that_cannot_be_true_is_a_breach_of_the_protocol(head: HeadRig) -> None:
    job = head.spawn("n[4-7]")
    with pytest.raises(ProtocolError):
        say(head, job, used_runs=[4, 0, 1], used=[1, 2, 1 << 60])
    assert head.machine.jobs.jobs[job].used(0) is None


@pytest.mark.parametrize("used_runs", [[4, 1, 1], [4, 3, 1], [7, 3, 2]])
def test_a_measure_of_a_rank_that_is_elsewhere_is_not_believed(head: HeadRig, used_runs: list[int]) -> None:
    job = head.spawn("n[4-7]")
    say(head, job, used_runs=used_runs, used=[1, 2, 3] * used_runs[2], exited_runs=[4, 0, 4, 0, 0, 0])
    shown = head.machine.jobs.jobs[job].details().used
    assert set(shown) == ({"3"} if used_runs[0] == 7 else set())


def test_runs_that_ended_alike_are_told_together(head: HeadRig) -> None:
    job = head.spawn("n0,n[4-7]")
    head.looked()
    say(head, job, started_runs=[0, 0, 1, 4, 1, 4], pids=[9, 20, 21, 22, 23], exited_runs=[])
    assert news(head) == [c.Started(job, [0, 9, 1, 20, 2, 21, 3, 22, 4, 23])]
    say(head, job, exited_runs=[0, 0, 1, 0, 0, 0, 4, 1, 4, 0, 0, 0])
    assert c.ExitedAlike(job, [0, 1, 1, 4], 0, 0, 0) in head.told()


def test_runs_that_ended_in_many_ways_are_told_in_one_message(head: HeadRig) -> None:
    job = head.spawn(",".join(["n[4-7]"] * 5))
    starts = [value for run in range(5) for value in (4, 4 * run, 4)]
    ends = [value for run in range(5) for value in (4, 4 * run, 4, 0, run, 0)]
    say(head, job, started_runs=starts, pids=list(range(20)), exited_runs=ends)
    (exited,) = [told for told in news(head) if isinstance(told, (c.Exited, c.ExitedAlike))]
    assert exited == c.Exited(job, [value for rank in range(20) for value in (rank, 0, rank // 4, 0)])


def test_a_run_that_says_again_what_is_known_in_part_adds_the_rest_only(head: HeadRig) -> None:
    job = head.spawn("n[4-7]")
    say(head, job, started_runs=[4, 0, 2], pids=[20, 21], exited_runs=[4, 0, 2, 0, 0, 0])
    head.looked()
    say(head, job, started_runs=[4, 0, 4], pids=[20, 21, 22, 23], exited_runs=[4, 0, 4, 0, 0, 0])
    assert news(head) == [
        c.Started(job, [2, 22, 3, 23]),
        c.ExitedAlike(job, [2, 2], 0, 0, 0),
        c.Done(job),
    ]
    assert head.machine.jobs.jobs[job].over == 4


def test_a_sender_speaks_only_for_its_own_part_of_a_run(head: HeadRig) -> None:
    job = head.spawn("n[3-6]")
    head.looked()
    # n3 is not below n0: perhaps it was a moment ago.
    say(head, job, started_runs=[3, 0, 4], pids=[1, 2, 3, 4], exited_runs=[3, 0, 4, 0, 0, 0])
    assert news(head) == [c.Started(job, [1, 2, 2, 3, 3, 4]), c.ExitedAlike(job, [1, 3], 0, 0, 0)]
    assert head.machine.jobs.jobs[job].over == 3


@pytest.mark.parametrize(
    "run", [[4, 0, 5], [5, 0, 2], [4, 1, 2], [-1, 0, 2], [1 << 40, 0, 2], [4, 1 << 40, 2], [4, -1, 2]]
)
def test_a_run_of_ranks_that_are_elsewhere_breaks_the_protocol(head: HeadRig, run: list[int]) -> None:
    job = head.spawn("n[4-7]")
    head.looked()
    with pytest.raises(ProtocolError, match=r"where it does not belong|a rank that is not within"):
        head.machine.jobs.report(0b11110001, m.Report(job, [4, 0, 9], [], [], exited_runs=[*run, 0, 0, 0]))
    assert news(head) == []
    assert head.machine.jobs.jobs[job].running == 0


def test_a_run_of_an_unknown_job_is_told_to_be_forgotten(head: HeadRig) -> None:
    head.spawn("n0")
    head.looked()
    say(head, "1.77", exited_runs=[4, 0, 4, 0, 0, 0])
    assert head.commands(m.Release) == [("n[4-7]", m.Release("1.77"))]


def test_a_node_merges_what_its_parent_takes_apart(head: HeadRig) -> None:
    job = head.spawn("n0,n[4-7]")
    nodes = [0, 4, 5, 6, 7]
    report = m.Report(
        job,
        [v for rank, node in enumerate(nodes) for v in (node, rank, 50 + node)],
        [v for rank, node in enumerate(nodes) for v in (node, rank, 0, node % 2, 0)],
        [],
    )
    head.looked()
    head.give(Received(head.links[0], in_runs(report)))
    known = head.machine.jobs.jobs[job]
    assert known.done
    assert [known.ends[rank].status() for rank in range(5)] == [RankStatus(code=0)] * 5
    assert [end.stdout_bytes for _, end in sorted(known.ends.items()) if isinstance(end, ExitedRank)] == [0, 0, 1, 0, 1]
    assert list(known.pids) == [50, 54, 55, 56, 57]


@pytest.mark.parametrize(
    "bad",
    [
        {"exited": [5, 1, 0, 0, 0, 4, 99, 0, 0, 0]},
        {"exited": [5, 1, 0, 0, 0, 4]},
        {"started": [5, 1, 7, 4, 99, 8]},
        {"started": [5, 1, 7], "failed": [m.Failure(4, 99, 2, "no such command")]},
        {"exited_runs": [4, 0, 2, 0, 0, 0, 6, 3, 2, 0, 0, 0]},
        {"exited": [5, 1, 0, 0, 0, 4, 0, -1, 0, 0]},
        {"exited": [5, 1, 0, 0, 0, 4, 0, 0, 1 << 63, 0]},
        {"started_runs": [4, 0, 2], "pids": [1, 1 << 40]},
    ],
)
def test_of_a_report_that_cannot_be_true_nothing_is_taken(head: HeadRig, bad: dict[str, Any]) -> None:
    job = head.spawn("n[4-7]")
    head.looked()
    report = m.Report(job, bad.pop("started", []), bad.pop("exited", []), bad.pop("failed", []), **bad)
    with pytest.raises(ProtocolError):
        head.machine.jobs.report(0b11110001, report)
    known = head.machine.jobs.jobs[job]
    assert (known.running, known.over, known.ends, news(head)) == (0, 0, {}, [])
