"""Small values that a daemon keeps on disk, one file each, replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MAX_STATE_BYTES = 1024 * 1024


def remember(directory: Path, name: str, value: bytes, log: Callable[[str, str], None]) -> None:
    """Keep a value. A full disk is reported, not fatal: what is forgotten costs a detour, never a job."""
    path = directory / name
    temporary = directory / f".{name}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, value)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        log("warning", f"cannot keep {path}: {error.strerror or error}")


def remember_durably(directory: Path, name: str, value: bytes) -> None:
    """Keep a value that must survive a power cut. Raises OSError."""
    temporary = directory / f".{name}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, value)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, directory / name)
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


def recall_number(directory: Path, name: str) -> int:
    """Return a value in decimal digits as a number, 0 if there is none."""
    text = recall(directory, name).strip()
    return int(text) if text.isdigit() and len(text) < 20 else 0
