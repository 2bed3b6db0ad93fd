"""Says when a file has been replaced or written, without looking at it again and again: inotify(7) on its directory."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

from heorot.runtime.loop import Loop

_MOVED_TO, _CLOSE_WRITE, _ONLYDIR = 0x80, 0x8, 0x01000000
_EVENT = struct.Struct("=iIII")
"""``struct inotify_event``: watch, mask, cookie, and the length of the name that follows."""
_READ_BYTES = 64 * 1024


class FileWatch:
    """Calls `changed` after the file `path` has changed, and perhaps once too often.

    `close` ends it. Raises OSError where the kernel offers no (more) watches, or the directory is not there.
    """

    def __init__(self, loop: Loop, path: Path, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._name = os.fsencode(path.name)
        self._changed = changed
        library = ctypes.CDLL(None, use_errno=True)
        self._fd: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        mask = ctypes.c_uint32(_MOVED_TO | _CLOSE_WRITE | _ONLYDIR)
        if library.inotify_add_watch(self._fd, os.fsencode(path.parent), mask) < 0:
            error = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(error, "inotify_add_watch", str(path.parent))
        loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        start, is_news = 0, False
        while start < len(data):
            _, mask, _, length = _EVENT.unpack_from(data, start)
            start += _EVENT.size
            name = data[start : start + length].rstrip(b"\0")
            start += length
            # Whatever else there is tells that events were lost, or that the directory is gone.
            is_news = is_news or name == self._name or not mask & (_MOVED_TO | _CLOSE_WRITE)
        if is_news:
            self._changed()

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
