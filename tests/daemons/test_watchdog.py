"""The watchdog counts the silence of a head, and only while its keeper is awake."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from heorot.daemons.watchdog import PULSE_S, Watchdog, say_alive
from heorot.runtime.loop import EpollLoop

LIMIT_S = 3.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield read, write
    os.close(read)
    os.close(write)


def test_only_silence_that_lasts_is_too_long(pipe: tuple[int, int]) -> None:
    read, write = pipe
    dog = Watchdog(read, LIMIT_S, 0.0)
    assert not dog.is_silent(0.5)
    assert [dog.is_silent(now_s) for now_s in (1.0, 1.5, 2.0, 2.5, 2.9)] == [False] * 5
    os.write(write, b"...")
    assert [dog.is_silent(now_s) for now_s in (3.0, 4.0, 5.0, 5.9)] == [False] * 4
    assert dog.is_silent(6.1)


def test_a_keeper_that_has_slept_begins_with_a_second(pipe: tuple[int, int]) -> None:
    dog = Watchdog(pipe[0], LIMIT_S, 0.0)
    assert not dog.is_silent(1_000_000.0)
    assert dog.silent_s == 2 * PULSE_S


def test_a_loop_that_goes_round_says_so_and_is_not_stopped_by_a_full_pipe(pipe: tuple[int, int]) -> None:
    read, write = pipe
    loop = EpollLoop()
    say_alive(loop, write)
    assert os.read(read, 100) == b"."
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
