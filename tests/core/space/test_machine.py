"""The process space's machine, driven by hand: coalescing, tombstones, muting, windows, answers that are repeated."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from heorot.core.space import events as e
from heorot.core.space.endings import EXIT_DELAY_MS
from heorot.core.space.machine import Space
from heorot.core.space.output import BACKLOG_LIMIT_BYTES, OUTPUT_DELAY_MS
from heorot.core.streams import TAKES_NO_MORE
from heorot.core.wire import tree as m
from heorot.core.wire.launch import LaunchSpec
from tests.core.launches import changed
from tests.core.test_streams import MemorySpool

NODE = 2


class Driver:
    """A shell with no processes: records what the machine wants."""

    def __init__(self, **config: Any) -> None:
        self.spool = MemorySpool(1 << 20)
        self.space = Space(e.SpaceConfig(node=NODE, incarnation=77, init_pid=5, **config), self.spool)
        self.now = 1000
        self.wanted: list[e.SpaceInstruction] = []
        self.give(e.AgentConnected())

    def give(self, event: e.SpaceEvent) -> list[e.SpaceInstruction]:
        """Hand over an event."""
        out = self.space.handle(event, self.now)
        self.wanted += out
        return out

    def command(self, command: m.SpaceCommand) -> list[e.SpaceInstruction]:
        """Hand over a command."""
        return self.give(e.FromAgent(command))

    def advance(self, milliseconds: int) -> list[e.SpaceInstruction]:
        """Let time pass, with all ticks that are due in it."""
        end = self.now + milliseconds
        out: list[e.SpaceInstruction] = []
        while (due := self.space.deadline_ms) is not None and due <= end:
            self.now = max(self.now, due)
            out += self.give(e.Tick())
        self.now = end
        return out

    def launch(self, job: str = "1.1", ranks: int = 1, **fields: Any) -> list[int]:
        """Launch a job and return the slots of its ranks."""
        out = self.command(launch(job, ranks, **fields))
        (start,) = [i for i in out if isinstance(i, e.StartRanks)]
        assert start.job == job
        return [slot for slot, _ in start.slots]

    def end(self, slot: int, status: int = 0) -> list[e.SpaceInstruction]:
        """A process ends, and its pipes."""
        out: list[e.SpaceInstruction] = []
        for event in (e.WriteEnded(slot, 1), e.WriteEnded(slot, 2), e.ProcessExited(slot, status, True)):
            out += self.give(event)
        return out


def launch(job: str, ranks: int = 1, **fields: Any) -> m.Launch:
    spec = LaunchSpec([b"x"], [], b"/", 0, [], b"", b"", b"", [])
    ticket = m.Ticket("c", 1, job, 9, 200, "u", 1, 1, [], spec, [NODE, 1] * ranks, 1000, True)
    return m.Launch(m.encode(changed(ticket, **fields)), b"signature")


def sent(instructions: list[e.SpaceInstruction], kind: type) -> list[Any]:
    return [i.message for i in instructions if isinstance(i, e.ToAgent) and isinstance(i.message, kind)]


def test_start_and_exit_travel_together_if_they_are_close() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.give(e.Wrote(slot, 1, b"hello"))
    driver.end(slot, 256)
    out = driver.advance(0)
    assert [i.message for i in out if isinstance(i, e.ToAgent)] == [
        m.Output("1.1", 0, 1, 0, b"hello"),
        m.Report("1.1", [NODE, 0, 500], [NODE, 0, 256, 5, 0], [], 1, 1),
    ]
    assert driver.advance(10_000) == []
    assert driver.space.deadline_ms is None
    assert driver.space.live_slots == 0


def test_a_rank_is_over_only_when_all_of_it_is() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    out = driver.give(e.ProcessExited(slot, 0, False))
    assert out == [e.Sweep(slot)]
    driver.give(e.WriteEnded(slot, 1))
    driver.give(e.Swept(slot))
    assert sent(driver.advance(100), m.Report)[0].exited == []
    driver.give(e.Wrote(slot, 2, b"last"))
    driver.give(e.WriteEnded(slot, 2))
    assert sent(driver.advance(0), m.Report)[0].exited == [NODE, 0, 0, 0, 4]


def test_what_lingers_is_waited_for_and_hears_a_hang_up() -> None:
    driver = Driver()
    (slot,) = driver.launch(linger=True, headless_ms=1000)
    driver.give(e.ProcessStarted(slot, 500))
    assert driver.give(e.ProcessExited(slot, 256, False)) == [e.Sweep(slot, linger=True)]
    driver.give(e.WriteEnded(slot, 1))
    driver.give(e.Wrote(slot, 2, b"still here"))
    driver.advance(60_000)
    assert not [report for report in sent(driver.wanted, m.Report) if report.exited]
    driver.command(m.Alone(True))
    assert e.SendSignal(slot, 1) in driver.advance(1000)
    assert e.Destroy([slot]) in driver.advance(2000)
    driver.give(e.Swept(slot))
    driver.give(e.WriteEnded(slot, 2))
    assert sent(driver.advance(0), m.Report)[-1].exited == [NODE, 0, 256, 0, 10]


def test_a_pipe_that_somebody_else_holds_is_cut_off() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.give(e.ProcessExited(slot, 0, True))
    assert e.CloseOutputs(slot) in driver.advance(5000)


def test_a_new_agent_hears_the_inventory_first() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2)
    driver.give(e.ProcessStarted(first, 500))
    driver.give(e.ProcessStarted(second, 501))
    driver.give(e.AgentLost())
    driver.give(e.Wrote(first, 1, b"abc"))
    driver.end(first, 7)
    assert driver.advance(1000) == []
    driver.give(e.AgentConnected())
    driver.give(e.Wrote(second, 1, b"def"))
    assert not sent(driver.advance(1000), m.Output)
    out = driver.command(m.Inventorize())
    messages = [i.message for i in out if isinstance(i, e.ToAgent)]
    inventory = m.JobInventory("1.1", [1, 501], [0, 7, 3, 0], [], 0)
    assert messages[0] == m.Inventory(77, [inventory], 5, age_ms=2000)
    assert [(o.rank, o.data) for o in sent(out, m.Output)] == [(0, b"abc"), (1, b"def")]
    assert not sent(driver.advance(1000), m.Report)


def test_the_window_is_kept_and_the_rank_waits() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.give(e.Wrote(slot, 1, b"x" * 600))
    driver.advance(OUTPUT_DELAY_MS)
    out = driver.give(e.Wrote(slot, 1, b"y" * 600))
    assert e.PauseReading(slot, 1) in out
    driver.advance(OUTPUT_DELAY_MS)
    assert sum(len(o.data) for o in sent(driver.wanted, m.Output)) == 1000
    out = driver.command(m.Ack("1.1", 0, 1, 300))
    assert e.ResumeReading(slot, 1) in out
    assert sum(len(o.data) for o in sent(driver.wanted, m.Output)) == 1200
    out = driver.command(m.Attend("1.1", True))
    assert [(o.offset, len(o.data)) for o in sent(out, m.Output)] == [(300, 900)]


def test_a_slow_agent_is_given_no_more_output() -> None:
    driver = Driver(window_limit_bytes=1 << 30)
    (slot,) = driver.launch(window_bytes=1 << 30)
    driver.give(e.ProcessStarted(slot, 500))
    for _ in range(40):
        driver.give(e.Wrote(slot, 1, b"x" * 65536))
    produced = sum(len(o.data) for o in sent(driver.wanted, m.Output))
    assert BACKLOG_LIMIT_BYTES <= produced <= BACKLOG_LIMIT_BYTES + 65536
    out = driver.give(e.Backlog(BACKLOG_LIMIT_BYTES - 1))
    assert len(sent(out, m.Output)) == 1
    driver.give(e.Backlog(0))
    driver.give(e.Backlog(0))
    driver.give(e.Backlog(0))
    assert sum(len(o.data) for o in sent(driver.wanted, m.Output)) == 40 * 65536


def test_memory_is_bounded_over_all_streams() -> None:
    driver = Driver(memory_limit_bytes=10_000, stream_memory_bytes=5_000)
    slots = driver.launch(ranks=10, attended=False)
    for slot in slots:
        driver.give(e.ProcessStarted(slot, 500 + slot))
        driver.give(e.Wrote(slot, 1, b"x" * 3000))
    assert driver.space.output.memory_bytes <= 10_000
    assert sum(len(f) for f in driver.spool.files.values()) >= 20_000
    driver.command(m.Release("1.1"))
    assert driver.space.output.memory_bytes == 0
    assert driver.spool.files == {}


def test_a_full_disk_is_said_once_and_tried_again() -> None:
    driver = Driver(stream_memory_bytes=10)
    driver.spool.size = 0
    first, second = driver.launch(ranks=2, attended=False)
    for slot in (first, second):
        driver.give(e.ProcessStarted(slot, 500 + slot))
        driver.give(e.Wrote(slot, 1, b"x" * 8))
        assert e.PauseReading(slot, 1) in driver.give(e.Wrote(slot, 1, b"y" * 8))
    assert len([i for i in driver.wanted if isinstance(i, e.SpaceLog)]) == 1
    driver.spool.size = 1000
    assert e.ResumeReading(first, 1) in driver.advance(1000)


def test_a_question_acts_once() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    out = driver.command(m.Query(9, "1.1", [0], None, 15, False))
    assert out == [e.Select(9, "1.1", [slot], None, 15, False)]
    assert driver.command(m.Query(9, "1.1", [0], None, 15, False)) == [e.ToAgent(m.Reply(9, 0, []))]
    driver.give(e.Selected(9, 3, []))
    assert driver.command(m.Query(9, "1.1", [0], None, 15, False)) == [e.ToAgent(m.Reply(9, 3, []))]
    assert sent(driver.command(m.Query(10, "7.7", None, None, 9, False)), m.Reply) == [m.Reply(10, 0, [])]


def test_a_signal_waits_for_ranks_that_are_not_started() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.command(m.Query(9, "1.1", None, None, 15, False))
    assert e.SendSignal(slot, 15) in driver.give(e.ProcessStarted(slot, 500))


def test_a_signal_ends_ranks_whose_program_is_on_its_way() -> None:
    driver = Driver()
    waiting = replace(launch("1.1", 2), waits=True)
    assert not [i for i in driver.command(waiting) if isinstance(i, e.StartRanks)]
    assert sent(driver.command(m.Query(9, "1.1", [1], None, 2, False)), m.Reply) == [m.Reply(9, 1, [])]
    (report,) = sent(driver.advance(EXIT_DELAY_MS), m.Report)
    # Twice: the second finds nobody, and ends nobody again.
    assert sent(driver.command(m.Query(10, "1.1", [1], None, 9, False)), m.Reply) == [m.Reply(10, 0, [])]
    assert (report.started, report.exited, report.failed) == ([], [NODE, 1, 2, 0, 0], [])
    # Whoever asks again hears of it again, and of no process that never was.
    assert not [i for i in driver.command(waiting) if isinstance(i, e.StartRanks)]
    (again,) = sent(driver.advance(EXIT_DELAY_MS), m.Report)
    assert (again.started, again.exited) == ([], [NODE, 1, 2, 0, 0])
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert (inventory.jobs[0].running, inventory.jobs[0].exited) == ([], [1, 2, 0, 0])
    # The program comes for the other one.
    (start,) = [i for i in driver.command(launch("1.1", 2)) if isinstance(i, e.StartRanks)]
    assert [rank for _, rank in start.slots] == [0]


def test_a_caveat_is_told_when_a_rank_exits_with_another_status_than_0_and_to_whoever_asks_again() -> None:
    driver = Driver()
    slots = driver.launch(ranks=3)
    driver.give(e.Caveat("1.1", "mind this"))
    driver.give(e.Caveat("9.9", "of no job"))
    for slot in slots:
        driver.give(e.ProcessStarted(slot, 500 + slot))
    driver.end(slots[0])
    # A death by a signal has other reasons.
    driver.end(slots[1], 9)
    assert [report.notes for report in sent(driver.advance(1000), m.Report)] == [[]]
    driver.end(slots[2], 3 << 8)
    (report,) = sent(driver.advance(0), m.Report)
    assert report.notes == [m.Failure(NODE, 2, 0, "mind this")]
    driver.command(m.Inventorize())
    (again,) = sent(driver.advance(0), m.Report)
    assert again.notes == report.notes


def test_the_slowest_reader_sets_the_pace_of_broadcast_input() -> None:
    driver = Driver()
    slots = driver.launch(ranks=3)
    for slot in slots:
        driver.give(e.ProcessStarted(slot, 500 + slot))
    out = driver.command(m.Stdin("1.1", None, 0, b"abc", False))
    assert [(i.slot, i.data) for i in out if isinstance(i, e.Feed)] == [(slot, b"abc") for slot in slots]
    assert not sent(driver.give(e.Fed(slots[0])) + driver.give(e.Fed(slots[1])), m.StdinAck)
    assert sent(driver.give(e.Fed(slots[2])), m.StdinAck) == [m.StdinAck("1.1", 3)]
    # Repeated: nothing is fed, and the sender is told again.
    out = driver.command(m.Stdin("1.1", None, 0, b"abc", False))
    assert out == [e.ToAgent(m.StdinAck("1.1", 3))]
    out = driver.command(m.Stdin("1.1", None, 3, b"d", True))
    driver.give(e.InputClosed(slots[0]))
    driver.give(e.Fed(slots[1]))
    driver.end(slots[1])
    out = driver.give(e.Fed(slots[2]))
    assert sent(out, m.StdinAck) == [m.StdinAck("1.1", 4)]
    assert e.FeedEnd(slots[2]) in out


def test_a_job_without_input_takes_everything() -> None:
    driver = Driver()
    driver.launch(stdin=None)
    assert sent(driver.command(m.Stdin("1.1", None, 0, b"abc", False)), m.StdinAck) == [
        m.StdinAck("1.1", TAKES_NO_MORE)
    ]


def test_a_job_beyond_its_limit_is_ended_with_a_word() -> None:
    driver = Driver()
    first, second = driver.launch(ranks=2, max_processes=5)
    driver.give(e.ProcessStarted(first, 500))
    assert driver.give(e.Counted("1.1", 5)) == []
    out = driver.give(e.Counted("1.1", 6))
    assert e.Destroy([first]) in out
    (report,) = sent(driver.advance(0), m.Report)
    assert "6 processes exceed its limit of 5" in report.notes[0].text
    assert e.SendSignal(second, 9) in driver.give(e.ProcessStarted(second, 501))
    assert driver.give(e.Counted("1.1", 7)) == []


def test_commands_without_end_wait_for_their_users_turn_and_all_others_for_none() -> None:
    driver = Driver()
    driver.command(launch(job="1.1", uid=1000))
    payer = driver.space.payer
    assert payer(m.Resize("1.1", 24, 80)) == 1000
    assert payer(m.Query(1, None, None, None, 0, True, -1, 1001)) == 1001
    assert payer(m.Query(1, "1.1", None, None, 9, False, 1001, 1001)) == 1001
    assert payer(m.Query(1, "1.1", None, None, 9, False, -1, 0)) == 0
    # Of an older head: a signal of a user's, one of root's or of the head itself, and anybody's question.
    assert payer(m.Query(1, "1.1", None, None, 9, False, 1001)) == 1001
    assert payer(m.Query(1, "1.1", None, None, 9, False)) == 0
    assert payer(m.Query(1, None, None, None, 0, True)) == -1
    for command in (m.Resize("9.9", 24, 80), m.Release("1.1"), m.Inventorize(), m.Attend("1.1", True)):
        assert payer(command) is None
