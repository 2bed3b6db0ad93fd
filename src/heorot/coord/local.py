"""The embedded coordination store: heads on one host agree through a file lock and a file with the epoch.

The lock says who is head, and the head's own process holds it: the kernel gives it up when that process is dead,
whatever killed it, and not before. The epoch is a number in a file that only the holder of the lock may write, and that
only grows. Each candidate holds a lock of its own on ``candidates/NAME``, which tells the others that it is there.

An election needs no free block: the files own theirs from the first candidate on, and are written in place
(`heorot.linux.slot_file`); the names of locks stay when those who held them are gone.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from heorot.core.errors import HeorotError
from heorot.core.keeper.election import HOLD_BACK_S, Leadership, LeaseLost, StoreRefused, Term
from heorot.linux.slot_file import SlotFile, no_room, with_room

MAX_CANDIDATES = 64
_REPAIR = "write the cluster's highest epoch into it"


class LocalStore:
    """One candidate's view of the store in `directory`. `make_room` is asked for room when the disk has none; it says
    whether it has freed any.
    """

    kind = "local"
    lease_s = float("inf")
    renew_every_s = 0.5
    look_every_s = 0.1

    def __init__(self, directory: Path, name: str, make_room: Callable[[], bool] = no_room) -> None:
        self._directory = directory
        self._name = name
        self._make_room = make_room
        self._epoch_file = SlotFile(directory / "epoch", durable=True)
        self._leader_file = SlotFile(directory / "leader")
        self._preferred_file = SlotFile(directory / "preferred")
        self._lock = -1
        self._claimed = False
        """The store names this process as the leader, and no head's process yet."""
        self._lock_inode = 0
        self._candidate = -1
        self._leader_process = -1

    # ------------------------------------------------------------------ the port

    def look(self) -> Leadership:
        """See `heorot.coord.port.Store`."""
        try:
            with_room(self._announce, self._make_room)
            found = self.leader()
            candidates = self._candidates()
        except OSError as error:
            raise self._failed(error) from error
        leader = ""
        self._forget_leader()
        if found is not None and self._watch_leader(found[1]):
            leader = found[0]
        return Leadership(leader, self.last_epoch(), candidates, self._preferred())

    def hints(self) -> list[int]:
        """The leader's process: readable once it has ended, and then its lock is free."""
        return [self._leader_process] if self._leader_process >= 0 else []

    def campaign(self, floor: int) -> Term | None:
        """See `heorot.coord.port.Store`."""
        try:
            self._lock = with_room(self._open_lock, self._make_room)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.resign()
                return None
            self._lock_inode = os.fstat(self._lock).st_ino
            if not self._holds_the_lock():
                self.resign()
                return None
            last = self.last_epoch()
            epoch = max(last, floor) + 1
            # On disk before anybody hears of it: after a power cut the epoch must not be given out again.
            self._write(self._epoch_file, str(epoch))
            self._write_leader(os.getpid())
            self._claimed = True
            if self._preferred():
                self._write(self._preferred_file, "")
        except OSError as error:
            self.resign()
            raise self._failed(error) from error
        except HeorotError:
            self.resign()
            raise
        warning = ""
        if last < floor:
            warning = f"the store {self._directory} gives epoch {last}, but {floor} was seen here: going on above that"
        return Term(epoch, self._lock, warning)

    def handed_over(self, pid: int) -> None:
        """The head's process has the lock; from now on nobody else, and its end is what frees it."""
        self._claimed = False
        self.resign()
        try:
            self._write_leader(pid)
        except OSError as error:
            raise self._failed(error) from error

    def renew(self) -> Leadership:
        """See `heorot.coord.port.Store`: the lock needs no care, but somebody may have removed its file."""
        if not self._holds_the_lock():
            raise LeaseLost(f"somebody has replaced {self._directory / 'leader.lock'}")
        return self.look()

    def resign(self) -> None:
        """Close this process's share of the lock; a head's process that has it keeps it."""
        if self._claimed:
            # No head came of it. This process lives on, and nobody shall take it for a leader.
            self._claimed = False
            with suppress(OSError, HeorotError):
                self._write(self._leader_file, f"{self._name} 0 0")
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def prefer(self, name: str) -> None:
        """See `heorot.coord.port.Store`."""
        try:
            # The monotonic clock is the same for all processes of a host.
            self._write(self._preferred_file, f"{name} {int((time.monotonic() + HOLD_BACK_S) * 1000)}")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """See `heorot.coord.port.Store`."""
        self.resign()
        self._forget_leader()
        if self._candidate >= 0:
            os.close(self._candidate)
            self._candidate = -1

    # ------------------------------------------------------------------ what the files say

    def last_epoch(self) -> int:
        """Return the last epoch that was given out, 0 if none was.

        Raises
        ------
        StoreRefused
            If the file is there but holds no number: guessing could repeat an epoch.
        """
        path = self._epoch_file.path
        try:
            value = self._epoch_file.read()
        except (OSError, HeorotError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise StoreRefused(f"cannot read the epoch from {path}: {why}; {_REPAIR}") from error
        if value is None:
            return 0
        text = value.strip()
        if not (text.isdigit() and len(text) < 20):
            raise StoreRefused(f"cannot read the epoch from {path}: it holds no number; {_REPAIR}")
        return int(text)

    def leader(self) -> tuple[str, int] | None:
        """Return the name and pid of the head that was elected last, if any was."""
        try:
            name, pid, _started = self._read(self._leader_file)
            return name, int(pid)
        except ValueError:
            return None

    def _write_leader(self, pid: int) -> None:
        self._write(self._leader_file, f"{self._name} {pid} {_start_time(pid)}")

    def _preferred(self) -> str:
        try:
            name, until_ms = self._read(self._preferred_file)
            left_s = int(until_ms) / 1000 - time.monotonic()
        except ValueError:
            return ""
        # One that lies further ahead is of before a reboot.
        return name if 0 < left_s <= HOLD_BACK_S else ""

    def _open_lock(self) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return os.open(self._directory / "leader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _announce(self) -> None:
        if self._candidate >= 0:
            return
        directory = self._directory / "candidates"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        for file in (self._epoch_file, self._leader_file, self._preferred_file):
            file.reserve()
        fd = os.open(directory / self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Either a second head of this name, or only somebody who looks whether we are here: see next time.
            os.close(fd)
            return
        self._candidate = fd

    def _candidates(self) -> tuple[str, ...]:
        found = []
        for name in sorted(os.listdir(self._directory / "candidates")):
            if name == self._name or self._is_held(self._directory / "candidates" / name):
                found.append(name)
        return tuple(found[:MAX_CANDIDATES])

    def _is_held(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _watch_leader(self, pid: int) -> bool:
        """Say whether this process is alive, and keep a descriptor that says when it is not."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        # The number may be another process's by now; that one was started at another time.
        if poll.poll(0) or self._read(self._leader_file)[2:] != [_start_time(pid)]:
            os.close(fd)
            return False
        self._leader_process = fd
        return True

    def _forget_leader(self) -> None:
        if self._leader_process >= 0:
            os.close(self._leader_process)
            self._leader_process = -1

    def _holds_the_lock(self) -> bool:
        try:
            return os.stat(self._directory / "leader.lock").st_ino == self._lock_inode
        except OSError:
            return False

    def _failed(self, error: OSError) -> StoreRefused:
        return StoreRefused(f"the coordination store {self._directory} failed: {error.strerror or error}")

    def _read(self, file: SlotFile) -> list[str]:
        """Return the words of a file; none, if there is nothing to read: who leads is then found out by the lock."""
        try:
            return (file.read() or b"").decode("utf-8").split()
        except (OSError, UnicodeDecodeError, HeorotError):
            return []

    def _write(self, file: SlotFile, text: str) -> None:
        with_room(lambda: file.write(text.encode() + b"\n"), self._make_room)


def _start_time(pid: int) -> str:
    """Return when a process was started, in clock ticks since boot (proc(5), stat, field 22); ``0`` if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode("ascii")
    except OSError:
        return "0"
