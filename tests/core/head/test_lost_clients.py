"""Clients that came through a head on standby, when the way between the two heads is lost: they may be alive."""

from __future__ import annotations

from heorot.core.head.timers import ReturnDue
from heorot.core.machine import TimerFired
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

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
