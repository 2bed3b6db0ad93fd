"""What is told of the end of a rank besides its status."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.endings import UNSEEN
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, launch, sent


def test_who_was_not_waited_for_and_ends_as_if_there_were_no_program_is_told_why() -> None:
    driver = Driver()
    slots = driver.launch(ranks=3)
    for slot, unseen in zip(slots, (True, True, False), strict=True):
        driver.give(e.ProcessStarted(slot, 500 + slot, unseen))
    for slot, status in zip(slots, (127, 1, 127), strict=True):
        driver.end(slot, status << 8)
    (report,) = sent(driver.advance(1000), m.Report)
    assert report.notes == [m.Failure(NODE, 0, 0, UNSEEN)]


def test_what_was_killed_of_a_rank_goes_with_its_end_and_into_each_snapshot() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    for slot in (first, second):
        driver.give(e.ProcessStarted(slot, 500 + slot))
        driver.give(e.WriteEnded(slot, 1))
        driver.give(e.WriteEnded(slot, 2))
        driver.give(e.ProcessExited(slot, 0, False))
    driver.give(e.Swept(first, 3))
    driver.give(e.Swept(second))
    (report,) = sent(driver.advance(100), m.Report)
    assert (report.exited[1::5], report.killed) == ([0, 1], [NODE, 0, 3])
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].killed == [0, 3]
    assert not sent(driver.advance(1000), m.Report)[1:]
    driver.command(launch("1.1", ranks=2))
    assert sent(driver.advance(0), m.Report)[-1].killed == [NODE, 0, 3]


def test_what_a_rank_has_used_goes_with_its_end_and_into_each_snapshot() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    for slot in (first, second):
        driver.give(e.ProcessStarted(slot, 500 + slot))
        driver.give(e.WriteEnded(slot, 1))
        driver.give(e.WriteEnded(slot, 2))
    driver.give(e.ProcessExited(second, 0, True, (70, 8, 50_000)))
    (report,) = [report for report in sent(driver.advance(100), m.Report) if report.exited]
    assert (report.used_runs, report.used) == ([NODE, 1, 1], [70, 8, 50_000])
    driver.give(e.ProcessExited(first, 0, True))
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].used == [1, 70, 8, 50_000]
    assert not [report for report in sent(driver.advance(1000), m.Report) if report.used]
    driver.command(launch("1.1", ranks=2))
    assert sent(driver.advance(0), m.Report)[-1].used == [70, 8, 50_000]
