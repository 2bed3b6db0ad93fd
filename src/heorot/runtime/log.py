"""A daemon's log file: lines of text or of JSON, bounded in size, opened when there is something to say."""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from pathlib import Path

from heorot.runtime.journal import Journal

_LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
MAX_TEXT_CHARACTERS = 8192
_JOB = re.compile(r"\bjob ([0-9]+\.[0-9]+)\b")
"""How a text names a job."""
_NODE = re.compile(r" n([0-9]+)$")


class LogFile:
    """Appends lines to a file; at `limit_bytes` the file becomes ``NAME.1`` (replacing the former) and a new one
    begins.

    A log that cannot be written is no reason to stop a daemon: the line is dropped.

    Parameters
    ----------
    in_json
        Each line is an object: ``time``, ``level``, ``daemon``, ``text``, and where they are known ``node``, ``epoch``
        and ``job``.
    journal
        Where the lines go as well, with the same fields; None: nowhere.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        level: str = "info",
        limit_bytes: int = 1024 * 1024,
        *,
        in_json: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self.epoch = 0
        """Of the head; 0: not known."""
        self._path = path
        self._name = name
        self._in_json = in_json
        self._journal = journal
        self._level = _LEVELS[level]
        self._limit_bytes = limit_bytes
        self._fd = -1
        self._bytes = 0
        self._torn = False

    @classmethod
    def of_service(cls, path: Path, name: str, level: str, in_json: bool) -> LogFile:
        """Return the log of a daemon, whose lines go to the journal as well if systemd has started it."""
        return cls(path, name, level, in_json=in_json, journal=Journal.of_service())

    def __call__(self, level: str, text: str) -> None:
        """Write one line; characters that a terminal would obey are escaped."""
        if _LEVELS.get(level, 3) < self._level:
            return
        clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)[:MAX_TEXT_CHARACTERS]
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        if self._journal is not None:
            self._journal(level, clean, self._fields(clean))
        if self._in_json:
            value = {"time": stamp, "level": level, "daemon": self._name, **self._fields(clean), "text": clean}
            self._write(json.dumps(value).encode() + b"\n")
        else:
            self._write(f"{stamp} {level} {self._name}: {clean}\n".encode("utf-8", "backslashreplace"))

    def _fields(self, text: str) -> dict[str, str | int]:
        """Return what can be searched for."""
        fields: dict[str, str | int] = {}
        node, job = _NODE.search(self._name), _JOB.search(text)
        if node is not None:
            fields["node"] = int(node[1])
        if self.epoch:
            fields["epoch"] = self.epoch
        if job is not None:
            fields["job"] = job[1]
        return fields

    def _write(self, line: bytes) -> None:
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
        if self._journal is not None:
            self._journal.forget()

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._journal is not None:
            self._journal.close()

    def exception(self, text: str) -> None:
        """Write the exception that is being handled, with its traceback, in one line a frame."""
        self("error", text)
        for line in traceback.format_exc().rstrip().split("\n"):
            self("error", "  " + line)
