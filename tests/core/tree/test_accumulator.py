"""Merging words on one subject: complete news at once, the rest in few pieces."""

from __future__ import annotations

from heorot.core.tree.accumulator import CALM_MS, LONGEST_WAIT_FACTOR, MAX_MERGED_ENTRIES, Accumulator
from heorot.core.tree.merged_reports import LAUNCH_WAIT_MS_PER_NODE, LONGEST_LAUNCH_WAIT_MS, MergedReports
from heorot.core.tree.runs import flat
from heorot.core.wire.tree import Report


def over(node: int) -> Report:
    """A node whose only rank is started and over."""
    return Report("1.1", [node, node, 100 + node], [node, node, 0, 0, 0], [], 1, 1)


def test_news_waits_until_all_expected_nodes_are_over() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b111, 50)
    assert not merged.add(over(0))
    assert not merged.add(over(1))
    assert merged.add(over(2))
    report = flat(merged.take())
    assert report.started == [0, 0, 100, 1, 1, 101, 2, 2, 102]
    assert report.exited == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 2, 2, 0, 0, 0]
    assert (report.nodes_started, report.nodes_over) == (3, 3)
    assert merged.finished


def test_all_started_is_told_at_once_and_their_ends_later() -> None:
    merged = Accumulator(MergedReports("1.1"), 0b11, 50)
    assert not merged.add(Report("1.1", [0, 0, 100], [], [], 1, 0))
    assert merged.add(Report("1.1", [1, 1, 101], [], [], 1, 0))
    merged.take()
    assert not merged.finished
    assert not merged.add(Report("1.1", [], [0, 0, 0, 0, 0], [], 0, 1))
    assert merged.add(Report("1.1", [], [1, 1, 9, 0, 0], [], 0, 1))


def test_waiting_grows_in_a_burst_within_a_bound_and_is_short_again_after_a_calm() -> None:
    reports = MergedReports("1.1")
    reports.nodes_started = 3
    merged = Accumulator(reports, 0b111, 50)
    now_ms, waits = 5_000, []
    for _ in range(7):
        due_ms = merged.due_ms(now_ms)
        waits.append(due_ms - now_ms)
        now_ms = due_ms
        merged.waited(now_ms)
    assert waits == [50, 100, 200, 400, 800, 800, 800]
    assert max(waits) == 50 * LONGEST_WAIT_FACTOR
    assert merged.due_ms(now_ms + CALM_MS) == now_ms + CALM_MS + 50


def test_news_of_a_launch_of_many_nodes_waits_longer() -> None:
    reports = MergedReports("1.1")
    merged = Accumulator(reports, (1 << 31) - 1, 50)
    merged.add(over(0))
    assert merged.due_ms(5_000) == 5_000 + 31 * LAUNCH_WAIT_MS_PER_NODE
    assert Accumulator(MergedReports("1.1"), (1 << 900) - 1, 50).due_ms(5_000) == 5_000 + LONGEST_LAUNCH_WAIT_MS
    reports.nodes_started = 31
    assert merged.due_ms(5_000) == 5_000 + 50


def test_a_merged_report_is_bounded() -> None:
    merged = Accumulator(MergedReports("1.1"), (1 << 20) - 1, 50)
    one_node = Report("1.1", [0, 0, 1] * (MAX_MERGED_ENTRIES // 6), [], [], 0, 0)
    assert not merged.add(one_node)
    assert merged.add(one_node) or merged.add(one_node)
