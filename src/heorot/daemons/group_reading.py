"""One reading of all files of groups: their text, what is wrong with them, and how to see that one has changed."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from heorot.core.errors import HeorotError
from heorot.linux.trusted_path import check_file

MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20
GROUP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,63}")
RESERVED = ("state", "all", "*")
"""Sources that no file can be."""
_BETWEEN = re.compile(r"(?<![,!&^\s])\s+(?![,!&^\s])")


class GroupReading:
    """Reads files that only root and the head's user can change, a bounded number, and remembers how they looked."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        """For people."""
        self.seen: dict[Path, object] = {}
        """How each file and directory looked, before it was read."""
        self._files = 0

    def look(self, path: Path) -> object:
        """Remember how a file or directory looks, and return that; None: it is not there."""
        return self.seen.setdefault(path, looks(path))

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory, in their order; of one that cannot be read, none."""
        found = self.look(directory)
        return [name for name in found if not name.startswith(".")] if isinstance(found, list) else []

    def text(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
        """Return what is in a file.

        Raises
        ------
        UntrustedPath
            If somebody else can change it.
        OSError, ValueError
            If it cannot be read, is too long or one too many, or is not text.
        """
        self.look(path)
        self._files += 1
        if self._files > MAX_FILES:
            raise ValueError(f"there are more than {MAX_FILES} files of groups: it is not read")
        check_file(path)
        # What is no file, such as a pipe, must not stop the head.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("it is no file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(fd)
        if len(data) > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        return data.decode()

    def complain(self, path: Path, error: Exception | str) -> None:
        """Note what is wrong with a file."""
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        self.problems.append(f"{path}: {said}")


FILE_ERRORS = (OSError, ValueError, HeorotError)
"""What `GroupReading.text` raises, and whoever understands a text."""


def looks(path: Path) -> object:
    """Return what is different when a file or what is in a directory has changed; None: there is none."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return sorted(os.listdir(path))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def with_commas(text: str) -> str:
    """Return a node list whose elements may be separated by spaces only, as ClusterShell has them, with commas."""
    return _BETWEEN.sub(",", text.strip())
