"""A head that may have a successor gives no node up: what it would say of its ranks might be wrong."""

from __future__ import annotations

import pytest

from heorot.core.head.timers import GraceDue, MissingDue, QueryDue, SettleDue
from heorot.core.machine import CloseLink, HeadsKnown, Log, Received, Send, TimerFired
from heorot.core.tickets import seal_ticket
from heorot.core.timers import AwakeDue, HeartbeatDue
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import hand_over

TWO = (("h0", "active"), ("h1", "standby"))
ONE = TWO[:1]
GRACE_MS = 5_000


def told(head: HeadRig, lease_until_ms: int | None, heads: tuple[tuple[str, str], ...] = TWO) -> None:
    """Let the keeper speak."""
    head.give(HeadsKnown(heads, "etcd", True, 0, lease_until_ms))


def running(lease_until_ms: int | None, heads: tuple[tuple[str, str], ...] = TWO) -> HeadRig:
    """Return a head with a job on n0, whose link was cut just now."""
    head = HeadRig(1)
    head.attach(0)
    head.client()
    told(head, lease_until_ms, heads)
    job = head.spawn("n0")
    head.report(0, job, [0, 100])
    head.close(0)
    head.looked()
    return head


def test_while_the_lease_holds_a_silent_node_is_given_up() -> None:
    head = running(GRACE_MS + 1)
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_when_the_lease_may_be_gone_no_node_is_given_up_and_the_log_says_it_once() -> None:
    head = running(GRACE_MS)
    for _ in range(3):
        head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == []
    assert len([item for item in head.sent if isinstance(item, Log) and "successor" in item.text]) == 1


