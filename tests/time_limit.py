"""A test that does not end is stopped, and says where it was and what it waited for.

The limit is no measure of speed, only what makes a run end: every wait inside a test has its own, shorter deadline.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

from tests.surroundings import RUN, is_marked

LIMIT_S = float(os.environ.get("HEOROT_TEST_LIMIT_S", "300"))
"""Of each setup, call and end of a test."""
MERCY_S = float(os.environ.get("HEOROT_TEST_MERCY_S", "60"))
"""What a test that was stopped may take until its process is ended."""


class TimeIsOver(BaseException):
    """Not caught by ``except Exception``, as a test or what it calls may have it."""


class _Clock:
    """Interrupts the main thread, again and again if it goes on; where it cannot be interrupted, the process ends."""

    stderr = -1

    @contextmanager
    def limits(self, item: pytest.Item, phase: str) -> Iterator[None]:
        marker = item.get_closest_marker("time_limit")
        limit_s = float(marker.args[0]) if marker else LIMIT_S

        def stop(number: int, frame: FrameType | None) -> None:
            raise TimeIsOver(f"{item.nodeid}: {phase} not over after {limit_s:.0f} s\n{_stacks()}\n{_processes()}")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, limit_s, MERCY_S / 4)
        with suppress(RuntimeError):  # It needs a thread, which a machine that is full does not give.
            faulthandler.dump_traceback_later(limit_s + MERCY_S, exit=True, file=self.stderr)
        try:
            yield
        except TimeIsOver as over:
            pytest.fail(str(over))
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


_clock = _Clock()


def _stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()


def _processes() -> str:
    """Return one line for each process of the run: PID, parent and state, where in the kernel it waits, command."""
    lines = ["processes of this run:"]
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if is_marked(pid, RUN):
                where = Path(f"/proc/{pid}")
                state, parent = (where / "stat").read_text().rpartition(")")[2].split()[:2]
                waits = (where / "wchan").read_text() or "-"
                command = (where / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                lines.append(f"  {pid} {parent} {state} {waits} {command[:150]}")
        except OSError:
            continue
    return "\n".join(lines)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error for the last word."""
    config.addinivalue_line("markers", "time_limit(seconds): what this test may take, if it is not what all may take")
    _clock.stderr = os.dup(2)


def pytest_unconfigure() -> None:
    """Close it again."""
    os.close(_clock.stderr)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Limit what a test's fixtures take."""
    with _clock.limits(item, "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Limit what a test takes."""
    with _clock.limits(item, "call"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Limit what the end of a test takes."""
    with _clock.limits(item, "teardown"):
        return (yield)
