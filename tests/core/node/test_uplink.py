"""The way up: which parents a node tries, whom it waits for, and when it leaves one."""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core.machine import (
    Connect,
    ConnectFailed,
    LinkClosed,
    LinkOpened,
    Received,
    SetTimer,
    TimerFired,
)
from heorot.core.node.timers import AnotherDue, LookPastDue, PulseDue, RetryDue
from heorot.core.node.uplink import PASSED_ON_AFTER_ROUNDS
from heorot.core.tickets import seal_heads
from heorot.core.timers import Due, HeartbeatDue
from heorot.core.wire import tree as m
from tests.core.rigs import CLUSTER, HEAD, NodeRig, hello, placement, sign


def keys(node: NodeRig) -> list[Due]:
    """Return the timers that were set since it was looked at last."""
    return [item.key for item in node.sent if isinstance(item, SetTimer)]


def connects(node: NodeRig) -> list[Connect]:
    """Return the connections that were wanted since it was looked at last."""
    return [item for item in node.sent if isinstance(item, Connect)]


def test_the_way_up_is_looked_for_from_the_nearest_ancestor_to_the_heads_and_again() -> None:
    node = NodeRig(14, placement=placement(14, [0, 2, 6]), heads=2)
    hosts = []
    for _ in range(5):
        hosts.append(node.wanted().host)
        node.give(ConnectFailed(node.wanted().key, "refused"))
    assert hosts == ["host6", "host2", "host0", "head0", "head1"]
    assert isinstance(node.sent[-1], SetTimer)
    assert node.sent[-1].key == RetryDue()
    node.give(TimerFired(RetryDue()))
    assert node.wanted().host == "host6"


def test_a_head_that_does_not_answer_delays_the_way_to_another_for_a_moment_only() -> None:
    node = NodeRig(0, heads=2)
    silent = node.wanted()
    assert (silent.host, keys(node)[-1]) == ("head0", AnotherDue())
    node.looked()
    node.give(TimerFired(AnotherDue()))
    assert node.wanted().host == "head1"
    node.attach()
    assert node.machine.uplink.attached
    # The silent one speaks at last.
    node.give(LinkOpened(99, -1, silent.key))
    assert node.closed(99)
    assert node.machine.uplink.attached


def test_rounds_go_on_while_a_head_is_silent_and_ask_it_once_at_a_time() -> None:
    node = NodeRig(0, heads=2)
    silent = node.wanted()
    node.looked()
    node.give(TimerFired(AnotherDue()))
    for _ in range(5):
        (other,) = connects(node)
        assert other.host == "head1"
        node.looked()
        node.give(ConnectFailed(other.key, "refused"))
        assert (keys(node), connects(node)) == ([RetryDue()], [])
        node.give(TimerFired(AnotherDue()))
        assert connects(node) == []
        node.give(TimerFired(RetryDue()))
    node.looked()
    node.give(ConnectFailed(silent.key, "no answer in time"))
    assert connects(node) == []


def test_a_head_that_is_silent_alone_is_waited_for() -> None:
    node = NodeRig(0)
    silent = node.wanted()
    node.give(TimerFired(AnotherDue()))
    node.give(TimerFired(RetryDue()))
    assert connects(node) == [silent]
    node.attach()
    assert node.machine.uplink.attached


def test_an_ancestor_that_does_not_answer_delays_the_way_to_the_next_for_half_a_second_only() -> None:
    node = NodeRig(14, placement=placement(14, [0, 2]), heads=2)
    silent = node.wanted()
    assert SetTimer(AnotherDue(), 500) in node.sent
    node.give(TimerFired(AnotherDue()))
    node.give(TimerFired(AnotherDue()))
    assert [item.host for item in connects(node)] == ["host2", "host0", "head0"]
    node.attach()
    assert node.machine.uplink.attached
    # The nearest one speaks at last: the head moves the node back to it later.
    node.give(LinkOpened(99, 2, silent.key))
    assert node.closed(99)
    assert node.machine.uplink.attached


def test_a_head_that_fails_late_does_not_end_the_round_of_an_ancestor() -> None:
    node = NodeRig(14, placement=placement(14, [0]), heads=1)
    node.give(ConnectFailed(node.wanted().key, "no answer in time"))
    head = node.wanted()
    node.give(TimerFired(AnotherDue()))
    node.give(TimerFired(RetryDue()))
    ancestor = node.wanted()
    assert (head.host, ancestor.host) == ("head0", "host0")
    node.give(ConnectFailed(head.key, "no answer in time"))
    node.looked()
    node.give(ConnectFailed(ancestor.key, "no answer in time"))
    assert keys(node) == [RetryDue()]
    node.give(TimerFired(RetryDue()))
    assert [item.host for item in connects(node)] == ["host0"]


def greet(node: NodeRig, lease_ms: int) -> int:
    """Let a head with this lease greet the node."""
    link = 1
    node.give(LinkOpened(link, -1, node.wanted().key))
    node.give(Received(link, replace(hello(-1, 1), lease_ms=lease_ms)))
    node.looked()
    return link


