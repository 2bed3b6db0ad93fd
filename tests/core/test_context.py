"""What all machines share: a wait for somebody does not count the time that this process has slept."""

from __future__ import annotations

from heorot.core.context import MachineContext
from heorot.core.machine import HeadInstruction, Log, SetTimer
from heorot.core.timers import AwakeDue, HeartbeatDue


def test_what_was_given_is_taken_once_and_in_order() -> None:
    context = MachineContext[HeadInstruction]()
    context.now_ms = 5
    context.log("info", "a word")
    context.set_timer(HeartbeatDue(), 10)
    assert context.take() == [Log("info", "a word"), SetTimer(HeartbeatDue(), 15)]
    assert context.take() == []


def test_a_wait_that_was_slept_through_goes_on_and_one_that_was_not_is_over() -> None:
    context = MachineContext[HeadInstruction]()
    context.await_somebody(HeartbeatDue(), 2_000)
    assert context.take() == [SetTimer(HeartbeatDue(), 2_000), SetTimer(AwakeDue(), 1_000)]
    for now_ms in (1_000, 2_000):
        context.now_ms = now_ms
        context.wakefulness.due(now_ms)
    assert not context.goes_on_waiting(HeartbeatDue(), 2_000)
    context.take()
    context.await_somebody(HeartbeatDue(), 2_000)
    context.now_ms = 60_000
    assert context.goes_on_waiting(HeartbeatDue(), 2_000)
    assert SetTimer(HeartbeatDue(), 62_000) in context.take()
