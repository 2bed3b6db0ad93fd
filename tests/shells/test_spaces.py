"""Processes, their streams and their agent: what every shell of a process space tells its machine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heorot.core.space import events as e
from heorot.core.wire import tree as m
from heorot.sim.timed.timeline import Unexpected
from tests.shells.spaces import (
    ENDS,
    INPUT,
    JOB,
    LEAVES,
    MISSING,
    READS,
    SLEEPS,
    SPEAKS,
    WRITES,
    WRITES_ON,
    RealSpaceRig,
    SpaceRig,
    TimedSpaceRig,
    VirtualSpaceRig,
)

FACTORIES: dict[str, Callable[[], SpaceRig]] = {
    "bpinit": RealSpaceRig,
    "simulated": VirtualSpaceRig,
    "timed": TimedSpaceRig,
}
in_full = pytest.mark.parametrize("rig", ["bpinit", "simulated"], indirect=True)


@pytest.fixture(params=FACTORIES)
def rig(request: pytest.FixtureRequest) -> Iterator[SpaceRig]:
    """A shell of a process space."""
    made = FACTORIES[request.param]()
    yield made
    made.close()


def end_of(rig: SpaceRig, slot: int) -> list[Any]:
    """Wait for all that is told of a process that ends; return it."""
    ends = e.ProcessExited, e.WriteEnded
    rig.until(lambda: sum(type(event) in ends for event in rig.machine.of_slot(slot)) == 3)
    rig.settle()
    return rig.machine.of_slot(slot)


def exits(rig: SpaceRig) -> dict[int, int]:
    """Return the statuses that were told, by slot."""
    return {event.slot: event.status for event in rig.machine.of(e.ProcessExited)}


def written(rig: SpaceRig) -> int:
    """Return how often something was told of what a rank wrote."""
    return len(rig.machine.of(e.Wrote))


def await_more(rig: SpaceRig, told: int) -> None:
    """Wait until more was told of what ranks write."""
    rig.until(lambda: written(rig) > told)


@pytest.mark.parametrize("silent", [False, True])
def test_ranks_start_in_order_and_each_of_their_ends_is_told_once(rig: SpaceRig, silent: bool) -> None:
    slots = rig.start(ENDS, 3, silent=silent)
    for slot in slots:
        first, *rest = end_of(rig, slot)
        assert type(first) is e.ProcessStarted
        assert sorted((type(event).__name__, getattr(event, "stream", 0)) for event in rest) == [
            ("ProcessExited", 0),
            ("WriteEnded", 1),
            ("WriteEnded", 2),
        ]
    assert [event.slot for event in rig.machine.of(e.ProcessStarted)] == slots
    assert len({event.pid for event in rig.machine.of(e.ProcessStarted)}) == 3
    assert exits(rig) == dict.fromkeys(slots, 0)


def test_what_is_over_is_forgotten_without_a_word(rig: SpaceRig) -> None:
    (slot,) = rig.start(ENDS)
    told = end_of(rig, slot)
    rig.do(e.ForgetSlots([slot]), e.SpaceLog("info", "that is all"))
    rig.settle()
    assert rig.machine.of_slot(slot) == told


@in_full
def test_a_rank_that_cannot_start_is_answered_by_that_alone(rig: SpaceRig) -> None:
    item, (slot,) = rig.starting(MISSING)
    rig.do(item)
    rig.until(lambda: rig.machine.of(e.StartFailed))
    rig.settle()
    (failed,) = rig.machine.of_slot(slot)
    assert type(failed) is e.StartFailed
    assert failed.error == 2
    assert failed.text


@in_full
def test_starts_that_are_cancelled_are_answered_by_nothing(rig: SpaceRig) -> None:
    item, slots = rig.starting(SLEEPS, 3)
    rig.do(item, e.CancelStarts(JOB))
    rig.settle()
    assert [rig.machine.of_slot(slot) for slot in slots] == [[], [], []]


@in_full
def test_what_was_written_is_told_before_its_end(rig: SpaceRig) -> None:
    (slot,) = rig.start(WRITES)
    of_stdout = [event for event in end_of(rig, slot) if getattr(event, "stream", 0) == 1]
    *pieces, end = of_stdout
    assert type(end) is e.WriteEnded
    assert len(b"".join(piece.data for piece in pieces)) == 10


@in_full
def test_of_a_stream_that_is_paused_little_is_told_until_it_is_read_again(rig: SpaceRig) -> None:
    (slot,) = rig.start(WRITES_ON)
    rig.until(lambda: written(rig))
    rig.do(e.PauseReading(slot, 1))
    told = written(rig)
    rig.settle()
    assert written(rig) <= told + 1
    told = written(rig)
    rig.do(e.ResumeReading(slot, 1))
    rig.until(lambda: written(rig) > told + 1)
    rig.do(e.Destroy([slot]))
    end_of(rig, slot)


@in_full
def test_outputs_that_are_closed_end_once_even_if_they_are_paused(rig: SpaceRig) -> None:
    (slot,) = rig.start(WRITES_ON)
    rig.until(lambda: written(rig))
    rig.do(e.PauseReading(slot, 1), e.PauseReading(slot, 2), e.CloseOutputs(slot))
    rig.until(lambda: len(rig.machine.of(e.WriteEnded)) == 2)
    told = written(rig)
    rig.do(e.CloseOutputs(slot), e.ResumeReading(slot, 1), e.Destroy([slot]))
    rig.until(lambda: rig.machine.of(e.ProcessExited))
    rig.settle()
    assert sorted(event.stream for event in rig.machine.of(e.WriteEnded)) == [1, 2]
    assert written(rig) == told


@in_full
def test_input_is_answered_once_when_it_is_taken_and_its_end_by_nothing(rig: SpaceRig) -> None:
    (slot,) = rig.start(READS, reads=True)
    half = len(INPUT) // 2
    rig.do(e.Feed(slot, INPUT[:half]))
    rig.until(lambda: rig.machine.of(e.Fed))
    rig.do(e.Feed(slot, INPUT[half:]))
    rig.until(lambda: len(rig.machine.of(e.Fed)) == 2)
    rig.do(e.FeedEnd(slot))
    end_of(rig, slot)
    assert exits(rig) == {slot: 0}
    assert len(rig.machine.of(e.Fed)) == 2


@in_full
def test_input_that_is_never_taken_is_not_said_to_be_taken(rig: SpaceRig) -> None:
    (slot,) = rig.start(SLEEPS, reads=True)
    rig.do(e.Feed(slot, INPUT))
    rig.settle()
    assert rig.machine.of(e.Fed, e.InputClosed) == []
    rig.do(e.SendSignal(slot, signal.SIGKILL))
    end_of(rig, slot)
    assert rig.machine.of(e.Fed) == []
    assert len(rig.machine.of(e.InputClosed)) <= 1


@in_full
def test_a_rank_of_mpi_is_heard_and_reads_what_it_is_told(rig: SpaceRig) -> None:
    (slot,) = rig.start(SPEAKS, mpi=True)
    rig.until(lambda: rig.machine.of(e.PmiSaid))
    rig.settle()
    assert b"".join(said.data for said in rig.machine.of(e.PmiSaid)).startswith(b"cmd=init")
    assert len(rig.machine.of(e.PmiSaid)) == 1
    rig.do(e.PmiAnswer(slot, b"cmd=response_to_init rc=0\n"))
    rig.until(lambda: b"cmd=put" in b"".join(said.data for said in rig.machine.of(e.PmiSaid)))
    rig.do(e.Destroy([slot]))
    end_of(rig, slot)
    rig.do(e.PmiAnswer(slot, b"nobody hears this\n"), e.ForgetSlots([slot]))


@pytest.mark.parametrize("rig", ["bpinit"], indirect=True)
def test_a_rank_whose_connection_is_closed_is_heard_no_more(rig: SpaceRig) -> None:
    (slot,) = rig.start(SPEAKS, mpi=True)
    rig.until(lambda: rig.machine.of(e.PmiSaid))
    rig.do(e.PmiAnswer(slot, b"cmd=error rc=-1\n"), e.PmiClose(slot))
    rig.settle()
    assert len(rig.machine.of(e.PmiSaid)) == 1
    rig.do(e.Destroy([slot]))
    end_of(rig, slot)


@in_full
def test_a_signal_ends_its_own_rank_alone(rig: SpaceRig) -> None:
    first, second = rig.start(SLEEPS, 2)
    rig.do(e.SendSignal(first, signal.SIGTERM))
    end_of(rig, first)
    assert exits(rig) == {first: signal.SIGTERM}
    rig.do(e.Destroy([second]))
    end_of(rig, second)


@in_full
def test_a_rank_that_stops_is_told_of_after_what_it_wrote_and_again_when_it_goes_on(rig: SpaceRig) -> None:
    first, second = rig.start(WRITES_ON, 2)
    stands = e.ProcessStopped, e.ProcessContinued
    for _ in range(2):
        rig.do(e.SendSignal(first, signal.SIGSTOP))
        rig.until(lambda: [type(event) for event in rig.machine.of(*stands)[-1:]] == [e.ProcessStopped])
        rig.settle()
        told = written(rig)
        assert type(rig.machine.of_slot(first)[-1]) is e.ProcessStopped
        rig.do(e.SendSignal(first, signal.SIGCONT))
        rig.until(lambda: type(rig.machine.of(*stands)[-1]) is e.ProcessContinued)
        await_more(rig, told)
    assert rig.machine.of(*stands) == [e.ProcessStopped(first, signal.SIGSTOP), e.ProcessContinued(first)] * 2
    rig.do(e.Destroy([first, second]))
    for slot in (first, second):
        end_of(rig, slot)


@in_full
def test_a_rank_that_is_killed_while_it_is_stopped_has_ended_and_no_more_is_told(rig: SpaceRig) -> None:
    (slot,) = rig.start(SLEEPS)
    rig.do(e.SendSignal(slot, signal.SIGSTOP))
    rig.until(lambda: rig.machine.of(e.ProcessStopped))
    rig.do(e.Destroy([slot]))
    end_of(rig, slot)
    assert exits(rig) == {slot: signal.SIGKILL}
    assert rig.machine.of(e.ProcessContinued) == []


@in_full
def test_each_rank_that_is_destroyed_is_told_to_have_ended_once(rig: SpaceRig) -> None:
    slots = rig.start(SLEEPS, 3)
    rig.do(e.Destroy(slots[:2]), e.Destroy(slots))
    for slot in slots:
        end_of(rig, slot)
    assert exits(rig) == dict.fromkeys(slots, signal.SIGKILL)


@in_full
def test_a_sweep_is_answered_once_nothing_is_left(rig: SpaceRig) -> None:
    (slot,) = rig.start(LEAVES)
    rig.until(lambda: rig.machine.of(e.ProcessExited))
    assert not rig.machine.of(e.ProcessExited)[0].clean
    rig.do(e.Sweep(slot))
    rig.until(lambda: rig.machine.of(e.Swept))
    end_of(rig, slot)
    assert rig.machine.of(e.Swept) == [e.Swept(slot, 1)]


@in_full
def test_a_question_is_answered_once_by_its_number(rig: SpaceRig) -> None:
    slots = rig.start(SLEEPS, 2)
    pids = {event.slot: event.pid for event in rig.machine.of(e.ProcessStarted)}
    rig.do(e.Select(5, JOB, None, None, 0, True))
    rig.until(lambda: rig.machine.of(e.Selected))
    rig.do(e.Select(6, JOB, [slots[0]], None, signal.SIGKILL, False))
    rig.until(lambda: len(rig.machine.of(e.Selected)) == 2)
    end_of(rig, slots[0])
    both, one = rig.machine.of(e.Selected)
    assert (both.query, both.matched, one.query, one.matched, one.processes) == (5, 2, 6, 1, [])
    assert sorted(row.pid for row in both.processes) == sorted(pids.values())
    assert exits(rig) == {slots[0]: signal.SIGKILL}
    rig.do(e.Destroy([slots[1]]))
    end_of(rig, slots[1])


@in_full
def test_an_agent_is_told_of_before_its_commands_and_gets_what_is_for_it_in_order(rig: SpaceRig) -> None:
    rig.do(e.ToAgent(m.LaunchCopy("1.9", b"", b"")))
    agent = rig.agent()
    agent.say(m.Inventorize())
    rig.until(lambda: rig.machine.of(e.FromAgent))
    assert rig.machine.of(e.AgentConnected, e.FromAgent) == [e.AgentConnected(), e.FromAgent(m.Inventorize())]
    answers = [m.LaunchCopy(f"1.{number}", b"", b"") for number in range(3)]
    rig.do(*(e.ToAgent(answer) for answer in answers))
    rig.until(lambda: len(agent.received) == 3)
    # What was said while there was no agent is not kept for the next one.
    assert agent.received == answers


@in_full
def test_the_end_of_an_agent_is_told_once_and_nothing_is_kept_for_it(rig: SpaceRig) -> None:
    agent = rig.agent()
    agent.say(m.Inventorize())
    rig.until(lambda: rig.machine.of(e.FromAgent))
    agent.close()
    rig.until(lambda: rig.machine.of(e.AgentLost))
    rig.do(e.ToAgent(m.LaunchCopy(JOB, b"", b"")))
    rig.settle()
    assert rig.machine.of(e.AgentLost) == [e.AgentLost()]


@in_full
def test_how_much_waits_for_the_agent_is_told_after_output(rig: SpaceRig) -> None:
    agent = rig.agent()
    agent.say(m.Inventorize())
    rig.until(lambda: rig.machine.of(e.FromAgent))
    rig.do(e.ToAgent(m.Output(JOB, 0, 1, 0, b"some words"), True))
    rig.until(lambda: rig.machine.of(e.Backlog))
    assert rig.machine.of(e.Backlog)[-1].size_bytes == 0


@pytest.mark.parametrize("rig", ["timed"], indirect=True)
@pytest.mark.parametrize("item", [e.Feed(1, b""), e.Destroy([1]), e.CancelStarts(JOB), e.Sweep(1), e.CloseOutputs(1)])
def test_processes_that_only_run_and_end_are_asked_for_nothing_else(rig: SpaceRig, item: Any) -> None:
    with pytest.raises(Unexpected):
        rig.do(item)
