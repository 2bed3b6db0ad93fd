"""A page of memory in which a daemon tells the process that has forked it how it is, whatever its disk is like."""

from __future__ import annotations

import json
import mmap
import struct
import time
from typing import Any
from zlib import crc32

PAGE_BYTES = 4096
_HEADER = struct.Struct("=II")
_READS = 16
_PAUSE_S = 0.0005
"""A writer is done with a page within microseconds, if it is not interrupted; one that was killed never is."""
MAX_PROBLEM_CHARACTERS = 400


class SharedPage:
    """One object, written by one process and read by another. Both have it from a common ancestor."""

    def __init__(self, memory: mmap.mmap | None = None, number: int = 0) -> None:
        self._memory = mmap.mmap(-1, PAGE_BYTES) if memory is None else memory
        self._offset = number * PAGE_BYTES

    @classmethod
    def several(cls, count: int) -> list[SharedPage]:
        """Return so many pages, which are one mapping."""
        memory = mmap.mmap(-1, max(1, count) * PAGE_BYTES)
        return [cls(memory, number) for number in range(count)]

    def write(self, value: dict[str, Any]) -> None:
        """Replace the object; its JSON fits into the page."""
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
        assert len(data) <= PAGE_BYTES - _HEADER.size
        start = self._offset + _HEADER.size
        # Whoever reads meanwhile sees that length, digest and data do not belong together.
        self._memory[start : start + len(data)] = data
        _HEADER.pack_into(self._memory, self._offset, len(data), crc32(data))

    def say(self, problem: str) -> None:
        """Write what is wrong, as the only field ``problem``; empty: nothing is."""
        self.write({"problem": problem[:MAX_PROBLEM_CHARACTERS]})

    def read(self) -> dict[str, Any]:
        """Return the object; empty, if none was ever written, or its writer was killed while it wrote."""
        for _ in range(_READS):
            length, digest = _HEADER.unpack_from(self._memory, self._offset)
            if not length:
                return {}
            start = self._offset + _HEADER.size
            data = self._memory[start : start + min(length, PAGE_BYTES - _HEADER.size)]
            if crc32(data) == digest:
                value = json.loads(data)
                return value if isinstance(value, dict) else {}
            time.sleep(_PAUSE_S)
        return {}

    @property
    def problem(self) -> str:
        """What its writer says is wrong; empty: nothing."""
        return str(self.read().get("problem", ""))
