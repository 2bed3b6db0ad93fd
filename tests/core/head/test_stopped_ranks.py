"""What the head makes of ranks that stop and go on: the newest word counts, and readers hear of it once."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.states import OVER, RUNNING, STOPPED
from heorot.core.machine import Received
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

SIGSTOP = 19


@pytest.fixture
def rig() -> HeadRig:
    """A head with two nodes, and a client."""
    made = HeadRig(2)
    for node in range(2):
        made.attach(node)
    made.client()
    return made


def stops(rig: HeadRig, node: int, job: str, *records: tuple[int, ...], started: list[int] | None = None) -> None:
    """Let a node report how its ranks stand: rank, changes, signal, and what was written."""
    flat = [value for record in records for value in (node, *record)]
    rig.give(Received(rig.links[node], m.Report(job, started or [], [], [], stops=flat)))


def told(rig: HeadRig, client: int = 1) -> list[Any]:
    """Return what a client was told of stops since it was looked at last."""
    found = [message.ranks for message in rig.told(client) if isinstance(message, c.Stopped)]
    rig.looked()
    return found


def test_a_reader_is_told_of_each_change_once_whatever_comes_late(rig: HeadRig) -> None:
    job = rig.spawn("n0,n1")
    rig.report(0, job, [0, 500])
    rig.report(1, job, [1, 600])
    rig.looked()
    stops(rig, 0, job, (0, 1, SIGSTOP, 5, 0))
    assert told(rig) == [[0, 1, SIGSTOP, 5, 0]]
    stops(rig, 0, job, (0, 2, 0, 5, 0))
    assert told(rig) == [[0, 2, 0, 5, 0]]
    known = rig.machine.jobs.jobs[job]
    assert (list(known.states), known.running) == ([RUNNING, RUNNING], 2)
    # A word that was overtaken, on another way or by a snapshot, undoes nothing.
    stops(rig, 0, job, (0, 1, SIGSTOP, 5, 0))
    stops(rig, 0, job, (0, 2, 0, 5, 0))
    assert told(rig) == []
    assert known.details().stopped == {}
    stops(rig, 0, job, (0, 3, SIGSTOP, 7, 1))
    assert told(rig) == [[0, 3, SIGSTOP, 7, 1]]
    assert (known.details().stopped, known.row().running) == ({"0": SIGSTOP}, 2)


def test_a_start_that_travels_with_a_stop_is_told_before_it(rig: HeadRig) -> None:
    job = rig.spawn("n0")
    rig.looked()
    stops(rig, 0, job, (0, 1, SIGSTOP, 0, 0), started=[0, 0, 500])
    assert rig.kinds() == [c.Started, c.Stopped]


def test_a_stop_of_which_the_start_was_lost_comes_again_with_the_snapshot(rig: HeadRig) -> None:
    job = rig.spawn("n0")
    rig.looked()
    stops(rig, 0, job, (0, 1, SIGSTOP, 0, 0))
    assert told(rig) == []
    rig.attach(0, [m.JobInventory(job, [0, 500], [], [], 0, stops=[0, 1, SIGSTOP, 0, 0])])
    assert told(rig) == [[0, 1, SIGSTOP, 0, 0]]


def test_the_end_of_a_stopped_rank_is_its_end_and_nothing_is_left_of_the_stop(rig: HeadRig) -> None:
    job = rig.spawn("n0,n1")
    rig.report(0, job, [0, 500])
    rig.report(1, job, [1, 600])
    for node in (0, 1):
        stops(rig, node, job, (node, 1, SIGSTOP, 0, 0))
    known = rig.machine.jobs.jobs[job]
    assert list(known.states) == [STOPPED, STOPPED]
    rig.looked()
    rig.report(0, job, [], [0, 9, 0, 0])
    stops(rig, 0, job, (0, 2, 0, 0, 0))
    assert [kind for kind in rig.kinds() if kind is not c.Exited] == []
    assert (list(known.states), known.running, known.over) == ([OVER, STOPPED], 1, 1)
    assert list(known.stops) == [1]
    rig.report(1, job, [], [1, 9, 0, 0])
    assert known.stops == {}
    assert known.done


def test_who_attaches_is_told_who_is_stopped(rig: HeadRig) -> None:
    job = rig.spawn("n0,n1", detached=True)
    rig.report(0, job, [0, 500])
    rig.report(1, job, [1, 600])
    stops(rig, 1, job, (1, 1, SIGSTOP, 0, 0))
    assert told(rig) == []
    rig.ask(c.AttachJob(7, job, True))
    assert told(rig) == [[1, 1, SIGSTOP, 0, 0]]


def test_the_next_head_learns_from_snapshots_who_is_stopped(rig: HeadRig) -> None:
    job = rig.spawn("n0", detached=True)
    launch = next(command for _, command in rig.commands(m.Launch))
    successor = HeadRig(2, epoch=2)
    successor.attach(0, [m.JobInventory(job, [0, 500], [], [], 0, stops=[0, 5, SIGSTOP, 3, 0])])
    successor.up(0, m.LaunchCopy(job, launch.ticket, launch.signature))
    assert successor.machine.jobs.jobs[job].details().stopped == {"0": SIGSTOP}
    # What the former one was told, and this one hears late, is older.
    stops(successor, 0, job, (0, 4, 0, 3, 0))
    assert successor.machine.jobs.jobs[job].details().stopped == {"0": SIGSTOP}


@pytest.mark.parametrize(
    "record",
    [(0, 1, 19, 0), (0, 1, 65, 0, 0), (0, -1, 19, 0, 0), (7, 1, 19, 0, 0), (1, 1, 19, 0, 0), (0, 1, 19, -1, 0)],
)
def test_a_word_that_cannot_be_true_ends_the_link_and_changes_nothing(rig: HeadRig, record: tuple[int, ...]) -> None:
    job = rig.spawn("n0,n1")
    rig.report(0, job, [0, 500])
    rig.looked()
    with pytest.raises(ProtocolError):
        stops(rig, 0, job, record)
    assert rig.machine.jobs.jobs[job].stops == {}
