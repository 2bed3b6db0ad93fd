"""Reports of one job become one: nothing is lost, and each says what nodes it is of."""

from __future__ import annotations

from heorot.core.tree.accumulator import Accumulator
from heorot.core.tree.merged_reports import MergedReports, report_for
from heorot.core.tree.runs import in_runs
from heorot.core.wire.tree import Failure, Report, encode


def test_a_failure_waits_for_no_one() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b111, 50)
    assert merged.add(Report("1.1", [], [], [Failure(0, 0, 2, "no such command: x")], 1, 1))


def test_notes_travel_with_the_report() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b1, 50)
    note = Failure(0, 0, 0, "more than 50 processes")
    merged.add(Report("1.1", [], [0, 0, 9, 0, 0], [], 1, 1, [note]))
    assert merged.take().notes == [note]
    assert merged.empty


def test_what_was_killed_travels_with_the_ends_and_is_left_out_for_nodes_of_others() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b11, 50)
    merged.add(Report("1.1", [], [0, 0, 0, 0, 0], [], 1, 1, killed=[0, 0, 2]))
    assert merged.add(Report("1.1", [], [1, 1, 0, 0, 0], [], 1, 1, killed=[1, 1, 3]))
    report = merged.take()
    assert report.killed == [0, 0, 2, 1, 1, 3]
    assert in_runs(report).killed == report.killed
    part = report_for(0b10, report)
    assert part is not None
    assert part.killed == [1, 1, 3]
    assert merged.empty
    assert merged.take().killed == []


def test_hints_that_cannot_be_true_do_not_grow_without_bound() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b111, 50)
    for _ in range(3):
        merged.add(Report("1.1", [], [], [], (1 << 64) - 1, (1 << 64) - 1))
    assert len(encode(merged.take())) < 64


def test_of_a_rank_that_stops_and_goes_on_while_news_waits_the_last_travels_whichever_came_last() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b11, 50)
    merged.add(Report("1.1", [], [], [], stops=[0, 0, 2, 0, 9, 0]))
    merged.add(Report("1.1", [], [], [], stops=[1, 1, 1, 19, 0, 0, 0, 0, 1, 20, 5, 0]))
    assert not merged.empty
    report = merged.take()
    assert report.stops == [0, 0, 2, 0, 9, 0, 1, 1, 1, 19, 0, 0]
    assert in_runs(report).stops == report.stops
    assert merged.empty
    part = report_for(0b10, report)
    assert part is not None
    assert part.stops == [1, 1, 1, 19, 0, 0]
    assert report_for(0b100, report) is None
