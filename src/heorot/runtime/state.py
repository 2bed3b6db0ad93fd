"""Small values that a daemon keeps on disk, one file each, replaced as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from heorot.core.errors import HeorotError

MAX_STATE_BYTES = 1024 * 1024


def remember(directory: Path, name: str, value: bytes, log: Callable[[str, str], None]) -> None:
    """Keep a value. A full disk is reported, not fatal: what is forgotten costs a detour, never a job."""
    try:
        _replace(directory, name, value, durable=False)
    except OSError as error:
        log("warning", f"cannot keep {directory / name}: {error.strerror or error}")


def _replace(directory: Path, name: str, value: bytes, *, durable: bool) -> None:
    temporary = directory / f".{name}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(fd, value) != len(value):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remember_durably(directory: Path, name: str, value: bytes) -> None:
    """Keep a value that must survive a power cut. Raises OSError."""
    _replace(directory, name, value, durable=True)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def recall(directory: Path, name: str) -> bytes:
    """Return a value, empty if there is none."""
    try:
        with (directory / name).open("rb") as file:
            return file.read(MAX_STATE_BYTES)
    except OSError:
        return b""


def recall_epoch(directory: Path) -> int:
    """Return the epoch that was kept, 0 if none ever was.

    Raises
    ------
    HeorotError
        If it cannot be read, or is no number: taking it for 0 would let a deposed head command this node.
    """
    path = directory / "epoch"
    try:
        text = path.read_bytes()[:64].strip()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise HeorotError(f"cannot read the last epoch from {path}: {error.strerror or error}") from error
    if not (text.isdigit() and len(text) < 20):
        raise HeorotError(f"{path} holds no epoch; write the cluster's epoch into it, which heorot status shows")
    return int(text)
