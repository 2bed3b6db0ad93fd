"""Small file systems for tests, and what fills them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE_BYTES = 4096


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Have a file system of this size (as mount(8) takes it) at a new directory `path`."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)  # lazily: what a failing test left open is said otherwise


def fill(disk: Path, left_bytes: int = 0) -> None:
    """Let the file ``filler`` take every block that is free; then give so many bytes back."""
    with open(disk / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE_BYTES))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        file.truncate(max(0, os.fstat(file.fileno()).st_size - left_bytes))


def free_bytes(disk: Path) -> int:
    """Return how much is free."""
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize
