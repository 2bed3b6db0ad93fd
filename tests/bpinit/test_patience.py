"""A child that waits or computes uses up what it is waited for; one that a busy machine does not let run does not."""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heorot.bpinit.patience import CROWDED, FREE_MS, LONGEST_MS, SLICE_MS, Patience, _stalled_us

pytestmark = pytest.mark.slow


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


@contextmanager
def machine(monkeypatch: pytest.MonkeyPatch, share: float) -> Iterator[None]:
    """A machine on which somebody has waited for a processor for this share of the time."""
    times = iter(range(1, 1_000_000))
    with monkeypatch.context() as patch:
        patch.setattr("heorot.bpinit.patience._stalled_us", lambda: int(next(times) * SLICE_MS * 1000 * share))
        yield


def test_who_waits_for_something_uses_all_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(monkeypatch, 0.2), child(signal.pause) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert waited_ms(pid, Patience(100)) == FREE_MS + 5 * SLICE_MS


def test_on_a_crowded_machine_a_part_of_what_is_waited_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(monkeypatch, 0.8), child(signal.pause) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        patience = Patience(100)
        assert "processors" not in patience.over()
        # The first look says how crowded it was before, and counts whole.
        assert waited_ms(pid, patience) == FREE_MS + math.ceil((100 - FREE_MS) / (SLICE_MS / CROWDED)) * SLICE_MS
        assert "processors" in patience.over()


def test_a_kernel_that_does_not_say_how_crowded_it_is_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heorot.bpinit.patience._stalled_us", lambda: -1)
    with child(signal.pause) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert waited_ms(pid, Patience(100)) == FREE_MS + 5 * SLICE_MS


def test_who_has_ended_uses_nothing() -> None:
    with child(lambda: None) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        patience = Patience(1000)
        # The first look says what it had computed until it was over, which is little where the machine is not slow.
        waited_ms(pid, patience, FREE_MS)
        before_ms = patience.used_ms
        waited_ms(pid, patience, 3 * SLICE_MS)
        assert patience.used_ms == before_ms


def test_how_crowded_this_machine_is_can_be_read() -> None:
    pressure = Path("/proc/pressure/cpu")
    if not pressure.exists():
        assert _stalled_us() == -1
        return
    (cpu, *_) = os.sched_getaffinity(0)
    before_us = _stalled_us()
    with child(spin_on(cpu, idle=False)), child(spin_on(cpu, idle=False)):
        while _stalled_us() < before_us + 50_000:  # a limit is every test's own
            os.sched_yield()
    assert before_us >= 0


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


def test_a_process_that_is_gone_is_waited_for_no_longer_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(monkeypatch, 0.2):
        assert waited_ms(2**22 + 1, Patience(50)) <= 50 + SLICE_MS
