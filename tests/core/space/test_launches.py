"""Launches on a node: each starts its ranks once, is told, or fails with a reason."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.endings import EXIT_DELAY_MS
from heorot.core.space.jobs import MAX_TOMBSTONES, TOMBSTONE_MS, Tombstones
from heorot.core.space.launches import ESTALE, REPORT_DELAY_MS, UNATTENDED_REPORT_DELAY_MS
from heorot.core.streams import TAKES_NO_MORE
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, launch, sent


def test_a_start_is_told_after_a_while() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    driver.give(e.ProcessStarted(first, 500))
    assert driver.advance(REPORT_DELAY_MS - 1) == []
    driver.give(e.ProcessStarted(second, 501))
    (report,) = sent(driver.advance(1), m.Report)
    assert report == m.Report("1.1", [NODE, 0, 500, NODE, 1, 501], [], [], 1, 0)
    driver.end(first)
    (report,) = sent(driver.advance(EXIT_DELAY_MS), m.Report)
    assert (report.exited, report.nodes_over) == ([NODE, 0, 0, 0, 0], 0)


def test_the_start_of_a_job_whose_client_has_not_stayed_is_told_soon() -> None:
    driver = Driver()
    (slot,) = driver.launch(attended=False)
    driver.give(e.ProcessStarted(slot, 500))
    (report,) = sent(driver.advance(UNATTENDED_REPORT_DELAY_MS), m.Report)
    assert report.started == [NODE, 0, 500]


def test_failures_are_told_in_the_same_turn() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    driver.give(e.StartFailed(first, 2, "no"))
    driver.give(e.StartFailed(second, 2, "no"))
    (report,) = sent(driver.advance(0), m.Report)
    assert ([f.rank for f in report.failed], report.nodes_started, report.nodes_over) == ([0, 1], 1, 1)


def test_a_released_jobs_ticket_starts_nothing() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    out = driver.command(m.Release("1.1"))
    assert e.Destroy([slot]) in out
    (report,) = sent(driver.command(launch("1.1")), m.Report)
    assert report.failed[0].error == ESTALE
    driver.end(slot, 9)
    assert driver.space.live_slots == 0
    assert not sent(driver.wanted, m.Report)[1:]


def test_a_release_before_the_start_cancels_it() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    assert e.CancelStarts("1.1") in driver.command(m.Release("1.1"))
    # Had it been started all the same, in that moment, it would not be left alone.
    assert driver.give(e.ProcessStarted(slot, 500)) == [e.Destroy([slot])]
    assert driver.give(e.ProcessExited(slot, 9, True)) == [e.CloseOutputs(slot), e.ForgetSlots([slot])]


def test_tombstones_are_bounded_and_err_on_the_safe_side() -> None:
    tombstones = Tombstones()
    for index in range(MAX_TOMBSTONES + 10):
        tombstones.bury(f"1.{index}", 1000 + index, 0)
    assert len(tombstones) == MAX_TOMBSTONES
    assert all(tombstones.refuses(f"1.{index}", 1000 + index) for index in range(0, MAX_TOMBSTONES + 10, 1000))
    assert tombstones.refuses("2.1", 1009)
    assert not tombstones.refuses("2.1", 1010)
    tombstones.bury("3.1", 10**9, TOMBSTONE_MS + 1)
    assert len(tombstones) == 1


def test_repeating_a_launch_repeats_the_report_only() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    driver.give(e.ProcessStarted(first, 500))
    driver.give(e.StartFailed(second, 2, "no"))
    driver.end(first)
    (before,) = sent(driver.advance(0), m.Report)
    out = driver.command(launch("1.1", 2)) + driver.advance(0)
    assert not [i for i in out if isinstance(i, e.StartRanks)]
    assert sent(out, m.Report) == [before]


def test_a_refused_launch_has_failed_for_every_head_until_it_is_released() -> None:
    driver = Driver()
    first = launch("1.1", ranks=2)
    failed = [m.Failure(NODE, rank, 0, "the clock") for rank in (0, 1)]
    driver.command(m.RefuseLaunch(first.ticket, first.signature, "the clock"))
    assert sent(driver.advance(0), m.Report) == [m.Report("1.1", [], [], failed, 1, 1)]
    # The next head asks what there is, and launches it again: the clock is right by now.
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs == [m.JobInventory("1.1", [], [], failed, TAKES_NO_MORE)]
    assert sent(driver.command(m.FetchLaunch("1.1")), m.LaunchCopy)[0].ticket == first.ticket
    driver.command(launch("1.1", ranks=2, epoch=2))
    assert sent(driver.advance(0), m.Report) == [m.Report("1.1", [], [], failed, 1, 1)]
    assert driver.space.live_slots == 0
    assert not [item for item in driver.wanted if isinstance(item, e.StartRanks)]
    driver.command(m.Release("1.1"))
    (report,) = sent(driver.command(first), m.Report)
    assert {failure.error for failure in report.failed} == {ESTALE}


def test_a_refused_launch_changes_nothing_of_what_runs_or_was_released() -> None:
    driver = Driver()
    known = launch("1.1")
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.command(m.RefuseLaunch(known.ticket, known.signature, "the clock"))
    assert sent(driver.advance(0), m.Report) == [m.Report("1.1", [NODE, 0, 500], [], [], 1, 0)]
    driver.end(slot)
    driver.command(m.Release("1.1"))
    (report,) = sent(driver.command(m.RefuseLaunch(known.ticket, known.signature, "the clock")), m.Report)
    assert [(failure.error, "released" in failure.text) for failure in report.failed] == [(ESTALE, True)]
    assert driver.space.jobs == {}


def test_a_node_holds_a_bounded_number_of_jobs() -> None:
    driver = Driver(max_jobs=2)
    driver.launch("1.1")
    driver.launch("1.2")
    (report,) = sent(driver.command(launch("1.3")), m.Report)
    assert "release some" in report.failed[0].text
    assert (report.nodes_started, report.nodes_over) == (1, 1)
