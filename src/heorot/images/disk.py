"""What a cache does on the disk, where people may have put anything meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence

from heorot.core.wire.base import Chunk
from heorot.images.identity import ImageError

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_of_host() -> bytes:
    """Return what is another one after each boot. Raises OSError."""
    with open(BOOT_ID, "rb") as file:
        return file.read().strip()


def look_of(directory: str) -> list[int] | None:
    """Return what changes whenever a name in a directory appears or goes; None: it cannot be seen."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    # The number of links counts directories, where the time is too coarse for two changes in a row.
    return [status.st_dev, status.st_ino, status.st_mtime_ns, status.st_nlink]


def make_plain_directory(path: str) -> bool:
    """Make a directory, if none is here; return whether it was made. Raises OSError."""
    if os.path.isdir(path):
        return False
    remove(path)
    os.mkdir(path, 0o700)
    return True


def names_in(directory: str) -> list[str]:
    """Return what is in a directory: nothing, if that is gone."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def remove(path: str) -> None:
    """Remove whatever is here, as far as possible."""
    try:
        os.unlink(path)
    except IsADirectoryError:
        for name in names_in(path):
            remove(f"{path}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(path)
    except OSError:
        pass


def read_plain_file(path: str) -> bytes:
    """Return all of a file. Raises OSError."""
    with open(path, "rb", opener=_open) as file:
        return file.read()


def _open(path: str, flags: int) -> int:
    # Opening a FIFO would wait for its other end.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def is_spoilt(path: str, error: OSError) -> bool:
    """Say whether it is because of what stands here that it could not be read: no regular file, or a wrong mode.

    Anything else may pass, and what is here is kept.
    """
    try:
        return error.errno == errno.EACCES or not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def size_on_disk(status: os.stat_result) -> int:
    """Return what a file takes; one that is incomplete has holes."""
    return min(status.st_size, status.st_blocks * 512)


def write_parts(fd: int, parts: Sequence[Chunk], offset: int) -> None:
    """Write all of this, from there on. Raises OSError."""
    written = os.pwritev(fd, parts, offset)
    for part in parts:
        # Nearly always all of it was written at once.
        view = memoryview(part)[written:]
        offset += min(written, len(part))
        written = max(0, written - len(part))
        while view:
            count = os.pwrite(fd, view, offset)
            view = view[count:]
            offset += count


def write_file(path: str, data: bytes) -> None:
    """Make this all of a file. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_parts(fd, [data], 0)
    finally:
        os.close(fd)


def cache_failure(owner: str, error: OSError, path: str) -> ImageError:
    """Return what is said when the cache of `owner` cannot do something on its disk."""
    cache = f"the image cache of {owner}"
    if error.errno == errno.EROFS:
        return ImageError(f"{cache} cannot write {path}: the file system is read-only")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ImageError(f"{cache} cannot write {path}: {os.strerror(error.errno)}")
    return ImageError(f"{cache} fails at {path}: {error.strerror or error}")
