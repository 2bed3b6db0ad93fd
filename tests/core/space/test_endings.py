"""What is told of the end of a rank besides its status."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.endings import UNSEEN
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, sent


def test_who_was_not_waited_for_and_ends_as_if_there_were_no_program_is_told_why() -> None:
    driver = Driver()
    slots = driver.launch(ranks=3)
    for slot, unseen in zip(slots, (True, True, False), strict=True):
        driver.give(e.ProcessStarted(slot, 500 + slot, unseen))
    for slot, status in zip(slots, (127, 1, 127), strict=True):
        driver.end(slot, status << 8)
    (report,) = sent(driver.advance(1000), m.Report)
    assert report.notes == [m.Failure(NODE, 0, 0, UNSEEN)]
