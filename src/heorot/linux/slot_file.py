"""A small value in a file that owns its blocks: a new value is written in place, and no free block is needed for it.

::

    first half    "heorot-slot SEQUENCE LENGTH SHA256\\n", the value, zeros
    second half   the same, one higher or lower

The slot with the higher sequence whose digest is right holds the value; the next one goes into the other slot. A write
that a power cut tears leaves the former value. Each slot begins a block of its own, so that the former one is on no
sector that is written. A file that holds anything else is a value as earlier releases wrote it, or as somebody has
written it by hand; it is replaced by one with slots when it is written. docs/decisions/kept-values.md has the reasons.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from typing import TypeVar

from heorot.core.errors import HeorotError

BLOCK_BYTES = 4096
"""What a slot is a multiple of: the block of most file systems, and the sector of large disks."""
MAX_VALUE_BYTES = 1024 * 1024
_MARK = b"heorot-slot "
_HEADER_BYTES = 128
_READS = 16
"""A reader that meets a writer reads again; it does not do so for ever."""
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_MAX_TRIES = 64

T = TypeVar("T")


class DamagedFile(HeorotError):
    """Neither slot of a file holds what was written into it."""


def no_room() -> bool:
    """Free nothing: for who has nothing that could go."""
    return False


def with_room(action: Callable[[], T], make_room: Callable[[], bool]) -> T:
    """Do something that may need room on a disk. While it has none, `make_room` is asked for some, and it is done
    again; `make_room` returns whether it has freed any. Raises what `action` does; a HeorotError that an OSError has
    caused is looked at as that.
    """
    for _ in range(_MAX_TRIES):
        try:
            return action()
        except (OSError, HeorotError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in NO_ROOM or not make_room():
                raise
    return action()


class SlotFile:
    """One value. Several processes may read it while one writes.

    Parameters
    ----------
    path
        Its directory exists. A symbolic link is not followed.
    durable
        A value that was written survives a power cut. So does, in any case, the former one if the cut tears a write.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        self.path = os.fspath(path)
        self._durable = durable

    def read(self) -> bytes | None:
        """Return the value; None: there is no file, or it has never been given a value.

        Raises
        ------
        OSError
            If it cannot be read.
        DamagedFile
            If neither slot is right.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            _, sequence, value = self._parse(fd)
        finally:
            os.close(fd)
        return None if sequence == 0 else value

    def write(self, value: bytes) -> None:
        """Replace the value. Needs room only if there is no file yet, or its slots are too small. Raises OSError."""
        assert len(value) <= MAX_VALUE_BYTES
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            self._make(value, 1)
            return
        try:
            try:
                newest, sequence, _ = self._parse(fd)
            except DamagedFile:
                # It is the caller who knows what belongs there.
                newest, sequence = -1, 0
            slot_bytes = os.fstat(fd).st_size // 2
            if newest < 0 or len(value) + _HEADER_BYTES > slot_bytes:
                self._make(value, sequence + 1 if sequence > 0 else 1)
                return
            self._write_slot(fd, (1 - newest) * slot_bytes, _slot(sequence + 1, value))
        finally:
            os.close(fd)
        if sequence == 0:
            # Whoever reserved it may not have cared whether its name is on the disk.
            self._flush_name()

    def reserve(self) -> None:
        """Own the blocks from now on, if there is no file yet; one that somebody else makes meanwhile stays. Raises
        OSError.
        """
        if not os.path.lexists(self.path):
            self._make(b"", 0, replace=False)

    def convert(self) -> None:
        """Own the blocks from now on, whatever there is: a value of an earlier release gets its slots. For the one
        process that writes. Raises OSError.
        """
        self.reserve()
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            newest, _, value = self._parse(fd)
        except DamagedFile:
            return  # that is said by who reads it
        finally:
            os.close(fd)
        if newest < 0:
            self._make(value, 1)

    def _parse(self, fd: int) -> tuple[int, int, bytes]:
        """Return which slot is the newest (-1: the file has none), its sequence (-1 there), and the value."""
        for _ in range(_READS):
            data = _read_all(fd)
            half = len(data) // 2
            if len(data) % (2 * BLOCK_BYTES) or not (data.startswith(_MARK) or data.startswith(_MARK, half)):
                return -1, -1, data
            found = [
                (parsed[0], index, parsed[1])
                for index in (0, 1)
                if (parsed := _parse_slot(data[index * half : (index + 1) * half])) is not None
            ]
            if found:
                sequence, index, value = max(found)
                return index, sequence, value
        raise DamagedFile(f"{self.path} is damaged: neither of its two copies is what was written")

    def _write_slot(self, fd: int, offset: int, data: bytes) -> None:
        try:
            if os.pwrite(fd, data, offset) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            if self._durable:
                os.fdatasync(fd)
        except OSError:
            # It may not be on the disk: nobody shall read it, and the next write must not go over the former value.
            with contextlib.suppress(OSError):
                os.pwrite(fd, bytes(len(_MARK)), offset)
            raise

    def _make(self, value: bytes, sequence: int, *, replace: bool = True) -> None:
        """Make the file anew, as a whole, with all of its blocks written: what is only reserved could be taken apart
        again by a file system that must change its own tables for it, and some cannot reserve.
        """
        slot_bytes = -(-(len(value) + _HEADER_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
        directory, name = os.path.split(self.path)
        temporary = os.path.join(directory, f".{name}.{os.getpid()}.new")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                data = _slot(sequence, value).ljust(2 * slot_bytes, b"\0")
                while data:
                    data = data[os.write(fd, data) :]
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if replace:
                os.replace(temporary, self.path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, self.path)
                os.unlink(temporary)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._flush_name()

    def _flush_name(self) -> None:
        if self._durable:
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _slot(sequence: int, value: bytes) -> bytes:
    return _MARK + f"{sequence} {len(value)} {_digest(sequence, value)}\n".encode() + value


def _digest(sequence: int, value: bytes) -> str:
    return hashlib.sha256(b"%d " % sequence + value).hexdigest()


def _parse_slot(data: bytes) -> tuple[int, bytes] | None:
    """Return sequence and value; None: this is not what was written."""
    header, newline, _ = data[:_HEADER_BYTES].partition(b"\n")
    try:
        mark, number, length, digest = header.split(b" ")
        sequence, size = int(number), int(length)
    except ValueError:
        return None
    start = len(header) + 1
    value = data[start : start + size]
    if not newline or mark + b" " != _MARK or len(value) != size or _digest(sequence, value).encode() != digest:
        return None
    return sequence, value


def _read_all(fd: int) -> bytes:
    """Return the file. One read sees the first half before the second: while one of them is written, the other is
    whole.
    """
    return os.pread(fd, 2 * (MAX_VALUE_BYTES + BLOCK_BYTES), 0)
