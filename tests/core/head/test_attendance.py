"""Who attends a job: its readers, one after the other, and clients that are lost on their way through a standby."""

from __future__ import annotations

import pytest

from heorot.core.head.given_turns import TURNS_AT_ONCE
from heorot.core.head.timers import KillDue, ReleaseDue, ReturnDue
from heorot.core.machine import TimerFired
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.rows import RankStatus
from tests.core.rigs import HeadRig, held

SIGHUP = 1


def head_with_job() -> tuple[HeadRig, str]:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.looked()
    return head, job


def hung_up(head: HeadRig) -> bool:
    return any(query.signal == SIGHUP for _, query in head.commands(m.Query))


def test_a_client_that_vanishes_is_a_hang_up() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.report(0, job, [0, 100])
    head.looked()
    head.leave()
    assert [query.signal for _, query in head.commands(m.Query)] == [1]
    head.wait(2_000, KillDue(job))
    assert [query.signal for _, query in head.commands(m.Query)] == [1, 9]
    head.report(0, job, [], [0, 9, 0, 0])
    head.wait(250, ReleaseDue())
    assert head.commands(m.Release) == [("n0", m.Release(job))]


def test_a_detached_job_outlives_its_client_and_is_read_by_another() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client(1)
    job = head.spawn("n0", detached=True)
    head.leave(1)
    assert head.commands(m.Query) == []
    head.client(2)
    head.ask(c.AttachJob(1, job, True), 2)
    assert head.kinds(2) == [c.Spawned]
    (attend,) = [attend for _, attend in head.commands(m.Attend)]
    assert attend.attended
    head.looked()
    head.up(0, m.Output(job, 0, 1, 0, b"x", 0, attend.reading))
    assert head.told(2) == [c.ClientOutput(job, 0, 1, 0, b"x", 0)]


def test_output_on_its_way_to_a_former_reader_does_not_reach_the_next() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client(1)
    job = head.spawn("n0")
    head.ask(c.Detach(2, job))
    head.client(2)
    head.ask(c.AttachJob(1, job, True), 2)
    head.looked()
    head.up(0, m.Output(job, 0, 1, 5_000, b"late"))
    assert head.told(2) == []


def test_a_node_that_comes_back_is_told_who_reads() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0", detached=True)
    head.ask(c.AttachJob(2, job, True))
    reading = head.commands(m.Attend)[-1][1].reading
    head.close(0)
    head.looked()
    head.attach(0, [held(job, running=[0, 100])])
    assert head.commands(m.Attend) == [("n0", m.Attend(job, True, False, reading))]


def test_waiting_for_a_job_that_is_over_is_answered_at_once() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.ask(c.Wait(2, job))
    head.report(0, job, [0, 100], [0, 256, 0, 0])
    head.ask(c.ClientRelease(job))
    head.ask(c.ClientRelease(job))
    head.ask(c.Wait(3, job))
    answers = [message for message in head.told() if isinstance(message, c.Result)]
    ended = {"0": RankStatus(code=1)}
    assert [(answer.request, answer.value.statuses) for answer in answers] == [(2, ended), (3, ended)]


def test_a_client_that_left_is_a_hang_up_at_once() -> None:
    head, _ = head_with_job()
    head.leave()
    assert hung_up(head)


def test_a_lost_client_that_stays_away_is_a_hang_up_after_the_grace() -> None:
    head, job = head_with_job()
    head.leave(lost=True)
    assert not hung_up(head)
    # The node keeps the output from now on, for whoever comes.
    assert [(attend.job, attend.attended) for _, attend in head.commands(m.Attend)] == [(job, False)]
    head.wait(30_000, ReturnDue(job))
    assert hung_up(head)


def test_a_lost_client_has_all_its_grace_again_when_the_head_has_slept() -> None:
    head, job = head_with_job()
    head.leave(lost=True)
    head.now += 40_000
    head.give(TimerFired(ReturnDue(job)))
    assert not hung_up(head)
    head.wait(30_000, ReturnDue(job))
    assert hung_up(head)


def test_a_lost_client_that_comes_back_goes_on() -> None:
    head, job = head_with_job()
    head.leave(lost=True)
    head.client(2)
    head.ask(c.AttachJob(1, job, False, resume=True), client=2)
    assert c.Spawned in head.kinds(2)
    head.wait(30_000, ReturnDue(job))
    assert not hung_up(head)


def test_a_client_that_comes_back_before_its_old_way_is_known_to_be_lost_goes_on() -> None:
    head, job = head_with_job()
    head.client(2)
    head.ask(c.AttachJob(1, job, False, resume=True), client=2)
    head.leave(1, lost=True)
    head.wait(30_000, ReturnDue(job))
    assert not hung_up(head)


def test_a_detached_job_needs_nobody() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0", detached=True)
    head.ask(c.AttachJob(2, job, False))
    head.looked()
    head.leave(lost=True)
    head.wait(30_000, ReturnDue(job))
    assert not hung_up(head)


def test_a_job_that_ends_while_its_client_is_lost_is_kept_for_the_grace() -> None:
    head, job = head_with_job()
    head.leave(lost=True)
    head.report(0, job, [0, 100], [0, 0, 0, 0])
    head.client(2)
    head.ask(c.AttachJob(1, job, False, resume=True), client=2)
    assert head.kinds(2)[0] is c.Spawned
    assert c.Done in head.kinds(2)


@pytest.mark.parametrize(("nodes", "spare_bytes"), [(2, 0), (64, 4 * 1024 * 1024)])
def test_no_stream_is_given_more_than_its_part_of_what_the_job_has_to_spare(nodes: int, spare_bytes: int) -> None:
    head = HeadRig(nodes)
    for node in range(nodes):
        head.attach(node)
    head.client()
    job = head.spawn(f"0-{nodes - 1}")
    window_bytes = head.machine.jobs.jobs[job].ticket.window_bytes
    head.looked()
    limit = 100 + window_bytes + spare_bytes // TURNS_AT_ONCE if spare_bytes else 0
    head.ask(c.ClientAck(job, 1, 1, 100, 1 << 60))
    assert head.commands(m.Ack) == [("n1", m.Ack(job, 1, 1, 100, limit))]
