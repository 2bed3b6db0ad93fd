"""The states of a rank on its node: the ways that it goes, and what the shell must not say."""

from __future__ import annotations

import pytest

from heorot.core.space import events as e
from heorot.core.space.states import EXITED, FAILED, OVER, QUEUED, RUNNING, SWEPT, SpaceRankState
from heorot.core.states import ImpossibleStep
from heorot.core.wire import tree as m
from tests.core.space.test_machine import Driver, launch, sent


def state(driver: Driver, job: str = "1.1") -> SpaceRankState:
    """Return the state of the first rank of a job."""
    return driver.space.jobs[job].ranks[0].state


def test_a_rank_is_over_when_it_has_exited_is_swept_and_its_streams_are_drained() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    seen = [state(driver)]
    for event in (
        e.ProcessStarted(slot, 500),
        e.WriteEnded(slot, 1),
        e.ProcessExited(slot, 0, False),
        e.Swept(slot, 3),
        e.WriteEnded(slot, 2),
    ):
        driver.give(event)
        seen.append(state(driver))
    assert seen == [QUEUED, RUNNING, RUNNING, EXITED, SWEPT, OVER]
    assert driver.space.live_slots == 0


@pytest.mark.parametrize("first", ["Swept", "WriteEnded"])
def test_a_rank_is_over_in_either_order_of_its_last_two_words(first: str) -> None:
    driver = Driver()
    (slot,) = driver.launch()
    before: list[e.SpaceEvent] = [
        e.ProcessStarted(slot, 500),
        e.WriteEnded(slot, 1),
        e.ProcessExited(slot, 0, False),
    ]
    for event in before:
        driver.give(event)
    words: list[e.SpaceEvent] = [e.Swept(slot), e.WriteEnded(slot, 2)]
    for event in words if first == "Swept" else reversed(words):
        assert state(driver) is not OVER
        driver.give(event)
    assert state(driver) is OVER


def test_a_rank_that_never_runs_has_failed_and_one_that_a_signal_ends_before_it_is_over() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.StartFailed(slot, 2, "no such file"))
    waiting = launch("1.2")
    driver.command(m.Launch(waiting.ticket, waiting.signature, waits=True))
    driver.command(m.Query(1, "1.2", None, None, 15, False))
    refused = launch("1.3")
    driver.command(m.RefuseLaunch(refused.ticket, refused.signature, "no room"))
    assert [state(driver, job) for job in ("1.1", "1.2", "1.3")] == [FAILED, OVER, FAILED]
    assert driver.space.live_slots == 0


def test_a_second_start_and_an_end_without_a_start_are_mistakes_that_say_where_the_rank_stood() -> None:
    driver = Driver()
    (slot, other) = driver.launch(ranks=2)
    driver.give(e.ProcessStarted(slot, 500))
    with pytest.raises(
        ImpossibleStep, match=r"is running, where started cannot happen; its way: queued ─started▶ running"
    ):
        driver.give(e.ProcessStarted(slot, 501))
    with pytest.raises(ImpossibleStep, match="is queued, where exited cannot happen"):
        driver.give(e.ProcessExited(other, 0, True))
    # Nothing was changed by them.
    driver.give(e.ProcessStarted(other, 501))
    (report,) = sent(driver.advance(1000), m.Report)
    assert report.started == [2, 0, 500, 2, 1, 501]
