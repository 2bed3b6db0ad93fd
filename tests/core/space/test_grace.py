"""A job that is to end is told, and killed when the grace is over."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.grace import KILL_GRACE_MS
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, sent


def test_jobs_that_are_told_to_end_one_after_the_other_are_killed_one_after_the_other() -> None:
    driver = Driver()
    slots = []
    for number in (1, 2):
        (slot,) = driver.launch(job=f"1.{number}", time_limit_ms=1000)
        driver.give(e.ProcessStarted(slot, 500 + number))
        driver.advance(500)
        slots.append(slot)
    destroyed = [(KILL_GRACE_MS - 500, [slots[0]]), (500, [slots[1]])]
    driver.advance(500)
    for wait_ms, expected in destroyed:
        out = driver.advance(wait_ms)
        assert [item.slots for item in out if isinstance(item, e.Destroy)] == [expected]
    assert driver.space.deadline_ms is None or driver.space.deadline_ms > driver.now


def test_the_reason_is_told_once_and_to_a_new_head_again() -> None:
    driver = Driver()
    (slot,) = driver.launch(time_limit_ms=1000)
    driver.give(e.ProcessStarted(slot, 500))
    driver.advance(1000)
    driver.advance(100)
    note = m.Failure(NODE, 0, 0, "it was ended: its time limit of 1 s is over")
    assert [report.notes for report in sent(driver.wanted, m.Report) if report.notes] == [[note]]
    driver.wanted.clear()
    driver.command(m.Inventorize())
    driver.advance(100)
    assert [report.notes for report in sent(driver.wanted, m.Report) if report.notes] == [[note]]
