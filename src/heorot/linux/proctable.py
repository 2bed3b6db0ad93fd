"""Reading /proc: the processes of this space, their rows for the process table, and whose they are."""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

from heorot.core.wire.tree import Process

_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ARGV_LIMIT_BYTES = 4096
"""Longer command lines are cut in a row of the table, and end with ``...``."""
_WALKS = 2
"""A process that ends while its family is looked for gives its children to another one, and hides the next of its
siblings from whoever reads them at this moment: then the family is looked for once more."""


class Stat(NamedTuple):
    """What /proc/PID/stat says; see proc(5)."""

    pid: int
    name: bytes
    state: str
    parent: int
    group: int
    session: int
    user_ticks: int
    system_ticks: int
    start_ticks: int
    resident_pages: int


def _read(path: str, limit: int = 1 << 16) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def read_stat(pid: int) -> Stat | None:
    """Return the process's status, or None if it is gone.

    On Linux 6.18 this waits for a process that is in the middle of an execve.
    """
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name may contain anything, parentheses too: it ends at the last one.
    end = text.rfind(b")")
    f = text[end + 2 :].split()
    if len(f) < 22:
        return None
    name = text[text.find(b"(") + 1 : end]
    numbers = [int(f[i]) for i in (1, 2, 3, 11, 12, 19, 21)]
    return Stat(pid, name, f[0].decode(), *numbers)


def pids() -> list[int]:
    """Return the PIDs of all processes that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name[0].isdigit()]


def parent(pid: int) -> int | None:
    """Return the parent of a process, or None if it is gone. Waits for nobody."""
    try:
        status = _read(f"/proc/{pid}/status", 4096)
    except OSError:
        return None
    return int(status.partition(b"\nPPid:")[2].split(None, 1)[0])


def snapshot() -> dict[int, Stat]:
    """Return all processes that /proc shows, by PID, ascending."""
    found: dict[int, Stat] = {}
    for pid in pids():
        stat = read_stat(pid)
        if stat is not None:
            found[pid] = stat
    return dict(sorted(found.items()))


def descendants(pid: int) -> dict[int, Stat]:
    """Return all descendants of a process, by PID, ascending; of others nothing is read, however many the host has.

    There may be a few others among them: where a kernel does not show children, or a number was given anew meanwhile.
    """
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        # A kernel without CONFIG_PROC_CHILDREN.
        return snapshot()
    found: dict[int, Stat] = {}
    for _ in range(_WALKS):
        line, seen, has_lost = children(pid), {pid}, False
        while line:
            at = line.pop()
            if at in seen:
                continue
            seen.add(at)
            line += children(at)
            stat = found.get(at) or read_stat(at)
            if stat is None:
                has_lost = True
            else:
                found[at] = stat
                has_lost = has_lost or stat.state in "ZX"
        if not has_lost:
            break
    return dict(sorted(found.items()))


def count() -> int:
    """Return how many processes /proc shows."""
    return len(pids())


def children(pid: int) -> list[int]:
    """Return the PIDs of a process's children, zombies included."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        path = f"/proc/{pid}/task/{task}/children"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                # A kernel without CONFIG_PROC_CHILDREN.
                return [stat.pid for stat in snapshot().values() if stat.parent == pid]
            continue
        except OSError:
            continue
        text = b""
        try:
            while chunk := os.read(fd, 1 << 16):
                text += chunk
        except OSError:
            continue
        finally:
            os.close(fd)
        found += [int(word) for word in text.split()]
    return found


def markers(pid: int) -> dict[bytes, bytes]:
    """Return the ``HEOROT_`` variables that the process was started with; empty if they cannot be read."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    text = b""
    try:
        while chunk := os.read(fd, 1 << 17):
            text += chunk
    except OSError:
        return {}
    finally:
        os.close(fd)
    entries = (entry.partition(b"=") for entry in text.split(b"\0") if entry.startswith(b"HEOROT_"))
    return {name: value for name, _, value in entries}


def real_uid(pid: int) -> int | None:
    """Return the real user of a process, or None if it is gone."""
    try:
        return _uid_of(_read(f"/proc/{pid}/status", 4096))
    except OSError:
        return None


def _uid_of(status: bytes) -> int:
    at = status.find(b"\nUid:")
    return int(status[at + 5 :].split(None, 1)[0])


def would_go_on(pid: int) -> bool:
    """Say whether a process lives, and is not about to end: in its exit, or with a signal pending that ends it."""
    try:
        # After the parenthesized name: the state, and seventh PF_EXITING (4) among the flags of the kernel.
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        status = _read(f"/proc/{pid}/status", 4096)
    except OSError:
        return False
    if len(fields) < 7 or fields[0] in (b"Z", b"X") or int(fields[6]) & 4:
        return False
    # Whatever signal ends a process, the kernel makes SIGKILL of it for each thread.
    pending = 0
    for word in (b"\nSigPnd:", b"\nShdPnd:"):
        pending |= int(status.partition(word)[2].split(None, 1)[0], 16)
    return not pending & 1 << signal.SIGKILL - 1


def boot_time_ms() -> int:
    """Return the wall-clock time of the boot, from which /proc counts process starts."""
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) * 1000)


def row(stat: Stat, job: str, rank: int, leader: bool, boot_ms: int, argv_limit: int, self_pid: int) -> Process | None:
    """Return the process's row for the process table, or None if it is gone."""
    try:
        text = _read(f"/proc/{stat.pid}/cmdline", argv_limit + 1)
        status = _read(f"/proc/{stat.pid}/status", 4096)
    except OSError:
        return None
    if len(text) > argv_limit:
        argv = [*text[:argv_limit].split(b"\0"), b"..."]
    elif text:
        argv = text.removesuffix(b"\0").split(b"\0")
    else:
        argv = [b"[" + stat.name + b"]"]
    return Process(
        pid=stat.pid,
        job=job,
        rank=rank,
        uid=_uid_of(status),
        state=stat.state,
        started_at_ms=boot_ms + stat.start_ticks * _TICK_MS,
        argv=argv,
        leader=leader,
        parent_pid=0 if stat.parent == self_pid else stat.parent,
        user_time_ms=(stat.user_ticks + stat.system_ticks) * _TICK_MS,
        memory_bytes=stat.resident_pages * _PAGE_BYTES,
    )