def test_an_ancestor_has_its_time_whoever_else_fails() -> None:
    node = NodeRig(14, placement=placement(14, [0]), heads=2)
    node.give(ConnectFailed(node.wanted().key, "refused"))
    silent = node.wanted()
    node.give(TimerFired(AnotherDue()))
    node.give(ConnectFailed(node.wanted().key, "refused"))
    node.give(TimerFired(RetryDue()))
    assert node.wanted().host == "host0"
    node.looked()
    node.give(ConnectFailed(silent.key, "no answer in time"))
    assert connects(node) == []
    node.give(TimerFired(AnotherDue()))
    assert [item.host for item in connects(node)] == ["head1"]


def test_a_head_that_is_silent_for_its_lease_is_left_for_another() -> None:
    node = NodeRig(0, heads=2)
    link = greet(node, 3_000)
    for beat in range(1, 5):
        node.now = beat * 1_000
        node.give(TimerFired(PulseDue()))
        assert node.to(link) == [m.Ping(1)]
        node.looked()
        node.now += 1
        node.give(Received(link, m.Pong()))
    for beat in (5, 6):
        node.now = beat * 1_000
        node.give(TimerFired(PulseDue()))
        assert not node.closed(link)
    node.now = 7_000
    node.give(TimerFired(PulseDue()))
    assert node.closed(link)
    assert node.wanted().host == "head0"


def test_a_node_that_slept_itself_asks_the_head_three_times_before_it_leaves_it() -> None:
    node = NodeRig(0, heads=2)
    link = greet(node, 3_000)
    # It was stopped, and what the head said meanwhile is still on its way.
    for node.now in (60_000, 61_000, 62_000):
        node.give(TimerFired(PulseDue()))
        assert not node.closed(link)
    assert node.to(link) == [m.Ping(1)] * 3
    node.now = 63_000
    node.give(TimerFired(PulseDue()))
    assert node.closed(link)


def test_a_node_that_slept_and_hears_from_its_head_stays() -> None:
    node = NodeRig(0, heads=2)
    link = greet(node, 3_000)
    for woke_ms in (10_000, 20_000, 30_000):
        for node.now in range(woke_ms, woke_ms + 4_000, 1_000):
            node.give(TimerFired(PulseDue()))
            node.give(Received(link, m.Pong()))
    assert not node.closed(link)


def test_a_head_without_a_lease_is_asked_at_the_usual_heartbeat_only() -> None:
    node = NodeRig(0, heads=2)
    greet(node, 0)
    assert PulseDue() not in keys(node)


def test_a_parent_that_does_not_want_the_node_makes_it_ask_the_head_for_a_new_place() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    link = node.attach(parent=0)
    node.give(Received(link, m.Refused("not-placed-here", "no")))
    assert node.wanted().host == "head0"
    link = node.attach()
    attach = m.decode_node_payload(node.to(link)[1].payload)
    assert isinstance(attach, m.Attach)
    assert attach.placement == b""


def test_a_late_connection_that_nobody_waits_for_is_closed() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    late = node.wanted().key
    node.give(ConnectFailed(late, "timeout"))
    node.looked()
    node.give(LinkOpened(77, 0, late))
    assert node.closed(77)


def test_a_greeting_has_a_whole_timeout_however_long_the_search_was() -> None:
    node = NodeRig(0)
    node.now = 500_000
    node.give(LinkOpened(9, HEAD, node.wanted().key))
    node.looked()
    node.give(TimerFired(HeartbeatDue()))
    assert not node.closed(9)


def test_a_parent_that_is_silent_for_too_long_is_given_up() -> None:
    node = NodeRig(0)
    link = node.attach()
    for node.now in (10_000, 20_000, 30_000, 40_000):
        assert not node.closed(link)
        node.give(TimerFired(HeartbeatDue()))
    assert node.closed(link)


def test_a_node_that_slept_itself_asks_its_parent_three_times_before_it_gives_it_up() -> None:
    node = NodeRig(0)
    link = node.attach()
    child = 5
    node.give(LinkOpened(child, 32))
    node.looked()
    for node.now in (100_000, 110_000, 120_000, 130_000):
        node.give(TimerFired(HeartbeatDue()))
        assert not node.closed(link)
        assert not node.closed(child)
    assert [item for item in node.to(link) if isinstance(item, m.Ping)] == [m.Ping(1)] * 4
    node.now = 140_000
    node.give(TimerFired(HeartbeatDue()))
    assert node.closed(link)
    assert node.closed(child)