def test_a_node_has_all_its_grace_again_after_the_doubt() -> None:
    head = running(GRACE_MS)
    head.wait(GRACE_MS, GraceDue(0))
    head.awake(head.now + GRACE_MS - 1)
    told(head, 60_000)
    head.wait(1, GraceDue(0))
    assert head.kinds() == []
    head.wait(GRACE_MS - 2, GraceDue(0))
    assert head.kinds() == []
    head.wait(1, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_a_node_that_comes_back_after_the_doubt_has_lost_nothing() -> None:
    head = running(GRACE_MS)
    head.wait(GRACE_MS, GraceDue(0))
    told(head, 60_000)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == []


def test_the_only_head_of_a_cluster_has_no_successor() -> None:
    head = running(1, ONE)
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_a_head_with_others_that_it_has_never_seen_is_not_the_only_one() -> None:
    head = HeadRig(1, others=(("head1", 7733),))
    told(head, 1_000, ONE)
    head.attach(0)
    head.client()
    head.spawn("n0")
    head.close(0)
    head.looked()
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == []


def test_a_standby_that_was_seen_may_come_back_unseen() -> None:
    head = HeadRig(1)
    told(head, 1_000, TWO)
    told(head, 1_000, ONE)
    head.attach(0)
    head.client()
    head.spawn("n0")
    head.close(0)
    head.looked()
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == []


def test_a_lease_that_ends_with_the_process_leaves_no_doubt() -> None:
    head = running(None)
    head.wait(GRACE_MS, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_a_new_head_in_doubt_does_not_give_up_what_its_nodes_have_not_told_it() -> None:
    head = HeadRig(2)
    head.client()
    told(head, 0)
    head.wait(60_000, MissingDue(1))
    assert MissingDue(1) in {getattr(item, "key", "") for item in head.sent}


def launch(head: HeadRig) -> None:
    """Ask for a launch on n0."""
    head.ask(spawn_of(1, "n0"))


def woken() -> HeadRig:
    """Return a head that slept beyond its lease, and whose node has not spoken since."""
    head = HeadRig(1, lease_ms=3_000)
    head.attach(0)
    head.client()
    told(head, 3_000)
    head.now = 20_000
    head.looked()
    return head


def test_a_head_that_wakes_up_acknowledges_no_launch_on_a_silent_node() -> None:
    head = woken()
    launch(head)
    assert (head.kinds(), head.commands(m.Launch)) == ([], [])
    head.close(0)
    head.wait(100, SettleDue())
    assert (head.kinds(), head.commands(m.Launch)) == ([], [])


def test_a_launch_that_waited_goes_on_when_its_node_speaks_or_the_lease_holds() -> None:
    for spoken in (True, False):
        head = woken()
        launch(head)
        if spoken:
            head.give(Received(head.links[0], m.Ping(1, head.now - 2_000)))
        else:
            told(head, 60_000)
        head.wait(100, SettleDue())
        assert head.kinds() == [c.Spawned]
        assert len(head.commands(m.Launch)) == 1


def test_a_ping_that_was_sent_before_the_head_slept_does_not_speak_for_its_node() -> None:
    head = woken()
    launch(head)
    for answered_at_ms in (0, 2_000, head.now - 2_300):
        head.give(Received(head.links[0], m.Ping(1, answered_at_ms)))
        head.wait(1, SettleDue())
        assert (head.kinds(), head.commands(m.Launch)) == ([], [])


def test_the_answer_to_a_ping_says_when_it_was_given() -> None:
    head = woken()
    head.give(Received(head.links[0], m.Ping(1)))
    assert [item.message for item in head.sent if isinstance(item, Send)] == [m.Pong(at_ms=head.now)]


def test_without_a_store_launches_go_on_where_nodes_listen_and_are_refused_elsewhere_in_the_end() -> None:
    head = woken()
    launch(head)
    head.wait(GRACE_MS - 1, SettleDue())
    assert head.kinds() == [c.Notice]
    head.wait(1, SettleDue())
    _, error = head.told()
    assert (type(error), error.code) == (c.Error, "in-doubt")


def test_what_the_keeper_says_of_a_store_that_stays_away_does_not_renew_the_doubt() -> None:
    head = woken()
    launch(head)
    for problem in ("timeout", "refused") * (GRACE_MS // 2_000):
        head.give(HeadsKnown(TWO, "etcd", False, 0, 3_000, problem))
        head.wait(1_000, SettleDue())
    head.wait(1_000, SettleDue())
    assert head.told()[-1].code == "in-doubt"


def test_the_log_says_once_that_no_node_is_given_up_whatever_the_keeper_says_of_the_store() -> None:
    head = woken()
    head.close(0)
    for problem in ("timeout", "refused"):
        head.give(HeadsKnown(TWO, "etcd", False, 0, 3_000, problem))
        head.wait(GRACE_MS, GraceDue(0))
    assert len([item for item in head.sent if isinstance(item, Log) and "successor" in item.text]) == 1


@pytest.mark.parametrize(
    "ask", [c.AttachJob(1, "2.1", False), c.AttachJob(1, "2.1", False, True, []), c.Wait(1, "2.1"), c.ShowJob(1, "2.1")]
)
def test_a_head_in_doubt_does_not_deny_the_job_of_a_newer_one(ask: c.ClientMessage) -> None:
    head = woken()
    head.ask(ask)
    head.wait(GRACE_MS - 1, SettleDue())
    assert head.kinds() == [c.Notice]
    head.wait(1, SettleDue())
    _, error = head.told()
    assert (type(error), error.code) == (c.Error, "in-doubt")
    assert "job 2.1 is of a newer head" in error.message


def test_a_head_that_is_certain_to_lead_denies_the_job_of_a_newer_one() -> None:
    head = woken()
    head.ask(c.AttachJob(1, "2.1", False))
    told(head, 60_000)
    head.wait(100, SettleDue())
    (error,) = head.told()
    assert (type(error), error.code) == (c.Error, "no-such-job")


def test_a_node_has_all_its_grace_again_when_the_head_has_slept() -> None:
    head = running(None)
    head.now += 60_000
    head.give(TimerFired(GraceDue(0)))
    assert head.kinds() == []
    head.wait(GRACE_MS - 1, GraceDue(0))
    assert head.kinds() == []
    head.wait(1, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_a_sleep_that_ends_before_the_grace_does_counts_too() -> None:
    head = running(None)
    head.now += GRACE_MS - 1_000
    head.give(TimerFired(AwakeDue()))
    head.wait(1_000, GraceDue(0))
    assert head.kinds() == []
    head.wait(GRACE_MS - 1_000, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_a_head_that_slept_closes_no_link_for_the_silence_of_its_neighbour() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.looked()
    for head.now in (100_000, 110_000, 120_000, 130_000):
        head.give(TimerFired(HeartbeatDue()))
        assert not any(isinstance(item, CloseLink) for item in head.sent)
    head.wait(10_000, HeartbeatDue())
    assert any(isinstance(item, CloseLink) for item in head.sent)


def test_a_head_that_slept_waits_for_the_nodes_of_a_job_that_it_takes_over() -> None:
    head = HeadRig(2)
    head.attach(0, [held("0.1", running=[0, 100])])
    hand_over(head, 0, seal_ticket(sign, ticket("0.1", [0, 2], epoch=0)))
    head.now += 90_000
    head.give(TimerFired(MissingDue(1)))
    assert head.machine.jobs.jobs["0.1"].over == 0
    head.wait(60_000, MissingDue(1))
    assert head.machine.jobs.jobs["0.1"].over == 1


def test_a_question_is_not_given_up_when_the_head_has_slept() -> None:
    head = running(None)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.ask(c.ListProcesses(9, "n0", None))
    (_, query), *_ = head.commands(m.Query)
    head.looked()
    head.now += 30_000
    head.give(TimerFired(QueryDue(query.id)))
    assert head.kinds() == []
    head.wait(10_000, QueryDue(query.id))
    assert head.kinds() == [c.Result]


def test_a_head_that_slept_waits_for_the_copy_of_a_launch_that_a_node_may_have_sent_meanwhile() -> None:
    head = HeadRig(1)
    head.client()
    # The time in which a new head may be ignorant is over; then a node comes with a job.
    head.wait(61_000, SettleDue())
    head.attach(0, [held("0.1", running=[0, 100])])
    head.ask(c.AttachJob(1, "0.1", False, resume=True))
    head.looked()
    head.now += 90_000
    head.give(TimerFired(SettleDue()))
    assert not [message for message in head.told() if isinstance(message, c.Error)]
    hand_over(head, 0, seal_ticket(sign, ticket("0.1", [0, 1], epoch=0, uid=0)))
    assert [message.job for message in head.told() if isinstance(message, c.Spawned)] == ["0.1"]
