"""What a new head keeps of what nodes say of jobs that it does not know yet."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.adoption import ASK_ANOTHER_MS, MAX_HELD_BYTES
from heorot.core.head.machine import HeadMachine
from heorot.core.head.timers import AdoptDue
from heorot.core.machine import Send
from heorot.core.wire import tree as m
from heorot.core.wire.launch import MAX_RANKS
from tests.core.rigs import HeadRig, held

RANKS = 30_000
"""What a node says of a job with so many takes more than 2 MiB."""


def say(rig: HeadRig, *jobs: str, node: int = 0, ranks: int = 1) -> None:
    """Let a node say that it holds these jobs."""
    running = [value for rank in range(ranks) for value in (rank, 1_000_000)]
    rig.up(node, m.Inventory(7, [held(job, running) for job in jobs], after="0.0"))


def kept_bytes(machine: HeadMachine) -> int:
    """Return about how much is kept."""
    waiting = machine.jobs.adoptions.waiting.values()
    return sum(40 * len(item.running) for adoption in waiting for item in adoption.held.values())


def test_what_a_node_holds_takes_the_place_of_what_it_has_held() -> None:
    rig = HeadRig(2)
    rig.attach(0)
    rig.attach(1, [held("0.5", [0, 5])])
    for number in range(100):
        say(rig, f"0.{number}", "0.5")
    adoptions = rig.machine.jobs.adoptions
    assert set(adoptions.waiting) == {"0.99", "0.5"}
    say(rig)
    assert set(adoptions.waiting) == {"0.5"}
    say(rig, node=1)
    assert not adoptions.pending
    assert not adoptions.unclear


def test_what_one_node_says_of_its_jobs_takes_no_more_memory_than_is_for_one() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    jobs = [f"0.{number}" for number in range(1, 31)]
    say(rig, *jobs, ranks=RANKS)
    assert 0 < kept_bytes(rig.machine) <= MAX_HELD_BYTES
    assert rig.machine.jobs.adoptions.pending


def test_what_there_was_no_room_for_is_asked_for_when_there_is() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    jobs = [f"0.{number}" for number in range(1, 31)]
    for _ in range(3):
        say(rig, *jobs, ranks=RANKS)
        for job in list(rig.machine.jobs.adoptions.waiting):
            rig.up(0, m.LaunchCopy(job, b"", b""))
            jobs.remove(job)
        rig.looked()
        rig.wait(ASK_ANOTHER_MS, AdoptDue())
        asked = [item.message for item in rig.sent if isinstance(item, Send)]
        assert asked == ([m.Reattached(1)] if jobs else [])
    assert not jobs


def test_a_job_with_more_ranks_than_there_may_be_is_no_job() -> None:
    rig = HeadRig(1)
    rig.attach(0)
    with pytest.raises(ProtocolError, match="more than 131072 ranks"):
        say(rig, "0.1", ranks=MAX_RANKS + 1)
