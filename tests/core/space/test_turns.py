"""A stream that has used its window may have a turn: it then sends more at once, and says when there is no more."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.output import DRY_MS, TURN_LIMIT_BYTES
from heorot.core.streams import OUTPUT_CHUNK_BYTES
from heorot.core.wire import tree as m
from tests.core.space.test_machine import Driver, sent

WINDOW = 1000


def driver_at_the_end_of_its_window() -> tuple[Driver, int]:
    """Return one whose rank has written its window and 500 bytes more."""
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.advance(100)
    driver.give(e.Wrote(slot, 1, b"a" * 1500))
    driver.advance(2)
    return driver, slot


def outputs(instructions: list[e.SpaceInstruction]) -> list[tuple[int, int, bool]]:
    """Return of each output its offset, its length, and whether its turn may go on."""
    return [(output.offset, len(output.data), output.in_turn) for output in sent(instructions, m.Output)]


def test_a_turn_lets_more_go_than_the_window() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    assert outputs(driver.wanted) == [(0, 1000, False)]
    out = driver.command(m.Ack("1.1", 0, 1, 1000, 9000))
    assert outputs(out) == [(1000, 500, True)]
    assert outputs(driver.give(e.Wrote(slot, 1, b"b" * 20_000))) == [(1500, 7500, False)], "up to its limit, no further"
    assert [type(item) for item in driver.wanted if isinstance(item, e.PauseReading | e.ResumeReading)] == [
        e.PauseReading, e.ResumeReading, e.PauseReading,
    ]  # fmt: skip


def test_a_turn_of_which_nothing_more_comes_is_over_after_a_moment() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1000, 90_000))
    assert outputs(driver.advance(DRY_MS - 1)) == []
    driver.give(e.Wrote(slot, 1, b"b" * 20_000))
    assert outputs(driver.advance(DRY_MS - 1)) == [], "it went on"
    assert outputs(driver.advance(1)) == [(21_500, 0, False)]
    assert driver.space.deadline_ms is None
    assert outputs(driver.give(e.Wrote(slot, 1, b"c" * 20_000))) == [], "its window is full, and it has no turn"


def test_a_turn_with_nothing_to_send_is_answered() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.advance(100)
    driver.give(e.Wrote(slot, 1, b"a" * WINDOW))
    driver.advance(2)
    assert outputs(driver.command(m.Ack("1.1", 0, 1, WINDOW, 9000))) == []
    assert outputs(driver.advance(DRY_MS)) == [(WINDOW, 0, False)]


def test_the_end_of_a_stream_ends_its_turn() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.give(e.WriteEnded(slot, 1))
    assert outputs(driver.command(m.Ack("1.1", 0, 1, 1000, 9000))) == [(1000, 500, False)]
    assert outputs(driver.advance(1000)) == []


def test_of_a_rank_that_is_over_all_is_told_already() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1000, 9000))
    driver.end(slot)
    out = driver.advance(1000)
    assert sent(out, m.Report)[0].exited == [2, 0, 0, 1500, 0]
    assert outputs(out) == []
    assert driver.space.deadline_ms is None


def test_a_turn_outlives_the_way_to_the_head() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1000, 9000))
    driver.give(e.AgentLost())
    driver.give(e.Wrote(slot, 1, b"b" * 2000))
    driver.give(e.AgentConnected())
    assert outputs(driver.command(m.Inventorize())) == [(1000, 2500, True)], "all of it again, and in its turn"
    assert outputs(driver.advance(DRY_MS)) == [(3500, 0, False)]


def test_the_end_of_a_turn_is_said_again_where_it_may_have_been_lost() -> None:
    driver, _slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1500, 9000))
    assert outputs(driver.advance(DRY_MS)) == [(1500, 0, False)]
    driver.give(e.AgentLost())
    driver.give(e.AgentConnected())
    assert outputs(driver.command(m.Inventorize())) == [(1500, 0, False)]


def test_a_turn_that_was_not_over_without_a_way_ends_on_the_next_one() -> None:
    driver, _slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1500, 9000))
    driver.give(e.AgentLost())
    assert outputs(driver.advance(1000)) == []
    driver.give(e.AgentConnected())
    assert outputs(driver.command(m.Inventorize())) == [(1500, 0, True)]
    assert outputs(driver.advance(DRY_MS)) == [(1500, 0, False)]


def test_another_reader_gives_turns_of_its_own() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1000, 9000))
    out = driver.command(m.Attend("1.1", True, reading=3))
    assert outputs(out) == [(1000, 500, False)]
    assert outputs(driver.give(e.Wrote(slot, 1, b"b" * 20_000))) == [(1500, 500, False)]
    assert outputs(driver.advance(1000)) == []


def test_a_turn_is_cut_into_chunks_and_has_a_limit_whoever_gives_it() -> None:
    driver, slot = driver_at_the_end_of_its_window()
    driver.command(m.Ack("1.1", 0, 1, 1000, 1 << 40))
    for _ in range(5):
        out = driver.give(e.Wrote(slot, 1, b"b" * (1 << 20)))
        assert all(size <= OUTPUT_CHUNK_BYTES for _, size, _ in outputs(out))
        driver.give(e.Backlog(0))
    told = outputs(driver.wanted)
    assert told[-1][0] + told[-1][1] == 1000 + TURN_LIMIT_BYTES
    assert [in_turn for _, _, in_turn in told] == [False, *[True] * (len(told) - 2), False]
