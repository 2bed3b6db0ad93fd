"""What the peers start: one run with a limit, and the end of everything that came from this process.

Some peers leave daemons that are nobody's children. This process is a subreaper, so they become its own, and all that
came from it can be found and ended by PID.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from heorot.linux import system

READ_BYTES = 1 << 18
SAID_BYTES = 2000
"""Of the end of what a program wrote to its standard error."""
GRACE_S = 10.0
"""How long what is asked to end may take before it is killed."""
KILLED_S = 60.0
"""How long what is killed may take: it needs only a processor, for which a busy machine may let it wait."""


@dataclass(frozen=True)
class Ran:
    """A whole run of a program: wall time from before its start until it was reaped and its output was at its end.

    A `status` of None is that of a program that was killed because it took too long.
    """

    elapsed_s: float
    status: int | None
    received_bytes: int
    said: str


def timed(argv: list[str], environment: dict[str, str], limit_s: float) -> Ran:
    """Run a program, count what it writes, and kill it with all of its session if it takes longer than the limit."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            received, ended = _drain(process.pid, process.stdout.fileno(), start + limit_s)
            if not ended:
                _kill_session(process.pid)
            status = process.wait()
            elapsed = time.perf_counter() - start
        except BaseException:
            _kill_session(process.pid)
            process.wait()
            raise
        finally:
            process.stdout.close()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - SAID_BYTES))
        said = errors.read().decode(errors="replace").strip()
    return Ran(elapsed, status if ended else None, received, said)


def _drain(pid: int, output: int, deadline: float) -> tuple[int, bool]:
    """Read until the process has ended and its output too; return how much came, and whether that was in time."""
    received = 0
    ended = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        poller.register(output, select.POLLIN)
        waited_for = {ended, output}
        while waited_for:
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                return received, False
            for descriptor, _ in poller.poll(left_s * 1000):
                data = os.read(output, READ_BYTES) if descriptor == output else b""
                received += len(data)
                if not data:
                    poller.unregister(descriptor)
                    waited_for.discard(descriptor)
        return received, True
    finally:
        os.close(ended)


def _kill_session(leader: int) -> None:
    for pid in descendants():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Return the parent of each process that is not over."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return parents


def descendants() -> list[int]:
    """Return all processes that came from this one and are its children by now, or theirs; those just over as well."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    wanted = [os.getpid()]
    while wanted:
        mine = children.get(wanted.pop(), [])
        found += mine
        wanted += mine
    return found


def adopt() -> None:
    """Let what loses its parent become a child of this process."""
    system.become_subreaper()


def reap(kept: Iterable[subprocess.Popen[bytes]]) -> None:
    """Collect the ends of adopted processes; those of `kept` are left to who waits for them."""
    held = {process.pid for process in kept}
    for pid, parent in _parents().items():
        if parent == os.getpid() and pid not in held:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end(processes: Iterable[subprocess.Popen[bytes]], number: int = signal.SIGTERM) -> None:
    """Ask children to end, and kill those that do not within the grace."""
    processes = list(processes)
    for process in processes:
        process.send_signal(number)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def end_all() -> list[int]:
    """End everything that came from this process; return what could not be ended.

    For the very end, when nobody waits for a child any more: all ends are collected here.
    """
    for number, limit_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILLED_S)):
        deadline = time.monotonic() + limit_s
        told: set[int] = set()
        while time.monotonic() < deadline:
            _collect()
            left = descendants()
            if not left:
                return []
            for pid in set(left) - told if number == signal.SIGTERM else left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            told.update(left)
            time.sleep(0.02)
    return descendants()


def _collect() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the memory of some processes, with their share of what they share with others (PSS)."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(b"Pss:"))
    return total * 1024
