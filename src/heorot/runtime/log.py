"""A daemon's log file: plain lines, bounded in size, opened when there is something to say."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

_LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class LogFile:
    """Appends lines to a file; at `limit_bytes` the file becomes ``NAME.1`` (replacing the former) and a new one
    begins.

    A log that cannot be written is no reason to stop a daemon: the line is dropped.
    """

    def __init__(self, path: Path, name: str, level: str = "info", limit_bytes: int = 1024 * 1024) -> None:
        self._path = path
        self._name = name
        self._level = _LEVELS[level]
        self._limit_bytes = limit_bytes
        self._fd = -1
        self._bytes = 0
        self._torn = False

    def __call__(self, level: str, text: str) -> None:
        """Write one line; characters that a terminal would obey are escaped."""
        if _LEVELS.get(level, 3) < self._level:
            return
        clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)[:8192]
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = f"{stamp} {level} {self._name}: {clean}\n".encode("utf-8", "backslashreplace")
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
                self._bytes = os.fstat(self._fd).st_size
            if self._bytes + len(line) > self._limit_bytes:
                os.close(self._fd)
                self._fd = -1
                os.replace(self._path, f"{self._path}.1")
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
                self._bytes = 0
            written = os.write(self._fd, b"\n" + line if self._torn else line)
            self._bytes += written
            # What a full disk has cut short shall not run into the next line.
            self._torn = written < len(line)
        except OSError:
            pass

    def forget(self) -> None:
        """Open the file again at the next line: after a fork, the descriptor is the parent's."""
        self._fd = -1

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def exception(self, text: str) -> None:
        """Write the exception that is being handled, with its traceback, in one line a frame."""
        self("error", text)
        for line in traceback.format_exc().rstrip().split("\n"):
            self("error", "  " + line)
