"""The head's part in barriers: gather, scatter, gather anew after a failover, and end what cannot go on."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.collectives import GATHERED_BYTES, MAX_PART_BYTES
from heorot.core.head.timers import EndDue, GraceDue
from heorot.core.machine import Received
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, sign, ticket

KILLED = 9


def mpi_job(head: HeadRig, nodes: int, request: int = 1) -> str:
    """Start a job of MPI with a rank on each node; return its id."""
    head.looked()
    head.ask(spawn_of(request, f"n[0-{nodes - 1}]", pmi=True))
    job: str = next(message.job for message in head.told() if isinstance(message, c.Spawned))
    for node in range(nodes):
        head.report(node, job, started=[node, 500 + node])
    head.looked()
    return job


def mpi_head(nodes: int = 3) -> tuple[HeadRig, str]:
    """Return a head with such a job, all ranks of it running."""
    head = HeadRig(nodes, kill_grace_ms=500)
    for node in range(nodes):
        head.attach(node)
    head.client()
    return head, mpi_job(head, nodes)


def says(head: HeadRig, node: int, job: str, generation: int, *entries: bytes, of: list[int] | None = None) -> None:
    """Let a node say that its ranks, or those of others, wait in a barrier."""
    word = m.Gathered(job, generation, of or [node, node], list(entries))
    head.give(Received(head.links[node], word))


def scattered(head: HeadRig) -> list[tuple[str, m.Scattered]]:
    """Return what went down, and to whom; forget it."""
    found = head.commands(m.Scattered)
    head.looked()
    return found


def killed(head: HeadRig) -> list[str]:
    """Return on which nodes ranks are killed."""
    return sorted(nodes for nodes, query in head.commands(m.Query) if query.signal == KILLED)


def done(head: HeadRig) -> Any:
    """Return the last word on the job."""
    return next(message for message in head.told() if isinstance(message, c.Done))


def test_a_barrier_opens_when_all_nodes_have_spoken() -> None:
    head, job = mpi_head()
    says(head, 0, job, 0, b"a", b"0")
    says(head, 2, job, 0, b"c", b"2")
    says(head, 2, job, 0, b"c", b"2")
    assert scattered(head) == []
    says(head, 1, job, 0, b"b", b"1")
    opened = m.Scattered(job, 0, 0, 1, [b"a", b"0", b"b", b"1", b"c", b"2"])
    assert scattered(head) == [("n0", opened), ("n1", opened), ("n2", opened)]
    # The next one needs all of them again.
    says(head, 0, job, 1)
    says(head, 1, job, 1)
    assert scattered(head) == []
    says(head, 2, job, 1)
    assert scattered(head)[0][1] == m.Scattered(job, 1, 0, 1, [])


def test_the_launch_says_that_its_nodes_will_gather() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    head.ask(spawn_of(1, "n0", pmi=True))
    ((_, launch),) = head.commands(m.Launch)
    assert launch.gathers


def test_a_merged_word_counts_for_those_nodes_that_its_sender_reaches() -> None:
    head, job = mpi_head()
    says(head, 0, job, 0, b"a", b"0", of=[0, 2])
    assert scattered(head) == []
    says(head, 1, job, 0)
    says(head, 2, job, 0)
    assert scattered(head)[0][1].entries == [b"a", b"0"]


def test_what_a_broken_link_has_lost_is_sent_again_to_whoever_still_waits() -> None:
    head, job = mpi_head()
    for node in range(3):
        says(head, node, job, 0, b"%d" % node, b"x")
    head.looked()
    waits = m.Collective(0, True, [b"1", b"x"], [])
    through = m.Collective(1, False, [], [b"2", b"x"])
    for node, collective in ((1, waits), (2, through)):
        head.close(node)
        head.attach(node, [m.JobInventory(job, [node, 500 + node], [], [], 0, collective=collective)])
    assert scattered(head) == [("n1", m.Scattered(job, 0, 0, 1, [b"0", b"x", b"1", b"x", b"2", b"x"]))]


def adopted(*collectives: m.Collective) -> tuple[HeadRig, str]:
    """Return the head of epoch 2, to which nodes come with a job of epoch 1."""
    head = HeadRig(len(collectives), epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, len(collectives)], pmi=True))
    for node, collective in enumerate(collectives):
        head.attach(node, [m.JobInventory("1.1", [node, 500 + node], [], [], 0, collective=collective)])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    return head, "1.1"


def test_a_new_head_opens_the_barrier_in_which_some_still_wait() -> None:
    head, job = adopted(
        m.Collective(3, False, [], [b"a", b"0"]),
        m.Collective(2, True, [b"b", b"1"], [b"old", b"0"]),
        m.Collective(3, True, [b"new", b"2"], [b"c", b"2"]),
    )
    assert scattered(head) == [("n1", m.Scattered(job, 2, 0, 1, [b"a", b"0", b"b", b"1", b"c", b"2"]))]
    # And the next one, in which the third waits already.
    says(head, 1, job, 3)
    assert scattered(head) == []
    says(head, 0, job, 3)
    assert scattered(head)[0][1].entries == [b"new", b"2"]


def test_a_new_head_lets_those_be_who_are_all_through() -> None:
    head, job = adopted(m.Collective(2, False, [], [b"a", b"0"]), m.Collective(2, False, [], [b"b", b"1"]))
    assert scattered(head) == []
    says(head, 0, job, 2)
    says(head, 1, job, 2)
    assert len(scattered(head)) == 2


def test_what_comes_before_the_launch_is_known_is_asked_for_again() -> None:
    head = HeadRig(2, epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, 2], pmi=True))
    for node in range(2):
        collective = m.Collective(0, False, [], [])
        head.attach(node, [m.JobInventory("1.1", [node, 500 + node], [], [], 0, collective=collective)])
    says(head, 1, "1.1", 0)
    head.looked()
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    # The launch starts nothing twice, and has the node say everything again.
    assert [nodes for nodes, _ in head.commands(m.Launch)] == ["n1"]


def test_what_is_much_goes_down_in_parts() -> None:
    head, job = mpi_head(2)
    entries = [item for number in range(600) for item in (b"%04d" % number, b"v" * 1000)]
    says(head, 0, job, 0, *entries[:600])
    says(head, 1, job, 0, *entries[600:])
    parts = [word for nodes, word in scattered(head) if nodes == "n0"]
    assert len(parts) > 1
    assert [(word.part, word.parts) for word in parts] == [(part, len(parts)) for part in range(len(parts))]
    assert [item for word in parts for item in word.entries] == entries
    assert all(sum(map(len, word.entries)) <= MAX_PART_BYTES for word in parts)


def test_abort_kills_the_others_and_is_the_status_of_the_job() -> None:
    head, job = mpi_head()
    abort = m.Failure(1, 1, 5, "rank 1 on n1 called MPI_Abort with 5")
    head.give(Received(head.links[1], m.Report(job, [], [1, 1, 5 << 8, 0, 0], [], aborts=[abort])))
    assert {"n0", "n2"} <= set(killed(head))
    head.report(0, job, exited=[0, KILLED, 0, 0])
    head.looked()
    # As long as it takes: a node may have been away.
    head.wait(500, EndDue(job))
    assert killed(head) == ["n2"]
    head.report(2, job, exited=[2, KILLED, 0, 0])
    assert done(head) == c.Done(job, "rank 1 on n1 called MPI_Abort with 5", 5)
    head.looked()
    head.wait(500, EndDue(job))
    assert killed(head) == []


def test_a_new_head_hears_of_an_abort_from_the_inventory() -> None:
    head = HeadRig(2, epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, 2], pmi=True))
    abort = m.Failure(0, 0, 3, "rank 0 on n0 called MPI_Abort with 3")
    head.attach(0, [m.JobInventory("1.1", [], [0, 3 << 8, 0, 0], [], 0, aborts=[abort])])
    head.attach(1, [m.JobInventory("1.1", [1, 501], [], [], 0)])
    head.looked()
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert "n1" in killed(head)
    assert head.machine.jobs.jobs["1.1"].ended_status == 3


def test_a_node_that_is_lost_ends_its_job_which_says_so() -> None:
    head, job = mpi_head()
    for node in (0, 1):
        says(head, node, job, 0)
    head.close(2)
    head.wait(head.machine.config.node_grace_ms, GraceDue(2))
    assert {"n0", "n1"} <= set(killed(head))
    for node in (0, 1):
        head.report(node, job, exited=[node, KILLED, 0, 0])
    assert done(head).text.startswith("n2 is lost: ")
    assert done(head).text.endswith("; MPI cannot go on without it")


def test_a_node_that_is_lost_when_its_ranks_were_over_ends_nothing() -> None:
    head, job = mpi_head()
    head.report(2, job, exited=[2, 0, 0, 0])
    head.close(2)
    head.wait(head.machine.config.node_grace_ms, GraceDue(2))
    assert killed(head) == []


def test_who_waits_for_one_that_is_over_waits_for_nothing() -> None:
    head, job = mpi_head()
    says(head, 0, job, 0)
    assert killed(head) == []
    head.report(2, job, exited=[2, 0, 0, 0])
    assert killed(head)
    for node in (0, 1):
        head.report(node, job, exited=[node, KILLED, 0, 0])
    assert done(head) == c.Done(job, "rank 2 on n2 is over, and others wait for it in MPI", 1)


def test_ranks_that_are_over_after_the_last_barrier_harm_nobody() -> None:
    head, job = mpi_head()
    for node in range(3):
        says(head, node, job, 0)
    head.looked()
    head.report(0, job, exited=[0, 0, 0, 0])
    # This one has not heard that it is open.
    head.close(1)
    waits = m.Collective(0, True, [], [])
    head.attach(1, [m.JobInventory(job, [1, 501], [], [], 0, collective=waits)])
    assert [nodes for nodes, _ in head.commands(m.Scattered)] == ["n1"]
    assert killed(head) == []


def test_a_node_in_a_barrier_where_nobody_can_be_ends_its_own_job_only() -> None:
    head, job = mpi_head()
    says(head, 0, job, 7)
    assert killed(head)
    assert "barrier 7" in head.machine.jobs.jobs[job].end_reason


def test_words_that_no_node_can_say_end_the_link() -> None:
    head, job = mpi_head()
    with pytest.raises(ProtocolError):
        says(head, 0, job, 0, of=[3, 1])


def test_a_job_that_has_no_barriers_is_not_ended_by_words_on_them() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    says(head, 0, job, 0, b"a", b"0")
    head.give(Received(head.links[0], m.Report(job, [], [], [], aborts=[m.Failure(0, 0, 5, "no")])))
    assert head.machine.jobs.collectives.of_jobs == {}
    assert killed(head) == []


def test_a_job_that_says_more_than_there_is_room_for_ends() -> None:
    head, job = mpi_head(2)
    other = mpi_job(head, 2, request=2)
    collectives = head.machine.jobs.collectives
    collectives._held.add(0, GATHERED_BYTES)
    says(head, 0, job, 0, b"a", b"0")
    assert "MPI cannot go on" in head.machine.jobs.jobs[job].end_reason
    collectives._held.add(0, -GATHERED_BYTES)
    says(head, 0, other, 0, b"a", b"0")
    assert head.machine.jobs.jobs[other].end_reason == ""


def test_nothing_is_kept_of_a_job_that_is_over() -> None:
    head, job = mpi_head()
    collectives = head.machine.jobs.collectives
    for node in range(3):
        says(head, node, job, 0, b"%d" % node, b"x" * 100)
    says(head, 0, job, 1, b"more", b"x")
    assert collectives.held_bytes > 300
    for node in range(3):
        head.report(node, job, exited=[node, 0, 0, 0])
    assert (collectives.of_jobs, collectives.held_bytes) == ({}, 0)
