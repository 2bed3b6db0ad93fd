"""What a daemon process does to itself: its name, its death with its parent, its descriptors, its collector."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from heorot.linux import system


def set_name(name: str) -> None:
    """Set what ps(1) shows as the command: the name, or its first word if it has more than 15 bytes. All of it stands
    in the command line of an embedded cluster's daemon.
    """
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write((name if len(name) <= 15 else name.partition(" ")[0]).encode()[:15])
    with contextlib.suppress(OSError):
        system.set_title(name.encode())


def die_with_parent(parent: int) -> None:
    """Be killed as soon as the process `parent`, which must be the parent, is gone."""
    system.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        # It was gone before we asked.
        os._exit(1)


def raise_descriptor_limit() -> None:
    """Use all the file descriptors that we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def close_descriptors(keep: set[int]) -> None:
    """Close every descriptor above 2 but these."""
    first = 3
    for fd in sorted(keep):
        if fd >= first:
            os.closerange(first, fd)
            first = fd + 1
    os.closerange(first, 1 << 30)


def fork_daemon(name: str, keep: set[int], run: Callable[[], None]) -> int:
    """Fork a daemon that dies with this process; return its pid.

    The child has the standard descriptors and `keep`, default signal handling, and runs `run`; whatever that raises
    goes to its stderr, and it never returns into the caller's code.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        die_with_parent(parent)
        close_descriptors(keep)
        set_name(name)
        gc.enable()
        gc.set_threshold(5000, 20, 50)
        run()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)
    raise AssertionError("not reached")


def watch_child(pid: int) -> int:
    """Return a descriptor of a child, readable when that has ended.

    Raises OSError if there is none to be had; the child, of whose end nobody would hear, is killed and reaped then.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _leave(status: int) -> NoReturn:
    # The parent's exit handlers and buffers are not ours.
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


def how_ended(status: int) -> str:
    """Say what became of a process, from its wait status."""
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"ended with status {os.WEXITSTATUS(status)}"
