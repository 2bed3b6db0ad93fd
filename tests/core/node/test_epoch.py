"""A node obeys no head that was deposed, and a new one only when its epoch is on disk."""

from __future__ import annotations

from heorot.core.machine import (
    Kept,
    LinkClosed,
    Log,
    Received,
    SetTimer,
    TimerFired,
)
from heorot.core.node.epoch import MAX_HELD
from heorot.core.node.timers import RetryDue
from heorot.core.timers import HeartbeatDue
from heorot.core.wire import tree as m
from tests.core.rigs import LEFT, NodeRig, placement, relay


def test_a_command_of_a_deposed_head_is_refused() -> None:
    node = NodeRig(0)
    link = node.attach(epoch=2)
    assert node.remembered("epoch") == b"2"
    node.looked()
    node.down([0], m.Release("1.1"), epoch=1)
    assert node.to_space(m.Release) == []
    assert [message.code for message in node.to(link)] == ["old-epoch"]
    assert node.closed(link)


def test_a_head_of_an_older_epoch_is_left_at_its_greeting() -> None:
    node = NodeRig(0, epoch=5)
    link = node.attach(epoch=4)
    assert node.closed(link)
    assert not node.machine.uplink.attached


def test_a_parent_that_is_no_head_cannot_raise_the_epoch() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.attach(parent=0, epoch=99)
    assert node.machine.epoch == 0
    assert node.machine.uplink.attached


def test_a_placement_of_a_deposed_head_moves_nobody() -> None:
    node = NodeRig(2, placement=placement(2, [0], epoch=3, serial=9), epoch=3)
    link = node.attach(parent=0, epoch=3)
    node.looked()
    node.down([2], m.Place(placement(2, [1], epoch=2, serial=10)), epoch=3)
    node.down([2], m.Place(placement(2, [1], epoch=3, serial=8)), epoch=3)
    assert not node.closed(link)
    node.down([2], m.Place(placement(2, [1], epoch=3, serial=10)), epoch=3)
    assert node.closed(link)
    assert node.wanted().host == "host1"


def test_a_head_is_obeyed_only_when_its_epoch_is_on_disk() -> None:
    node = NodeRig(0)
    node.disk = "slow"
    node.attach(epoch=5)
    node.down([0], m.Admit(7, "1.0"), epoch=5)
    node.launch("5.1", [0], epoch=5)
    assert not node.machine.uplink.attached
    assert node.to_space(m.Launch) == []
    node.disk = "quick"
    node.give(Kept("epoch", b"5", ""))
    assert node.machine.uplink.attached
    assert node.machine.epoch == 5
    assert [launch.job for launch in node.to_space(m.Launch)] == ["5.1"]


def test_a_launch_of_a_higher_epoch_waits_for_the_disk_here_and_nowhere_else() -> None:
    node = relay()
    node.disk = "slow"
    node.launch("2.1", [0, 2], epoch=2)
    node.down([0, 2], m.Attend("2.1", True), epoch=2)
    assert [m.tag_of(down.payload) for down in node.to(LEFT)] == [48]
    assert node.to_space(m.Launch) == []
    node.give(Kept("epoch", b"2", ""))
    assert [m.tag_of(down.payload) for down in node.to(LEFT)] == [48, 51]
    assert [type(c) for c in node.to_space(m.Message)] == [m.Alone, m.Launch, m.Attend]


def test_an_epoch_that_cannot_be_kept_is_not_obeyed_and_tried_again_later() -> None:
    node = NodeRig(0)
    node.disk = "full"
    link = node.attach(epoch=5)
    assert node.closed(link)
    assert node.machine.epoch == 0
    assert node.words() == [True]
    assert any(isinstance(item, Log) and "no space" in item.text for item in node.sent)
    for _ in range(20):
        (retry,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == RetryDue()]
        node.now = retry.at_ms
        node.looked()
        node.give(TimerFired(RetryDue()))
        node.attach(epoch=5)
        # Neither a tight loop nor a line in the log each time.
        assert not any(isinstance(item, Log) for item in node.sent)
    assert node.now > 5_000
    node.disk = "quick"
    node.give(TimerFired(RetryDue()))
    node.attach(epoch=5)
    assert node.machine.uplink.attached


