"""The agent's machine as transcripts: a hop of the tree between a head and a process space."""

from __future__ import annotations

from heorot.core.machine import (
    LinkClosed,
    SetTimer,
    SpaceClosed,
    Stop,
    TimerFired,
)
from heorot.core.node.timers import HeadlessDue
from heorot.core.timers import HeartbeatDue
from heorot.core.wire import tree as m
from tests.core.rigs import LEFT, RIGHT, NodeRig, placement, relay


def test_the_heartbeat_says_how_many_nodes_are_reached() -> None:
    node = relay()
    node.give(TimerFired(HeartbeatDue()))
    assert node.to(node.uplink) == [m.Ping(4)]


def test_an_agent_whose_process_space_has_ended_says_so_and_stops() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.give(SpaceClosed())
    (up,) = node.to(node.uplink)
    assert m.decode_node_payload(up.payload) == m.SpaceGone(7)
    assert isinstance(node.sent[-1], Stop)


def test_an_agent_knows_of_no_head_before_one_greets_it() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    assert node.words() == [True]
    node.attach(parent=0)
    assert node.words() == [True, False, False]


def test_a_lost_way_up_is_told_after_a_moment_and_a_new_one_at_once() -> None:
    node = relay()
    node.now = 5_000
    node.give(LinkClosed(node.uplink, "cut"))
    assert node.words() == []
    node.give(TimerFired(HeadlessDue()))
    assert node.words() == [True]
    assert node.to(LEFT) == node.to(RIGHT) == [m.Pong(True)]
    node.attach()
    assert node.words() == [True, False, False]
    assert node.to(LEFT) == [m.Pong(True), m.Pong(False), m.Reattached(1)]


def test_a_way_up_that_was_found_at_once_is_not_worth_a_word() -> None:
    node = relay()
    node.now = 5_000
    node.give(LinkClosed(node.uplink, "cut"))
    assert any(isinstance(item, SetTimer) and item.key == HeadlessDue() for item in node.sent)
    node.attach()
    node.give(TimerFired(HeadlessDue()))
    assert node.words() == [False]
    assert node.to(LEFT) == [m.Reattached(1)]
