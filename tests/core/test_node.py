"""The agent's machine as transcripts: a hop of the tree that believes only what it can check."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core import messages as m
from heorot.core.epoch_keeping import MAX_HELD
from heorot.core.errors import ProtocolError
from heorot.core.machine import (
    Connect,
    ConnectFailed,
    FromSpace,
    Kept,
    LinkClosed,
    LinkOpened,
    Log,
    Received,
    Send,
    SetTimer,
    SpaceClosed,
    Stop,
    TimerFired,
)
from heorot.core.tickets import seal_ticket
from tests.core.rigs import HEAD, NodeRig, hello, placement, sign, ticket

LEFT, RIGHT = 51, 52


def relay() -> NodeRig:
    """Return node 0, attached to the head, with the children 2 and 3 and, below 2, node 6."""
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.child(3, RIGHT)
    node.admit(LEFT, 2, [0])
    node.admit(RIGHT, 3, [0])
    node.admit(LEFT, 6, [0, 2], parent=2)
    node.looked()
    return node


def test_a_command_is_delivered_here_and_split_among_the_children() -> None:
    node = relay()
    node.down([0, 2, 3, 6], m.Attend("1.1", True))
    assert len(node.to_space(m.Attend)) == 1
    assert [down.nodes for down in node.to(LEFT)] == [[2, 2, 6, 6]]
    assert [down.nodes for down in node.to(RIGHT)] == [[3, 3]]


def test_reports_of_one_launch_go_up_as_one() -> None:
    node = relay()
    node.launch("1.1", [0, 2, 3, 6])
    node.looked()
    node.give(FromSpace(m.encode(m.Report("1.1", [0, 0, 10], [], [], 1))))
    node.from_child(RIGHT, m.Report("1.1", [3, 2, 13], [], [], 1))
    assert node.to(node.uplink) == []
    node.from_child(LEFT, m.Report("1.1", [2, 1, 12, 6, 3, 16], [], [], 2))
    (report,) = node.to(node.uplink)
    assert report.started == [0, 0, 10, 3, 2, 13, 2, 1, 12, 6, 3, 16]


def test_a_report_of_a_node_that_has_moved_is_left_out_and_nobody_is_cut_off() -> None:
    node = relay()
    node.from_child(RIGHT, m.Report("1.1", [6, 0, 16, 3, 1, 13], [6, 0, 0, 0, 0], []))
    (report,) = node.to(node.uplink)
    assert (report.started, report.exited) == ([3, 1, 13], [])
    assert not node.closed(RIGHT)


def test_half_a_record_is_a_breach_of_the_protocol() -> None:
    node = relay()
    with pytest.raises(ProtocolError):
        node.from_child(RIGHT, m.Report("1.1", [3, 1], [], []))


def test_reports_are_not_waited_for_once_their_job_is_released() -> None:
    node = relay()
    node.launch("1.1", [0, 2])
    node.down([0, 2], m.Release("1.1"))
    assert node.machine.reports.accumulators == {}


def test_reports_are_not_waited_for_from_nodes_that_have_gone_or_attached_anew() -> None:
    node = relay()
    node.launch("1.1", [2, 3, 6])
    node.admit(LEFT, 2, [0], order=2)
    node.from_child(LEFT, m.Detached([6, 6]))
    node.give(LinkClosed(RIGHT, "cut"))
    assert node.machine.reports.accumulators == {}


def test_what_others_have_said_waits_no_longer_when_a_node_goes() -> None:
    node = relay()
    node.launch("1.1", [2, 3, 6])
    node.from_child(LEFT, m.Report("1.1", [2, 0, 12, 6, 2, 16], [], [], 2))
    node.looked()
    node.give(LinkClosed(RIGHT, "cut"))
    report, detached = node.to(node.uplink)
    assert report.started == [2, 0, 12, 6, 2, 16]
    assert detached.nodes == [3, 3]


def test_nothing_is_waited_for_if_a_launch_is_for_nodes_that_have_just_left() -> None:
    node = relay()
    node.give(LinkClosed(RIGHT, "cut"))
    node.launch("1.1", [3])
    assert node.machine.reports.accumulators == {}


def test_a_launch_for_a_former_incarnation_is_dropped() -> None:
    node = NodeRig(0, after="1.5")
    node.attach()
    node.launch("1.5", [0])
    assert node.to_space(m.Launch) == []
    node.launch("1.6", [0])
    assert [launch.job for launch in node.to_space(m.Launch)] == ["1.6"]


def test_nobody_waits_for_the_reports_of_a_launch_that_was_dropped() -> None:
    node = NodeRig(2, after="1.5", placement=placement(2, [0]))
    node.attach(parent=0)
    node.looked()
    node.launch("1.5", [2])
    (report,) = [message for message in node.to(node.uplink) if isinstance(message, m.Report)]
    assert (report.started, report.nodes_over) == ([], 1)
    above = relay()
    above.launch("1.5", [2])
    above.from_child(LEFT, report)
    assert above.machine.reports.accumulators == {}
    assert above.to(above.uplink) == [report]


def test_nothing_is_launched_before_a_head_knows_the_incarnation() -> None:
    node = NodeRig(0, after="")
    node.attach()
    node.launch("1.6", [0])
    assert node.to_space(m.Launch) == []
    node.down([0], m.Admit(8, "1.0"))  # of another incarnation
    node.down([0], m.Admit(7, "1.5"))
    node.down([0], m.Admit(7, "1.9"))  # the first one counts
    assert [admit.after for admit in node.to_space(m.Admit)] == ["1.5"]
    node.launch("1.6", [0])
    assert [launch.job for launch in node.to_space(m.Launch)] == ["1.6"]


WRONG_CLOCK_MS = 5 * 86_400_000


def test_a_launch_at_a_wrong_time_is_left_to_the_space_which_remembers_that_it_was_refused() -> None:
    node = NodeRig(0, after="1.5", wall_offset_ms=WRONG_CLOCK_MS)
    node.attach()
    node.looked()
    # Meant for a former incarnation: that is for the head to sort out, whatever the clock says.
    node.launch("1.5", [0])
    assert node.to_space(m.RefuseLaunch) == []
    node.launch("1.6", [0])
    (refused,) = node.to_space(m.RefuseLaunch)
    assert m.decode_ticket(refused.ticket).job == "1.6"
    assert "n0 refuses the launch" in refused.text
    assert "synchronise the clocks" in refused.text
    assert node.to_space(m.Launch) == []
    # The space answers, nobody else.
    assert [report.job for report in node.to(node.uplink) if isinstance(report, m.Report)] == ["1.5"]


def test_a_space_of_an_older_release_is_told_nothing_of_a_launch_at_a_wrong_time() -> None:
    node = NodeRig(0, takes_refusals=False, wall_offset_ms=WRONG_CLOCK_MS)
    node.attach()
    node.looked()
    node.launch("1.6", [0])
    assert node.to_space(m.RefuseLaunch) == node.to_space(m.Launch) == []
    (report,) = [item for item in node.to(node.uplink) if isinstance(item, m.Report)]
    assert [(failure.node, failure.rank) for failure in report.failed] == [(0, 0)]


def test_a_launch_without_the_heads_signature_is_reported_as_failed() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    node.down([0], m.Launch(launch.ticket, b"forged", "1.1"))
    assert node.to_space(m.Launch) == []
    (report,) = [message for message in node.to(node.uplink) if isinstance(message, m.Report)]
    assert [(failure.node, failure.rank) for failure in report.failed] == [(0, 0)]


# ------------------------------------------------------------------ epochs


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


# ------------------------------------------------------------------ who is below


def test_a_child_that_the_head_did_not_place_here_is_refused() -> None:
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.looked()
    node.admit(LEFT, 2, [1])
    assert [message.code for message in node.to(LEFT)] == ["not-placed-here"]
    assert node.closed(LEFT)
    assert node.to(node.uplink) == []


def test_a_child_without_a_placement_is_refused() -> None:
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.looked()
    node.from_child(LEFT, m.Up(2, m.encode(m.Attach(2, 7, "host2", 1, b""))))
    assert node.closed(LEFT)


def test_a_node_stays_admitted_when_its_ancestor_moves_below_another_one() -> None:
    # n6 was placed below n2 when n2 stood directly below the head; then n2 came below n0.
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.admit(LEFT, 2, [0])
    node.looked()
    node.admit(LEFT, 6, [2], parent=2)
    assert [up.node for up in node.to(node.uplink)] == [6]


def test_a_child_may_not_offer_a_node_that_belongs_below_another_one() -> None:
    node = relay()
    node.admit(RIGHT, 7, [0, 2], parent=3)
    assert node.to(node.uplink) == []


def test_an_attachment_that_was_overtaken_on_another_way_is_ignored() -> None:
    node = relay()
    node.child(6, 53)
    node.admit(53, 6, [0, 2], order=9)
    node.looked()
    node.admit(LEFT, 6, [0, 2], order=5, parent=2)
    node.from_child(LEFT, m.Detached([6, 6]))
    assert node.to(node.uplink) == []
    node.down([6], m.Attend("1.1", True))
    assert len(node.to(53)) == 1


def test_a_word_that_nodes_are_gone_does_not_count_after_they_have_come_another_way() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=2, parent=3)
    node.looked()
    node.from_child(LEFT, m.Detached([6, 6]))
    assert node.to(node.uplink) == []


def test_what_a_moved_node_says_on_its_former_way_is_dropped() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=2, parent=3)
    node.looked()
    node.from_child(LEFT, m.Up(6, m.encode(m.Inventory(7, []))))
    assert node.to(node.uplink) == []


def test_a_child_that_counts_otherwise_twice_attaches_again() -> None:
    node = relay()
    for _ in range(2):
        node.from_child(LEFT, m.Ping(4))
    assert [type(message) for message in node.to(LEFT)] == [m.Pong, m.Pong, m.Reattached]


def test_the_heartbeat_says_how_many_nodes_are_reached() -> None:
    node = relay()
    node.give(TimerFired("heartbeat"))
    assert node.to(node.uplink) == [m.Ping(4)]


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


def test_a_newer_link_of_a_child_replaces_the_older_one() -> None:
    node = relay()
    node.child(3, 54)
    assert node.closed(RIGHT)
    assert [message.nodes for message in node.to(node.uplink)] == [[3, 3]]


# ------------------------------------------------------------------ the way up


def test_the_way_up_is_looked_for_from_the_nearest_ancestor_to_the_heads_and_again() -> None:
    node = NodeRig(14, placement=placement(14, [0, 2, 6]), heads=2)
    hosts = []
    for _ in range(5):
        hosts.append(node.wanted().host)
        node.give(ConnectFailed(node.wanted().key, "refused"))
    assert hosts == ["host6", "host2", "host0", "head0", "head1"]
    assert isinstance(node.sent[-1], SetTimer)
    assert node.sent[-1].key == "retry"
    node.give(TimerFired("retry"))
    assert node.wanted().host == "host6"


def keys(node: NodeRig) -> list[str]:
    """Return the timers that were set since it was looked at last."""
    return [item.key for item in node.sent if isinstance(item, SetTimer)]


def connects(node: NodeRig) -> list[Connect]:
    """Return the connections that were wanted since it was looked at last."""
    return [item for item in node.sent if isinstance(item, Connect)]


def test_a_head_that_does_not_answer_delays_the_way_to_another_for_a_moment_only() -> None:
    node = NodeRig(0, heads=2)
    silent = node.wanted()
    assert (silent.host, keys(node)[-1]) == ("head0", "another")
    node.looked()
    node.give(TimerFired("another"))
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
    node.give(TimerFired("another"))
    for _ in range(5):
        (other,) = connects(node)
        assert other.host == "head1"
        node.looked()
        node.give(ConnectFailed(other.key, "refused"))
        assert (keys(node), connects(node)) == (["retry"], [])
        node.give(TimerFired("another"))
        assert connects(node) == []
        node.give(TimerFired("retry"))
    node.looked()
    node.give(ConnectFailed(silent.key, "no answer in time"))
    assert connects(node) == []


def test_a_head_that_is_silent_alone_is_waited_for() -> None:
    node = NodeRig(0)
    silent = node.wanted()
    node.give(TimerFired("another"))
    node.give(TimerFired("retry"))
    assert connects(node) == [silent]
    node.attach()
    assert node.machine.uplink.attached


def test_an_ancestor_that_does_not_answer_delays_the_way_to_the_next_for_half_a_second_only() -> None:
    node = NodeRig(14, placement=placement(14, [0, 2]), heads=2)
    silent = node.wanted()
    assert SetTimer("another", 500) in node.sent
    node.give(TimerFired("another"))
    node.give(TimerFired("another"))
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
    node.give(TimerFired("another"))
    node.give(TimerFired("retry"))
    ancestor = node.wanted()
    assert (head.host, ancestor.host) == ("head0", "host0")
    node.give(ConnectFailed(head.key, "no answer in time"))
    node.looked()
    node.give(ConnectFailed(ancestor.key, "no answer in time"))
    assert keys(node) == ["retry"]
    node.give(TimerFired("retry"))
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
    node.give(TimerFired("another"))
    node.give(ConnectFailed(node.wanted().key, "refused"))
    node.give(TimerFired("retry"))
    assert node.wanted().host == "host0"
    node.looked()
    node.give(ConnectFailed(silent.key, "no answer in time"))
    assert connects(node) == []
    node.give(TimerFired("another"))
    assert [item.host for item in connects(node)] == ["head1"]


def test_a_head_that_is_silent_for_its_lease_is_left_for_another() -> None:
    node = NodeRig(0, heads=2)
    link = greet(node, 3_000)
    for beat in range(1, 5):
        node.now = beat * 1_000
        node.give(TimerFired("pulse"))
        assert node.to(link) == [m.Ping(1)]
        node.looked()
        node.now += 1
        node.give(Received(link, m.Pong()))
    for beat in (5, 6):
        node.now = beat * 1_000
        node.give(TimerFired("pulse"))
        assert not node.closed(link)
    node.now = 7_000
    node.give(TimerFired("pulse"))
    assert node.closed(link)
    assert node.wanted().host == "head0"


def test_a_head_without_a_lease_is_asked_at_the_usual_heartbeat_only() -> None:
    node = NodeRig(0, heads=2)
    greet(node, 0)
    assert "pulse" not in keys(node)


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
    node.give(TimerFired("heartbeat"))
    assert not node.closed(9)


def test_a_parent_that_is_silent_for_too_long_is_given_up() -> None:
    node = NodeRig(0)
    link = node.attach()
    node.now = 31_000
    node.give(TimerFired("heartbeat"))
    assert node.closed(link)


def test_an_agent_whose_process_space_has_ended_says_so_and_stops() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.give(SpaceClosed())
    (up,) = node.to(node.uplink)
    assert m.decode_node_payload(up.payload) == m.SpaceGone(7)
    assert isinstance(node.sent[-1], Stop)


def test_output_waits_for_everything_else() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.give(FromSpace(m.encode(m.Output("1.1", 0, 1, 0, b"x"))))
    node.give(FromSpace(m.encode(m.StdinAck("1.1", 5))))
    assert [item.bulk for item in node.sent if isinstance(item, Send)] == [True, False]


# ---------------------------------------------------------------------- with and without a head


def words(node: NodeRig) -> list[bool]:
    """Return what the process space was told of the head."""
    return [command.alone for command in node.to_space(m.Message) if isinstance(command, m.Alone | m.Inventorize)]


def test_an_agent_knows_of_no_head_before_one_greets_it() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    assert words(node) == [True]
    node.attach(parent=0)
    assert words(node) == [True, False, False]


def test_a_lost_way_up_is_told_after_a_moment_and_a_new_one_at_once() -> None:
    node = relay()
    node.now = 5_000
    node.give(LinkClosed(node.uplink, "cut"))
    assert words(node) == []
    node.give(TimerFired("headless"))
    assert words(node) == [True]
    assert node.to(LEFT) == node.to(RIGHT) == [m.Pong(True)]
    node.attach()
    assert words(node) == [True, False, False]
    assert node.to(LEFT) == [m.Pong(True), m.Pong(False), m.Reattached(1)]


def test_a_way_up_that_was_found_at_once_is_not_worth_a_word() -> None:
    node = relay()
    node.now = 5_000
    node.give(LinkClosed(node.uplink, "cut"))
    assert any(isinstance(item, SetTimer) and item.key == "headless" for item in node.sent)
    node.attach()
    node.give(TimerFired("headless"))
    assert words(node) == [False]
    assert node.to(LEFT) == [m.Reattached(1)]


def test_the_word_of_the_parent_is_passed_on() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.attach(parent=0)
    node.child(6, LEFT)
    assert [hello.headless for hello in node.to(LEFT)] == [False]
    node.looked()
    for headless in (True, True, False):
        node.give(Received(node.uplink, m.Pong(headless)))
    assert words(node) == [True, False]
    assert node.to(LEFT) == [m.Pong(True), m.Pong(False)]


def test_a_parent_without_a_head_says_so_in_its_greeting() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.looked()
    node.give(LinkOpened(1, 0, "up:1"))
    node.give(Received(1, m.Hello(1, 1, "test", 0, 1, "test", True)))
    assert words(node) == [True]
    node.child(6, LEFT)
    assert [hello.headless for hello in node.to(LEFT)] == [True]
    node.looked()
    node.from_child(LEFT, m.Ping(1))
    assert node.to(LEFT) == [m.Pong(True)]


def test_a_process_space_of_an_older_release_is_told_only_what_it_understands() -> None:
    node = NodeRig(0)
    node.machine.space._hears_alone = False
    node.attach()
    assert node.to_space(m.Alone) == []


def test_no_head_may_speak_for_the_agent() -> None:
    node = relay()
    with pytest.raises(ProtocolError):
        node.give(Received(node.uplink, m.Down(1, [0, 0], m.encode(m.Alone(True)))))


# ---------------------------------------------------------------------- a higher epoch and the disk


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
    assert words(node) == [True]
    assert any(isinstance(item, Log) and "no space" in item.text for item in node.sent)
    for _ in range(20):
        (retry,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == "retry"]
        node.now = retry.at_ms
        node.looked()
        node.give(TimerFired("retry"))
        node.attach(epoch=5)
        # Neither a tight loop nor a line in the log each time.
        assert not any(isinstance(item, Log) for item in node.sent)
    assert node.now > 5_000
    node.disk = "quick"
    node.give(TimerFired("retry"))
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
    (retry,) = [item for item in node.sent if isinstance(item, SetTimer) and item.key == "retry"]
    assert retry.at_ms >= node.now + 1_000


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