def test_a_higher_epoch_that_a_relay_hands_on_and_that_cannot_be_kept_costs_the_link() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    link = node.attach(parent=0)
    node.disk = "full"
    node.launch("9.1", [2], epoch=9)
    assert node.closed(link)
    assert node.machine.epoch == 0
    assert node.to_space(m.Launch) == []
    (retry,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == RetryDue()]
    assert retry.at_ms >= node.now + 1_000


def waiting_for_its_disk() -> NodeRig:
    """Return node 2 below node 0, which has a child, and whose slow disk writes the epoch of a placement."""
    node = NodeRig(2, placement=placement(2, [0]), epoch=1)
    node.attach(parent=0)
    node.child(6, LEFT)
    node.admit(LEFT, 6, [0, 2])
    node.disk = "slow"
    node.down([2], m.Place(placement(2, [1], epoch=2)), epoch=2)
    node.looked()
    return node


def test_a_slow_disk_keeps_nobody_from_attaching_again_when_the_way_of_its_parent_is_new() -> None:
    node = waiting_for_its_disk()
    node.give(Received(node.uplink, m.Pong(True)))
    node.give(Received(node.uplink, m.Pong(False)))
    node.give(Received(node.uplink, m.Reattached(1)))
    assert node.to(LEFT) == [m.Pong(True), m.Pong(False), m.Reattached(1)]
    (up,) = node.to(node.uplink)
    assert isinstance(m.decode_node_payload(up.payload), m.Attach)
    assert len(node.to_space(m.Inventorize)) == 1


def test_commands_from_before_a_node_has_attached_again_are_not_carried_out_behind_that() -> None:
    node = waiting_for_its_disk()
    node.launch("2.1", [2, 6], epoch=2)
    node.give(Received(node.uplink, m.Reattached(1)))
    node.down([2], m.Release("1.1"), epoch=2)
    node.give(Kept("epoch", b"2", ""))
    # Its inventory did not show them: so the head says again what is still true of them.
    assert node.to_space(m.Launch) == []
    assert not node.closed(node.uplink)
    assert not any(isinstance(message, m.Down) for message in node.to(LEFT))
    assert [release.job for release in node.to_space(m.Release)] == ["1.1"]


def test_the_time_that_a_disk_takes_for_the_epoch_is_not_the_silence_of_the_head() -> None:
    node = NodeRig(0, heartbeat_ms=1_000, link_timeout_ms=1_000)
    node.disk = "slow"
    link = node.attach(epoch=5)
    node.now = 999
    node.give(Kept("epoch", b"5", ""))
    node.now = 1_001
    node.give(TimerFired(HeartbeatDue()))
    assert not node.closed(link)
    assert node.machine.uplink.attached


def test_what_a_former_parent_said_is_forgotten_when_the_disk_answers() -> None:
    node = NodeRig(0)
    node.disk = "slow"
    link = node.attach(epoch=5)
    node.give(LinkClosed(link, "cut"))
    node.give(Kept("epoch", b"5", ""))
    assert node.machine.epoch == 5
    assert not node.machine.uplink.attached


def test_a_parent_cannot_fill_the_memory_while_the_disk_is_slow() -> None:
    node = NodeRig(0)
    node.disk = "slow"
    link = node.attach(epoch=5)
    for _ in range(MAX_HELD - 1):
        node.down([0], m.Attend("1.1", True), epoch=5)
    assert not node.closed(link)
    node.down([0], m.Attend("1.1", True), epoch=5)
    assert node.closed(link)
    node.give(Kept("epoch", b"5", ""))
    assert node.machine.epoch == 5
    assert node.to_space(m.Attend) == []
