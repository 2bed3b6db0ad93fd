"""The watchdog counts the silence of a head, and only while its keeper is awake."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from heorot.core.keeper.watchdog import PULSE_S, Watchdog
from heorot.daemons.watchdog import has_spoken, say_alive
from heorot.runtime.loop import EpollLoop

LIMIT_S = 3.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield read, write
    os.close(read)
    os.close(write)


def test_only_silence_that_lasts_is_too_long() -> None:
    dog = Watchdog(LIMIT_S, 0.0)
    assert [dog.is_silent(now_s, False) for now_s in (0.5, 1.0, 1.5, 2.0, 2.5, 2.9)] == [False] * 6
    assert not dog.is_silent(3.0, True)
    assert [dog.is_silent(now_s, False) for now_s in (4.0, 5.0, 5.9)] == [False] * 3
    assert dog.is_silent(6.1, False)


def test_a_keeper_that_has_slept_begins_with_a_second() -> None:
    dog = Watchdog(LIMIT_S, 0.0)
    assert not dog.is_silent(1_000_000.0, False)
    assert dog.silent_s == 2 * PULSE_S


def test_a_loop_that_goes_round_says_so_and_is_not_stopped_by_a_full_pipe(pipe: tuple[int, int]) -> None:
    read, write = pipe
    loop = EpollLoop()
    say_alive(loop, write)
    assert has_spoken(read)
    assert not has_spoken(read)
    while True:
        try:
            os.write(write, bytes(65536))
        except BlockingIOError:
            break
    end = loop.time() + 2 * PULSE_S
    while loop.time() < end:
        loop.run_once(PULSE_S)
    assert len(os.read(read, 65536)) == 65536
    loop.run_once(2 * PULSE_S)
    assert os.read(read, 100)
    loop.close()
