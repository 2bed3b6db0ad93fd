"""One daemon of a kind in a directory: a lock that is held as long as the daemon lives.

The lock is flock(2)'s, on a file that stays: the kernel gives it up with the last process that has it, whatever ended
that, so a daemon can be started again at once. It goes along with a fork, to processes that belong to the daemon, and
is closed when one of them becomes another program. The file says who has it, for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from pathlib import Path

from heorot.core.errors import HeorotError

ENDING_S = 15.0
"""How long what a daemon that was killed has left may take to end: longer than a process space without root takes."""
_POLL_S = 0.01


class AlreadyRunning(HeorotError):
    """Another daemon of this kind runs in this directory."""


def hold(directory: str | os.PathLike[str], name: str, what: str, ending_s: float = ENDING_S) -> int:
    """Take the lock ``NAME.lock`` of a directory and return its descriptor; whoever has it is the only one.

    Parameters
    ----------
    what
        What is held, for the message: ``the agent of n7``.
    ending_s
        How long to wait if the daemon that had it was killed, and what belongs to it is about to end.

    Raises
    ------
    AlreadyRunning
        Names the process that has it.
    HeorotError
        If the file cannot be made.
    """
    path = Path(directory) / f"{name}.lock"
    deadline_s = time.monotonic() + ending_s
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HeorotError(f"cannot make the lock {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            os.close(fd)
            if _runs(holder) or time.monotonic() >= deadline_s:
                raise AlreadyRunning(
                    f"{what} runs already, as process {holder or '(unknown)'}, which holds {path}; a second one would"
                    " take its place without what it holds: end that one first"
                ) from None
            time.sleep(_POLL_S)
            continue
        except BaseException:
            os.close(fd)
            raise
        if _is_at(fd, path):
            note(fd, os.getpid())
            return fd
        os.close(fd)  # somebody has removed the file meanwhile: it locks nothing


def note(fd: int, pid: int) -> None:
    """Write down who has the lock."""
    text = b"%d\n" % pid
    # A full disk costs the name in a message, not the lock.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)


def _holder(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _runs(pid: int) -> bool:
    if not pid:
        return False
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Readable: it has ended, and only waits to be reaped.
        return not select.select([process], [], [], 0)[0]
    finally:
        os.close(process)
