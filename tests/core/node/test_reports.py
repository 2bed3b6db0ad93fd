"""Reports on their way up through a node: merged, and never waited for in vain."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import (
    FromSpace,
    LinkClosed,
    SetTimer,
    TimerFired,
)
from heorot.core.node.timers import AnswersDue, BarrierDue, MergeDue
from heorot.core.tree.merged_replies import MergedReplies
from heorot.core.wire import tree as m
from tests.core.rigs import LEFT, RIGHT, NodeRig, placement, relay


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
    assert node.machine.reports.waiting == []


def test_reports_are_not_waited_for_from_nodes_that_have_gone_or_attached_anew() -> None:
    node = relay()
    node.launch("1.1", [2, 3, 6])
    node.admit(LEFT, 2, [0], order=2)
    node.from_child(LEFT, m.Detached([6, 6]))
    node.give(LinkClosed(RIGHT, "cut"))
    assert node.machine.reports.waiting == []


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
    assert node.machine.reports.waiting == []


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
    assert above.machine.reports.waiting == []
    assert above.to(above.uplink) == [report]


def test_what_one_node_says_without_end_is_passed_on_and_not_kept() -> None:
    node = relay()
    node.launch("1.1", [2, 3])
    node.looked()
    killed = [value for rank in range(2_000) for value in (2, rank, 1)]
    for _ in range(30):
        node.from_child(LEFT, m.Report("1.1", [], [], [], killed=killed))
    assert len(node.to(node.uplink)) == 10


def test_reports_that_do_not_fit_into_a_frame_are_not_merged() -> None:
    node = relay()
    node.launch("1.1", [2, 3])
    node.looked()
    for child, link in ((2, LEFT), (3, RIGHT)):
        node.from_child(link, m.Report("1.1", [], [], [], notes=[m.Failure(child, 0, 0, "x" * (5 << 20))]))
    node.give(TimerFired(MergeDue("1.1")))
    assert [len(report.notes) for report in node.to(node.uplink)] == [1, 1]


def replied(node: int, matched: int = 1, more: bool = False, argv: bytes = b"prog") -> m.Up:
    """Return a node's answer to question 9, with as many processes."""
    processes = [m.Process(node, "", -1, 0, "S", 0, [argv], False)] * matched
    return m.Up(node, m.encode(m.Reply(9, matched, processes, more)))


def question(detail: bool = True) -> m.Query:
    """Return question 9."""
    return m.Query(9, None, None, None, 0, detail)


def test_answers_to_one_question_go_up_as_one() -> None:
    node = relay()
    node.down([0, 2, 3, 6], question())
    node.looked()
    node.from_child(LEFT, m.Replies(9, [6, 1, 0], []))
    node.from_child(RIGHT, replied(3))
    node.give(FromSpace(replied(0).payload))
    assert node.to(node.uplink) == []
    node.from_child(LEFT, replied(2))
    (replies,) = node.to(node.uplink)
    assert replies.matched == [0, 1, 1, 2, 2, 1, 6, 1, 0]
    assert [table.node for table in replies.tables] == [3, 0, 2]
    assert node.machine.reports.waiting == []


def test_answers_wait_a_short_while_for_a_node_that_is_silent() -> None:
    node = relay()
    node.down([2, 3], question())
    node.looked()
    node.from_child(LEFT, replied(2))
    (due,) = [item for item in node.sent if isinstance(item, SetTimer)]
    assert (due.key, due.at_ms - node.now) == (AnswersDue(9), node.machine.config.merge_ms)
    node.give(TimerFired(due.key))
    (replies,) = node.to(node.uplink)
    assert replies.matched == [2, 1, 1]
    assert node.machine.reports.waiting == [9]
    node.from_child(RIGHT, replied(3))
    assert node.machine.reports.waiting == []


def test_a_long_answer_goes_up_in_its_parts_and_its_last_one_behind_them() -> None:
    node = relay()
    node.down([2, 3], question())
    node.looked()
    first = replied(2, more=True)
    node.from_child(LEFT, first)
    assert node.to(node.uplink) == [first]
    node.from_child(LEFT, replied(2))
    node.from_child(RIGHT, replied(3))
    assert [type(message) for message in node.to(node.uplink)] == [m.Up, m.Replies]


def test_an_answer_that_is_too_large_to_be_merged_goes_up_as_it_is_and_is_waited_for_no_more() -> None:
    node = relay()
    node.down([2, 3], question())
    node.looked()
    large = replied(2, argv=b"x" * (3 << 20))
    node.from_child(LEFT, large)
    assert node.to(node.uplink) == [large]
    node.from_child(RIGHT, replied(3))
    assert [type(message) for message in node.to(node.uplink)] == [m.Up, m.Replies]
    assert node.machine.reports.waiting == []


def test_an_answer_to_a_question_that_nobody_has_seen_goes_up_as_it_is() -> None:
    node = relay()
    node.from_child(LEFT, replied(2))
    assert node.to(node.uplink) == [replied(2)]


