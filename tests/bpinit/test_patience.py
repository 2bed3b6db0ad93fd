"""A child that waits or computes uses up what it is waited for; one that a busy machine does not let run does not."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from heorot.bpinit.patience import FREE_MS, LONGEST_MS, SLICE_MS, Patience


@contextmanager
def child(act: Callable[[], None]) -> Iterator[int]:
    """A process that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def spin() -> None:
    while True:
        pass


def spin_on(cpu: int, idle: bool) -> Callable[[], None]:
    def act() -> None:
        os.sched_setaffinity(0, {cpu})
        if idle:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        spin()

    return act


def waited_ms(pid: int, patience: Patience, at_most: int = 1_000_000) -> int:
    """Wait for what never comes; return how long."""
    poll = select.poll()
    waited = 0
    while waited < at_most and (next_ms := patience.next_ms()):
        poll.poll(next_ms)
        patience.passed(pid)
        waited += next_ms
    return waited


def test_who_waits_for_something_uses_all_of_the_time() -> None:
    with child(signal.pause) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert waited_ms(pid, Patience(100)) == FREE_MS + 5 * SLICE_MS


def test_who_computes_uses_what_it_computes() -> None:
    with child(spin) as pid:
        patience = Patience(100)
        waited_ms(pid, patience)
        assert patience.used_ms >= 100 or patience.next_ms() == 0


def test_who_is_not_let_run_uses_nothing_of_it() -> None:
    (cpu, *_) = os.sched_getaffinity(0)
    with child(spin_on(cpu, idle=False)), child(spin_on(cpu, idle=False)), child(spin_on(cpu, idle=True)) as starved:
        patience = Patience(400)
        # The first look says what it had computed before it was starved.
        waited_ms(starved, patience, FREE_MS)
        before_ms = patience.used_ms
        waited_ms(starved, patience, 300)
        assert patience.used_ms - before_ms < 100


def test_nobody_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heorot.bpinit.patience._look", lambda pid: (0, False))
    patience = Patience(100)
    waits = 0
    while next_ms := patience.next_ms():
        patience.passed(1)
        waits += next_ms
    assert LONGEST_MS <= waits <= LONGEST_MS + SLICE_MS
    assert patience.used_ms == 0


def test_a_process_that_is_gone_is_waited_for_no_longer_than_another() -> None:
    assert waited_ms(2**22 + 1, Patience(50)) <= 50 + SLICE_MS