def test_heads_on_standby_are_asked_to_pass_a_node_on_only_after_some_rounds_in_vain() -> None:
    node = NodeRig(0, heads=2)
    asked = []
    for _ in range(PASSED_ON_AFTER_ROUNDS + 2):
        wants = [item for item in node.sent if isinstance(item, Connect)]
        node.looked()
        asked.append([item.passed_on for item in wants])
        for item in wants:
            node.give(ConnectFailed(item.key, "refused"))
        second = [item for item in node.sent if isinstance(item, Connect)]
        node.looked()
        for item in second:
            node.give(ConnectFailed(item.key, "refused"))
        node.now += 1_000
        node.give(TimerFired(RetryDue()))
    assert asked == [[False]] * PASSED_ON_AFTER_ROUNDS + [[True]] * 2
    # Whom it comes to then greets it as any other; it goes there directly once it has been told where that is.
    node.give(LinkOpened(5, HEAD, node.wanted().key))
    node.give(Received(5, hello(HEAD, 1)))
    assert node.machine.uplink.attached
    node.looked()
    told = seal_heads(sign, m.HeadList(CLUSTER, 1, 1, [m.HeadAddress("h1", "fresh", 2)]))
    node.give(Received(5, m.Down(1, [0, 0], m.encode(told))))
    assert node.closed(5)
    assert (node.wanted().host, node.wanted().passed_on) == ("fresh", False)
    node.give(LinkOpened(6, HEAD, node.wanted().key))
    node.give(Received(6, hello(HEAD, 1)))
    node.looked()
    again = seal_heads(sign, m.HeadList(CLUSTER, 1, 2, [m.HeadAddress("h2", "another", 2)]))
    node.give(Received(6, m.Down(1, [0, 0], m.encode(again))))
    assert not node.closed(6)


def test_a_node_that_was_removed_knocks_seldom() -> None:
    node = NodeRig(0, heads=2)
    link = node.attach()
    node.looked()
    node.give(Received(link, m.Refused("removed", "n0 was removed from the cluster")))
    assert not connects(node)
    (retry,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == RetryDue()]
    assert retry.at_ms - node.now >= 15_000
    node.give(TimerFired(RetryDue()))
    assert node.wanted().host == "head0"


def below_headless(heads: int = 1) -> NodeRig:
    """Return n2 below n0, which has just lost its own way up."""
    node = NodeRig(2, placement=placement(2, [0]), heads=heads)
    node.attach(parent=0)
    node.give(Received(node.uplink, m.Pong(True)))
    return node


def wait_for_parent(node: NodeRig) -> list[Connect]:
    """Let the longest time pass that the node waits for its parent; return whom it asks then."""
    (due,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == LookPastDue()][-1:]
    patience_ms = node.machine.config.headless_patience_ms
    assert patience_ms <= due.at_ms - node.now < 5 * patience_ms
    node.looked()
    node.now = due.at_ms
    node.give(Received(node.uplink, m.Pong(True)))
    node.give(TimerFired(LookPastDue()))
    return connects(node)


def test_a_parent_without_a_way_to_a_head_is_left_for_a_head_that_answers() -> None:
    node = below_headless(heads=2)
    former = node.uplink
    silent, head = wait_for_parent(node)
    assert [(item.host, item.passed_on) for item in (silent, head)] == [("head0", True), ("head1", True)]
    assert not node.closed(former)
    node.give(ConnectFailed(silent.key, "refused"))
    assert not node.closed(former)
    node.attach()
    assert node.closed(former)
    assert node.words()[-1] is False
    (up, *_) = [up for up in node.to(node.uplink) if isinstance(up, m.Up)]
    assert isinstance(m.decode_node_payload(up.payload), m.Attach)


def test_a_parent_that_has_a_way_again_is_not_left() -> None:
    node = below_headless()
    (head,) = wait_for_parent(node)
    node.give(Received(node.uplink, m.Pong(False)))
    node.give(LinkOpened(99, HEAD, head.key))
    assert node.closed(99)
    assert not node.closed(node.uplink)
    node.looked()
    node.give(TimerFired(LookPastDue()))
    assert connects(node) == []


def test_a_parent_without_a_way_stays_the_parent_while_no_head_answers() -> None:
    node = below_headless()
    for _ in range(3):
        (head,) = wait_for_parent(node)
        # Nobody is asked twice at a time.
        node.looked()
        node.give(TimerFired(LookPastDue()))
        assert connects(node) == []
        node.give(ConnectFailed(head.key, "refused"))
        assert connects(node) == []
    assert node.machine.uplink.parent == 0
    assert node.machine.uplink.attached


def test_who_looked_past_its_parent_in_vain_goes_back_to_it() -> None:
    node = below_headless()
    (head,) = wait_for_parent(node)
    node.give(LinkOpened(99, HEAD, head.key))
    node.looked()
    node.give(Received(99, m.Refused("too-many-children", "the head has 4096 children already")))
    assert node.wanted().host == "host0"


def test_who_asks_past_its_parent_takes_any_head_when_that_is_lost() -> None:
    node = below_headless()
    (head,) = wait_for_parent(node)
    node.give(LinkClosed(node.uplink, "cut"))
    node.give(LinkOpened(99, HEAD, head.key))
    assert not node.closed(99)
    assert node.machine.uplink.link == 99