def test_what_a_child_says_for_a_node_that_is_not_below_it_is_left_out() -> None:
    node = relay()
    node.from_child(RIGHT, m.Replies(9, [2, 2, 1], []))
    assert node.to(node.uplink) == [m.Replies(9, [3, 1, 1], [])]
    with pytest.raises(ProtocolError):
        node.from_child(RIGHT, m.Replies(9, [3, 1], []))


def test_the_oldest_question_makes_room_and_loses_nothing() -> None:
    node = relay()
    node.down([2, 3], question())
    node.from_child(LEFT, replied(2))
    node.looked()
    for number in range(MergedReplies.max_subjects):
        node.down([2, 3], m.Query(100 + number, None, None, None, 0, True))
    assert len(node.machine.reports.waiting) == MergedReplies.max_subjects
    (replies,) = node.to(node.uplink)
    assert replies.matched == [2, 1, 1]


def test_a_leaf_passes_its_answer_on_unread() -> None:
    node = NodeRig(2)
    node.attach()
    node.looked()
    node.down([2], question())
    node.give(FromSpace(replied(2).payload))
    assert node.to(node.uplink) == [replied(2)]
    assert node.machine.reports.waiting == []


GARBAGE = b"\x93\x53\xc0\xc0"
"""What has the tag of a `Reply`, and is none."""


def test_an_answer_that_nobody_can_read_cuts_off_who_says_it_and_not_who_passes_it_on() -> None:
    node = relay()
    node.down([2, 3, 6], question())
    node.looked()
    node.from_child(LEFT, m.Up(6, GARBAGE))
    assert node.to(node.uplink) == [m.Up(6, GARBAGE)]
    assert not node.closed(LEFT)
    with pytest.raises(ProtocolError):
        node.from_child(RIGHT, m.Up(3, GARBAGE))


def test_a_child_cannot_say_what_was_killed_on_nodes_that_are_not_below_it() -> None:
    node = relay()
    node.from_child(RIGHT, m.Report("1.1", [3, 1, 13], [], [], killed=[2, 0, 5, 3, 1, 6, -5, 0, 7]))
    (report,) = node.to(node.uplink)
    assert (report.started, report.killed) == ([3, 1, 13], [3, 1, 6])


def gathered(node: int, *entries: bytes) -> m.Gathered:
    """Return what a node says at the first barrier of a job."""
    return m.Gathered("1.1", 0, [node, node], list(entries))


def test_what_nodes_say_at_a_barrier_goes_up_as_one() -> None:
    node = relay()
    node.launch("1.1", [0, 2, 3, 6], pmi=True)
    node.looked()
    node.give(FromSpace(m.encode(gathered(0, b"a", b"0"))))
    node.from_child(RIGHT, gathered(3, b"b", b"3"))
    node.from_child(LEFT, gathered(2))
    assert node.to(node.uplink) == []
    node.from_child(LEFT, gathered(6, b"c", b"6"))
    assert node.to(node.uplink) == [m.Gathered("1.1", 0, [0, 0, 2, 3, 6, 6], [b"a", b"0", b"b", b"3", b"c", b"6"])]
    assert node.machine.reports.of_barriers.accumulators == {}


def test_each_barrier_that_opens_calls_for_the_next_and_a_release_for_none() -> None:
    node = relay()
    node.launch("1.1", [0, 2], pmi=True)
    node.down([0, 2], m.Scattered("1.1", 4, 0, 2, []))
    node.down([0, 2], m.Scattered("1.1", 4, 1, 2, []))
    assert list(node.machine.reports.of_barriers.accumulators) == ["1.1/0", "1.1/5"]
    assert len(node.to_space(m.Scattered)) == 2
    node.launch("1.10", [0, 2], pmi=True)
    node.down([0, 2], m.Release("1.1"))
    assert list(node.machine.reports.of_barriers.accumulators) == ["1.10/0"]


def test_at_a_barrier_nobody_waits_for_a_node_that_is_gone() -> None:
    node = relay()
    node.launch("1.1", [0, 2, 3], pmi=True)
    node.give(FromSpace(m.encode(gathered(0))))
    node.from_child(RIGHT, gathered(3))
    node.looked()
    node.give(LinkClosed(LEFT, "cut"))
    assert m.Gathered("1.1", 0, [0, 0, 3, 3], []) in node.to(node.uplink)


def test_who_has_waited_for_long_at_a_barrier_is_told_of() -> None:
    node = relay()
    node.launch("1.1", [0, 2], pmi=True)
    node.give(FromSpace(m.encode(gathered(0))))
    (timer,) = [item for item in node.sent if isinstance(item, SetTimer) and isinstance(item.key, BarrierDue)]
    node.looked()
    node.now = timer.at_ms
    node.give(TimerFired(timer.key))
    assert node.to(node.uplink) == [gathered(0)]


def test_a_child_speaks_for_no_other_node_at_a_barrier() -> None:
    node = relay()
    node.from_child(RIGHT, m.Gathered("1.1", 0, [2, 3], []))
    assert node.to(node.uplink) == [m.Gathered("1.1", 0, [3, 3], [])]
    node.looked()
    node.from_child(RIGHT, m.Gathered("1.1", 0, [2, 2], []))
    assert node.to(node.uplink) == []
