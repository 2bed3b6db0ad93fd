"""A head that may have a successor gives no node up: what it would say of its ranks might be wrong."""

from __future__ import annotations

from heorot.core import client_messages as c
from heorot.core.machine import HeadsKnown, Log
from tests.core.rigs import HeadRig, held

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
    head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == [c.Lost, c.Done]


def test_when_the_lease_may_be_gone_no_node_is_given_up_and_the_log_says_it_once() -> None:
    head = running(GRACE_MS)
    for _ in range(3):
        head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == []
    assert len([item for item in head.sent if isinstance(item, Log) and "successor" in item.text]) == 1


def test_a_node_has_all_its_grace_again_after_the_doubt() -> None:
    head = running(GRACE_MS)
    head.wait(GRACE_MS, "grace:0")
    head.now += GRACE_MS - 1
    told(head, 60_000)
    head.wait(1, "grace:0")
    assert head.kinds() == []
    head.wait(GRACE_MS - 2, "grace:0")
    assert head.kinds() == []
    head.wait(1, "grace:0")
    assert head.kinds() == [c.Lost, c.Done]


def test_a_node_that_comes_back_after_the_doubt_has_lost_nothing() -> None:
    head = running(GRACE_MS)
    head.wait(GRACE_MS, "grace:0")
    told(head, 60_000)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == []


def test_the_only_head_of_a_cluster_has_no_successor() -> None:
    head = running(1, ONE)
    head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == [c.Lost, c.Done]


def test_a_standby_that_was_seen_may_come_back_unseen() -> None:
    head = HeadRig(1)
    told(head, 1_000, TWO)
    told(head, 1_000, ONE)
    head.attach(0)
    head.client()
    head.spawn("n0")
    head.close(0)
    head.looked()
    head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == []


def test_a_lease_that_ends_with_the_process_leaves_no_doubt() -> None:
    head = running(None)
    head.wait(GRACE_MS, "grace:0")
    assert head.kinds() == [c.Lost, c.Done]


def test_a_new_head_in_doubt_does_not_give_up_what_its_nodes_have_not_told_it() -> None:
    head = HeadRig(2)
    head.client()
    told(head, 0)
    head.wait(60_000, "missing:1")
    assert "missing:1" in {getattr(item, "key", "") for item in head.sent}
