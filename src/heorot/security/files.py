"""Files that hold secrets: private from the first byte, replaced as a whole, changed under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from heorot.core.errors import SecurityError
from heorot.linux.slot_file import with_room

PRIVATE_FILE_MODE = 0o600
PRIVATE_DIRECTORY_MODE = 0o700


def make_private_directory(path: Path) -> None:
    """Create a directory that only its owner may enter; an existing one is narrowed to that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_DIRECTORY_MODE)
    path.chmod(PRIVATE_DIRECTORY_MODE)


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_FILE_MODE, durable: bool = False) -> None:
    """Replace a file: a reader sees the old content or the new one, and nobody else may ever read it.

    Parameters
    ----------
    path
        The file; its directory exists.
    data
        The whole new content.
    mode
        The permissions from the moment the file exists; the process's umask does not matter.
    durable
        Return only when the content would survive a power failure.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE_MODE
    )
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_with_room(root: Path, path: Path, data: bytes) -> None:
    """Replace a file as `write_atomically` does, durably; if the disk has no room, images that nobody uses go from the
    caches of the cluster's directory `root`.
    """

    def make_room() -> bool:
        from heorot.images.reclaim import WANTED_BYTES, drop_unused

        return drop_unused(str(root), WANTED_BYTES)[1] > 0

    with_room(lambda: write_atomically(path, data, durable=True), make_room)


def read_file(path: Path, what: str) -> bytes:
    """Return a file's content.

    Raises
    ------
    SecurityError
        If the file cannot be read; names the file, its meaning and the reason.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"cannot read the {what} {path}: {error.strerror}") from error


def write_new(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read, durably. Raises OSError; an existing file is left alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, PRIVATE_FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_private(path: Path, what: str, max_bytes: int) -> bytes:
    """Return at most so many bytes of a file that makes whoever has read it the cluster.

    Raises
    ------
    SecurityError
        If it cannot be read, belongs to another user, or others may read it.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SecurityError(f"{path} is no file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise SecurityError(
                    f"others may read {path} (mode {mode:o}): if somebody has, the cluster is theirs; "
                    f"otherwise: chmod 600 {path}"
                )
            if status.st_uid not in (0, os.geteuid()):
                raise SecurityError(f"{path} belongs to another user (uid {status.st_uid})")
            return file.read(max_bytes)
    except OSError as error:
        raise SecurityError(f"cannot read the {what} {path}: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file that is created when it is missing; other processes wait for it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
