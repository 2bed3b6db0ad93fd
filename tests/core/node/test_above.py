"""What a node makes of its parent's words: commands for here and below, and the word on the head."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import (
    Compared,
    LinkClosed,
    LinkOpened,
    Received,
    Send,
    ToSpace,
)
from heorot.core.wire import tree as m
from tests.core.rigs import LEFT, RIGHT, NodeRig, placement, relay


def test_a_command_is_delivered_here_and_split_among_the_children() -> None:
    node = relay()
    node.down([0, 2, 3, 6], m.Attend("1.1", True))
    assert len(node.to_space(m.Attend)) == 1
    assert [down.nodes for down in node.to(LEFT)] == [[2, 2, 6, 6]]
    assert [down.nodes for down in node.to(RIGHT)] == [[3, 3]]


def test_a_size_replaces_what_waits_of_the_same_job_and_nothing_else_does() -> None:
    node = relay()
    node.down([0, 2, 3], m.Resize("1.1", 24, 80))
    node.down([0, 2, 3], m.Attend("1.1", True))
    names = [item.newest_of for item in node.sent if isinstance(item, Send | ToSpace)]
    assert names == ["1.1"] * 3 + [""] * 3


def test_when_the_way_up_is_new_everybody_below_attaches_again() -> None:
    node = relay()
    node.now += 60_000  # a link that lived for a moment only is not replaced at once
    node.give(LinkClosed(node.uplink, "cut"))
    node.attach()
    assert [type(message) for message in node.to(LEFT)] == [m.Reattached]
    assert len(node.to_space(m.Inventorize)) == 1
    attach = m.decode_node_payload(node.to(node.uplink)[1].payload)
    assert isinstance(attach, m.Attach)
    assert attach.order > 1


def test_the_word_of_the_parent_is_passed_on() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.attach(parent=0)
    node.child(6, LEFT)
    assert [hello.headless for hello in node.to(LEFT)] == [False]
    node.looked()
    for headless in (True, True, False):
        node.give(Received(node.uplink, m.Pong(headless)))
    assert node.words() == [True, False]
    assert node.to(LEFT) == [m.Pong(True), m.Pong(False)]


def test_a_parent_without_a_head_says_so_in_its_greeting() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.looked()
    node.give(LinkOpened(1, 0, "up:1"))
    node.give(Received(1, m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, "test", 0, 1, "test", True)))
    assert node.words() == [True]
    node.child(6, LEFT)
    assert [hello.headless for hello in node.to(LEFT)] == [True]
    node.looked()
    node.from_child(LEFT, m.Ping(1))
    assert node.to(LEFT) == [m.Pong(True)]


def test_no_head_may_speak_for_the_agent() -> None:
    node = relay()
    with pytest.raises(ProtocolError):
        node.give(Received(node.uplink, m.Down(1, [0, 0], m.encode(m.Alone(True)))))


def node_that_compares() -> NodeRig:
    """Return a node that was given a launch and looks whether it has the program; bpinit knows nothing of it yet."""
    node = NodeRig(0)
    node.attach()
    node.launch("1.6", [0], image=b"i" * 32, program=b"/bin/program", program_id=b"p" * 32)
    assert node.to_space(m.Launch) == []
    node.looked()
    return node


def test_what_comes_for_a_job_whose_program_is_looked_for_comes_after_its_launch() -> None:
    node = node_that_compares()
    node.down([0], m.Attend("1.5", False))
    assert node.to_space(m.Launch) == []
    node.looked()
    for _ in range(2):
        node.down([0], m.Attend("1.6", False))
    assert [type(command) for command in node.to_space(m.Message)] == [m.Launch, m.Attend, m.Attend]
    assert [launch.waits for launch in node.to_space(m.Launch)] == [True]
    node.give(Compared("1.6", True))
    assert [launch.waits for launch in node.to_space(m.Launch)] == [True, False]


def test_a_job_that_is_released_while_its_program_is_looked_for_never_starts() -> None:
    node = node_that_compares()
    node.down([0], m.Release("1.6"))
    node.give(Compared("1.6", True))
    assert [type(command) for command in node.to_space(m.Message)] == [m.Release]
