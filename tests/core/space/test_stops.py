"""Ranks that stop and go on: what is counted, what is told of it, and how often."""

from __future__ import annotations

import pytest

from heorot.core.space import events as e
from heorot.core.space.states import EXITED, OVER, RUNNING, STOPPED
from heorot.core.space.stops import STOP_DELAY_MS, STOPS_APART_MS
from heorot.core.states import ImpossibleStep
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, launch, sent

SIGSTOP, SIGTSTP = 19, 20


def running(ranks: int = 1) -> tuple[Driver, list[int]]:
    """Return a space with a job whose starts were told, and the slots of its ranks."""
    driver = Driver()
    slots = driver.launch(ranks=ranks)
    for slot in slots:
        driver.give(e.ProcessStarted(slot, 500 + slot))
    driver.advance(1000)
    driver.wanted.clear()
    return driver, slots


def told(driver: Driver) -> list[list[int]]:
    """Return what reports have said since it was looked at last of how ranks stand."""
    stops = [report.stops for report in sent(driver.wanted, m.Report)]
    driver.wanted.clear()
    return stops


def test_a_stop_and_going_on_are_told_once_each_with_what_was_written_before() -> None:
    driver, (slot,) = running()
    rank = driver.space.jobs["1.1"].ranks[0]
    driver.give(e.Wrote(slot, 1, b"hello"))
    driver.give(e.ProcessStopped(slot, SIGTSTP))
    assert rank.state is STOPPED
    driver.advance(STOP_DELAY_MS)
    assert told(driver) == [[NODE, 0, 1, SIGTSTP, 5, 0]]
    driver.give(e.ProcessContinued(slot))
    assert rank.state is RUNNING
    driver.advance(STOPS_APART_MS)
    assert told(driver) == [[NODE, 0, 2, 0, 5, 0]]
    driver.advance(10_000)
    assert told(driver) == []
    assert driver.space.deadline_ms is None


def test_ranks_that_stop_together_are_told_of_together() -> None:
    driver, slots = running(3)
    for slot in slots:
        driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.advance(STOP_DELAY_MS)
    assert told(driver) == [[v for rank in range(3) for v in (NODE, rank, 1, SIGSTOP, 0, 0)]]


def test_who_stops_and_goes_on_without_end_is_told_of_a_few_times_with_the_last_state() -> None:
    driver, (slot,) = running()
    for _ in range(500):
        driver.give(e.ProcessStopped(slot, SIGSTOP))
        driver.give(e.ProcessContinued(slot))
        driver.advance(1)
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.advance(STOPS_APART_MS)
    reports = told(driver)
    assert len(reports) <= 500 // STOPS_APART_MS + 2
    assert reports[-1] == [NODE, 0, 1001, SIGSTOP, 0, 0]


def test_one_that_stops_again_while_it_is_said_to_be_stopped_went_on_meanwhile() -> None:
    driver, (slot,) = running()
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.advance(STOP_DELAY_MS)
    driver.give(e.ProcessStopped(slot, SIGTSTP))
    driver.advance(STOPS_APART_MS)
    assert told(driver) == [[NODE, 0, 1, SIGSTOP, 0, 0], [NODE, 0, 3, SIGTSTP, 0, 0]]


def test_a_snapshot_says_how_ranks_stand_and_so_does_a_repeated_launch() -> None:
    driver, (first, second, third) = running(3)
    driver.give(e.ProcessStopped(first, SIGSTOP))
    driver.give(e.ProcessStopped(second, SIGSTOP))
    driver.give(e.ProcessContinued(second))
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].stops == [0, 1, SIGSTOP, 0, 0, 1, 2, 0, 0, 0]
    assert inventory.jobs[0].running == [0, 501, 1, 502, 2, 503]
    driver.advance(1000)
    assert told(driver) == [], "the snapshot has said it"
    driver.command(launch("1.1", ranks=3))
    driver.advance(0)
    assert told(driver)[-1] == [NODE, 0, 1, SIGSTOP, 0, 0, NODE, 1, 2, 0, 0, 0]
    driver.end(third)
    driver.advance(100)
    assert told(driver) == [[]], "its end says nothing of the others"


def test_who_is_over_is_not_said_to_be_stopped() -> None:
    driver, (slot,) = running()
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.end(slot, 9)
    driver.advance(100)
    (report,) = sent(driver.wanted, m.Report)
    assert (report.exited, report.stops) == ([NODE, 0, 9, 0, 0], [])
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].stops == []


def test_a_rank_that_ends_while_it_is_stopped_is_stopped_no_longer_however_long_its_pipes_stay_open() -> None:
    driver, (slot,) = running()
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.advance(STOP_DELAY_MS)
    told(driver)
    driver.give(e.ProcessExited(slot, 9, False))
    assert driver.space.jobs["1.1"].ranks[0].state is EXITED
    driver.advance(STOPS_APART_MS)
    assert told(driver) == [[NODE, 0, 2, 0, 0, 0]]
    for event in (e.Swept(slot), e.WriteEnded(slot, 1), e.WriteEnded(slot, 2)):
        driver.give(event)
    assert driver.space.jobs["1.1"].ranks[0].state is OVER


def test_stopped_ranks_take_input_and_sizes_of_terminals_and_hear_a_hang_up() -> None:
    driver = Driver()
    (slot,) = driver.launch(headless_ms=1000)
    driver.give(e.ProcessStarted(slot, 500))
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    assert e.Feed(slot, b"words") in driver.command(m.Stdin("1.1", None, 0, b"words", False))
    assert driver.command(m.Resize("1.1", 50, 100)) == [e.ResizeTerminals([slot], 50, 100)]
    driver.command(m.Alone(True))
    assert e.SendSignal(slot, 1) in driver.advance(1000)
    assert e.Destroy([slot]) in driver.advance(2000)


def test_nobody_hears_of_a_job_that_was_released_and_who_did_not_stop_cannot_go_on() -> None:
    driver, (slot, other) = running(2)
    with pytest.raises(ImpossibleStep, match="is running, where continued cannot happen"):
        driver.give(e.ProcessContinued(other))
    driver.command(m.Release("1.1"))
    driver.give(e.ProcessStopped(slot, SIGSTOP))
    driver.advance(1000)
    assert told(driver) == []
    driver.give(e.ProcessStopped(99, SIGSTOP))
    assert driver.end(slot, 9)
