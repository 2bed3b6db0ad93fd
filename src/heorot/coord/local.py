"""The embedded coordination store: heads on one host agree through a file lock and a file with the epoch.

The lock says who is head: the kernel gives it up when its holder dies, whatever killed it. The epoch is a number in a
file that only the holder of the lock may write, and that only grows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from heorot.core.errors import HeorotError


class LocalStore:
    """One head's view of the store in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = -1

    def campaign(self, name: str) -> int:
        """Wait until this head is the active one; return its epoch, higher than every epoch before.

        Raises
        ------
        HeorotError
            If the store cannot be read or written.
        """
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self._directory / "leader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            epoch = self.last_epoch() + 1
            # On disk before anybody hears of it: after a power cut the epoch must not be given out again.
            self._write("epoch", str(epoch))
            self._write("leader", f"{name} {os.getpid()}")
        except OSError as error:
            self.resign()
            raise HeorotError(f"the coordination store {self._directory} failed: {error.strerror or error}") from error
        except HeorotError:
            self.resign()
            raise
        return epoch

    def resign(self) -> None:
        """Give the lock up."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def last_epoch(self) -> int:
        """Return the last epoch that was given out, 0 if none was.

        Raises
        ------
        HeorotError
            If the file is there but holds no number: guessing could repeat an epoch.
        """
        path = self._directory / "epoch"
        try:
            text = path.read_text("ascii").strip()
            return int(text)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise HeorotError(f"cannot read the epoch from {path}: {error}") from error

    def leader(self) -> tuple[str, int] | None:
        """Return the name and pid of the head that was elected last, if any was."""
        try:
            name, pid = (self._directory / "leader").read_text("utf-8").split()
            return name, int(pid)
        except (OSError, ValueError):
            return None

    def _write(self, name: str, text: str) -> None:
        temporary = self._directory / f".{name}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, self._directory / name)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
