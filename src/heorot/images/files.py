"""Reading files as images see them: chunk by chunk, and noticing when one changes meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from hashlib import sha256

from heorot.core.images.chunks import MAX_FILE_BYTES, chunk_bytes_of, file_id
from heorot.images.identity import ImageError, identity, shown


class SizeError(ImageError):
    """A file has not changed, and has more or fewer bytes than it says: those of /proc and /sys, and some of FUSE."""


def open_file(path: bytes, opener: Callable[[bytes, int], int] = os.open) -> tuple[int, os.stat_result]:
    """Open a regular file for reading.

    Raises
    ------
    ImageError
        If it cannot be read, or is no regular file, or is too large.
    """
    try:
        # To open a device is to use it (a watchdog begins to count), and that of a FIFO waits for its other end. A user
        # may name any path to an agent that is root: so what is there is found out before it is opened.
        place = opener(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise ImageError(f"{shown(path)} is not a regular file")
            fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(place)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {shown(path)}: {_reason(error)}") from error
    status = os.fstat(fd)
    if status.st_size > MAX_FILE_BYTES:
        os.close(fd)
        raise ImageError(f"{shown(path)} has {status.st_size} bytes; a file that is sent has at most {MAX_FILE_BYTES}")
    return fd, status


class FileDigest:
    """The digests of an open file, taken step by step: a large one must not hold up a daemon."""

    def __init__(self, path: bytes, fd: int, status: os.stat_result) -> None:
        self.path = path
        self.size = status.st_size
        self._fd = fd
        self._identity = identity(status)
        self._step = chunk_bytes_of(self.size)
        self._parts: list[bytes] = []
        self._offset = 0

    def advance(self, limit_bytes: int) -> bool:
        """Read up to so much more (at least one chunk); return whether the whole file was read.

        Raises
        ------
        ImageError
            If it cannot be read, or has changed meanwhile.
        SizeError
            If it has not, and its size is not what it has.
        """
        read = 0
        while self._offset < self.size and (not read or read < limit_bytes):
            length = min(self._step, self.size - self._offset)
            data = read_up_to(self._fd, self.path, self._offset, length)
            if len(data) < length:
                self._check_identity()
                raise SizeError(f"{shown(self.path)} says that it has {self.size} bytes, and has fewer")
            self._parts.append(sha256(data).digest())
            self._offset += length
            read += length
        if self._offset < self.size:
            return False
        more = read_up_to(self._fd, self.path, self.size, 1)
        self._check_identity()
        if more:
            raise SizeError(f"{shown(self.path)} says that it has {self.size} bytes, and has more")
        return True

    def _check_identity(self) -> None:
        if identity(os.fstat(self._fd)) != self._identity:
            raise ImageError(f"{shown(self.path)} has changed while it was read")

    @property
    def digests(self) -> bytes:
        """The SHA-256 of each chunk, one after the other."""
        return b"".join(self._parts)

    @property
    def file_id(self) -> bytes:
        """The name of the content."""
        return file_id(self.size, self.digests)


def read_exactly(fd: int, path: bytes, offset: int, length: int) -> bytes:
    """Return these bytes of a file.

    Raises
    ------
    ImageError
        If it cannot be read, or is shorter.
    """
    data = read_up_to(fd, path, offset, length)
    if len(data) < length:
        raise ImageError(f"{shown(path)} has changed while it was read: it is shorter")
    return data


def read_up_to(fd: int, path: bytes, offset: int, length: int) -> bytes:
    """Return these bytes of a file: fewer only if it ends before. Raises ImageError if it cannot be read."""
    try:
        data = os.pread(fd, length, offset)
        while data and len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise ImageError(f"cannot read {shown(path)}: {_reason(error)}") from error
    return data


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
