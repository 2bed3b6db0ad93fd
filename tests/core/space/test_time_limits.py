"""The time of a job begins with its first rank, ends without anybody's help, and is over for all of its ranks."""

from __future__ import annotations

import pytest

from heorot.core.space import events as e
from heorot.core.space.grace import KILL_GRACE_MS
from heorot.core.wire import tree as m
from tests.core.space.test_machine import Driver, sent

LIMIT_MS = 5_000
TOLD = (15, 18)
"""SIGTERM, and SIGCONT for those that are stopped."""
SIGKILL = 9


def running(driver: Driver, **fields: object) -> int:
    (slot,) = driver.launch(**fields)  # type: ignore[arg-type]
    driver.give(e.ProcessStarted(slot, 500))
    return slot


def signals(out: list[e.SpaceInstruction]) -> list[tuple[int, int]]:
    return [(item.slot, item.signal) for item in out if isinstance(item, e.SendSignal)]


def statuses(driver: Driver) -> list[int]:
    return [status for report in sent(driver.wanted, m.Report) for status in report.exited[2::5]]


@pytest.mark.parametrize("loses", ["nothing", "head", "agent"])
def test_it_is_told_and_then_killed_whoever_is_there(loses: str) -> None:
    driver = Driver()
    slot = running(driver, time_limit_ms=LIMIT_MS)
    if loses == "head":
        driver.command(m.Alone(True))
    elif loses == "agent":
        driver.give(e.AgentLost())
    assert signals(driver.advance(LIMIT_MS - 1)) == []
    assert signals(driver.advance(1)) == [(slot, number) for number in TOLD]
    assert not any(isinstance(item, e.Destroy) for item in driver.advance(KILL_GRACE_MS - 1))
    assert e.Destroy([slot]) in driver.advance(1)


@pytest.mark.parametrize(
    ("wait_status", "told"),
    [(15, 124 << 8), (0, 124 << 8), (3 << 8, 124 << 8), (SIGKILL, SIGKILL)],
    ids=["by the signal", "with 0", "with 3", "killed"],
)
def test_the_status_is_that_of_timeout(wait_status: int, told: int) -> None:
    driver = Driver()
    slot = running(driver, time_limit_ms=LIMIT_MS)
    driver.advance(LIMIT_MS)
    driver.end(slot, wait_status)
    driver.advance(100)
    assert statuses(driver) == [told]
    # The next head is told the same.
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].exited[:2] == [0, told]


def test_who_ends_in_time_has_its_own_status_and_is_not_told_anything() -> None:
    driver = Driver()
    slot = running(driver, time_limit_ms=LIMIT_MS)
    driver.advance(LIMIT_MS - 1)
    driver.end(slot, 7 << 8)
    out = driver.advance(LIMIT_MS)
    assert (statuses(driver), signals(out)) == ([7 << 8], [])
    assert [report.notes for report in sent(driver.wanted, m.Report) if report.notes] == []


def test_ranks_that_were_not_started_yet_end_with_the_others() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2, time_limit_ms=LIMIT_MS)
    driver.give(e.ProcessStarted(first, 500))
    driver.advance(LIMIT_MS)
    assert signals(driver.give(e.ProcessStarted(second, 501))) == [(second, SIGKILL)]


def test_a_program_on_its_way_takes_none_of_the_time() -> None:
    driver = Driver()
    driver.launch(time_limit_ms=LIMIT_MS)
    driver.advance(10 * LIMIT_MS)
    assert driver.space.deadline_ms is None


def test_released_jobs_leave_nothing_behind_and_the_others_keep_their_time() -> None:
    driver = Driver()
    slots = [running(driver, job=f"1.{number}", time_limit_ms=1000 * number) for number in (1, 2, 3)]
    driver.command(m.Release("1.1"))
    assert signals(driver.advance(1999)) == []
    assert {slot for slot, _ in signals(driver.advance(1))} == {slots[1]}
    driver.command(m.Release("1.3"))
    assert signals(driver.advance(10_000)) == []
    assert driver.space._limits.due_ms is None
