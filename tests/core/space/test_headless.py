"""The process space without any head: nothing stalls while there is room, and some jobs end."""

from __future__ import annotations

import pytest

from heorot.core.space import events as e
from heorot.core.space.grace import KILL_GRACE_MS
from heorot.core.space.headless import SIGHUP
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, sent

WINDOW = 1000
"""As `tests.core.space.test_machine.launch` asks for."""


def running(driver: Driver, **fields: object) -> int:
    (slot,) = driver.launch(**fields)  # type: ignore[arg-type]
    driver.give(e.ProcessStarted(slot, 500))
    driver.advance(1000)
    return slot


def test_a_stalled_rank_goes_on_as_soon_as_there_is_no_head() -> None:
    driver = Driver(stream_memory_bytes=2000, spool_limit_bytes=3000)
    slot = running(driver)
    assert e.PauseReading(slot, 1) in driver.give(e.Wrote(slot, 1, b"a" * WINDOW))
    assert e.ResumeReading(slot, 1) in driver.command(m.Alone(True))
    # It fills memory, then the spool; then it has to wait.
    for _ in range(4):
        assert driver.give(e.Wrote(slot, 1, b"b" * WINDOW)) == []
    assert e.PauseReading(slot, 1) in driver.give(e.Wrote(slot, 1, b"c" * WINDOW))
    assert driver.spool.files


def test_with_a_head_a_reader_that_stops_stalls_its_job_and_nothing_is_spooled() -> None:
    driver = Driver(stream_memory_bytes=10)
    slot = running(driver)
    driver.command(m.Alone(True))
    driver.command(m.Inventorize(False))
    assert e.PauseReading(slot, 1) in driver.give(e.Wrote(slot, 1, b"a" * WINDOW))
    assert not driver.spool.files


def test_everything_is_sent_again_from_the_acknowledged_offset_when_a_head_is_found() -> None:
    driver = Driver()
    slot = running(driver)
    driver.give(e.Wrote(slot, 1, b"a" * 600))
    driver.command(m.Ack("1.1", 0, 1, 100))
    driver.command(m.Alone(True))
    driver.give(e.Wrote(slot, 1, b"b" * 100_000))
    assert sent(driver.advance(1000), m.Output) == []
    driver.wanted.clear()
    driver.command(m.Alone(False))
    out = driver.command(m.Inventorize(False))
    kinds = [type(item.message) for item in out if isinstance(item, e.ToAgent)]
    assert kinds == [m.Inventory, m.Output]
    (output,) = sent(driver.wanted, m.Output)
    assert (output.offset, output.data[:501]) == (100, b"a" * 500 + b"b")
    data = b""
    while len(data) < 100_500:
        (output,) = sent(driver.wanted, m.Output)
        driver.wanted.clear()
        assert output.offset == 100 + len(data)
        data += output.data
        driver.command(m.Ack("1.1", 0, 1, 100 + len(data)))
    assert data == b"a" * 500 + b"b" * 100_000


def test_a_head_that_is_found_without_a_new_inventory_gets_everything_too() -> None:
    driver = Driver()
    slot = running(driver)
    driver.give(e.Wrote(slot, 1, b"lost on its way"))
    driver.advance(100)
    driver.command(m.Alone(True))
    driver.wanted.clear()
    driver.command(m.Alone(False))
    driver.advance(100)
    assert [output.data for output in sent(driver.wanted, m.Output)] == [b"lost on its way"]


def test_an_agent_that_was_restarted_without_a_head_changes_nothing() -> None:
    driver = Driver()
    slot = running(driver)
    driver.command(m.Alone(True))
    since = driver.space.solitude.since_ms
    driver.advance(500)
    driver.give(e.AgentLost())
    driver.advance(500)
    driver.give(e.AgentConnected())
    driver.command(m.Inventorize(True))
    out = driver.give(e.Wrote(slot, 1, b"a" * 5 * WINDOW))
    assert not any(isinstance(item, e.PauseReading) for item in out)
    assert sent(driver.advance(1000), m.Output) == []
    assert driver.space.solitude.since_ms == since


def test_an_agent_that_is_lost_leaves_the_space_alone_and_one_of_an_older_release_ends_that() -> None:
    driver = Driver()
    driver.advance(10)
    driver.give(e.AgentLost())
    assert driver.space.solitude.since_ms == driver.now
    driver.give(e.AgentConnected())
    assert driver.space.solitude.since_ms is not None
    driver.command(m.Inventorize())
    assert driver.space.solitude.since_ms is None


@pytest.mark.parametrize("agent", [True, False])
def test_a_job_that_may_not_be_headless_for_long_is_hung_up_then_killed(agent: bool) -> None:
    driver = Driver()
    slot = running(driver, headless_ms=30_000)
    patient = running(driver, job="1.2")
    driver.give(e.Wrote(slot, 1, b"a word"))
    if agent:
        driver.command(m.Alone(True))
    else:
        driver.give(e.AgentLost())
    assert driver.advance(29_999) == []
    assert e.SendSignal(slot, SIGHUP) in driver.advance(1)
    # A head that comes back now changes nothing any more.
    if not agent:
        driver.give(e.AgentConnected())
    driver.command(m.Inventorize(False))
    out = driver.advance(KILL_GRACE_MS)
    assert [item for item in out if isinstance(item, e.Destroy)] == [e.Destroy([slot])]
    driver.end(slot, 9)
    driver.advance(10)
    note = m.Failure(NODE, 0, 0, f"it was ended on n{NODE}: no head for 30 s")
    # What was said without a head may have been lost: it is said again.
    assert [report.notes for report in sent(driver.wanted, m.Report) if report.notes] == [[note]] * (1 + agent)
    assert [job.exited for job in sent(driver.command(m.Inventorize()), m.Inventory)[0].jobs] == [[0, 9, 6, 0], []]
    # The next head is told the reason, too.
    assert [report.notes for report in sent(driver.advance(100), m.Report)] == [[note]]
    assert driver.advance(100_000) == []
    assert driver.space.jobs["1.2"].ranks[0].slot == patient


def test_the_time_begins_anew_with_each_head() -> None:
    driver = Driver()
    slot = running(driver, headless_ms=1000)
    for _ in range(3):
        driver.command(m.Alone(True))
        driver.advance(999)
        driver.command(m.Alone(False))
    assert e.SendSignal(slot, SIGHUP) not in driver.wanted
    assert driver.space.deadline_ms is None


def test_a_rank_that_was_not_started_yet_is_ended_with_its_job() -> None:
    driver = Driver()
    (slot,) = driver.launch(headless_ms=1000)
    driver.command(m.Alone(True))
    driver.advance(1000)
    assert e.SendSignal(slot, 9) in driver.give(e.ProcessStarted(slot, 500))


def test_a_job_that_is_released_or_over_in_the_grace_is_left_alone() -> None:
    driver = Driver()
    slot = running(driver, headless_ms=1000)
    over = running(driver, job="1.2", headless_ms=1000)
    driver.command(m.Alone(True))
    driver.advance(1000)
    driver.end(over, 1)
    driver.command(m.Release("1.1"))
    driver.wanted.clear()
    driver.end(slot, 9)
    driver.advance(10_000)
    assert not any(isinstance(item, e.Destroy) for item in driver.wanted)
