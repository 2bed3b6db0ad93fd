"""The spool: output that nobody has read yet, in files without a name, so that none is ever left behind."""

from __future__ import annotations

import os
from collections.abc import Callable

from heorot.linux.slot_file import no_room, with_room


class FileSpool:
    """One unlinked file per stream; see `heorot.core.streams.Spool`.

    A full disk, like any other error of the file system, means "no room now": the bytes stay with the caller. Before
    that `make_room` is asked, which says whether it has freed any.
    """

    def __init__(self, directory: str, make_room: Callable[[], bool] = no_room) -> None:
        self.directory = directory
        self._make_room = make_room
        self._files: dict[int, tuple[int, int]] = {}
        """Descriptor and length."""

    def append(self, key: int, data: bytes) -> int:
        """Store bytes at the end; return how many were stored."""
        if not self.directory:
            return 0
        try:
            entry = self._files.get(key)
            if entry is None:
                entry = self._files[key] = (with_room(self._open, self._make_room), 0)
            descriptor, length = entry
            stored = with_room(lambda: os.pwrite(descriptor, data, length), self._make_room)
        except OSError:
            if key in self._files and self._files[key][1] == 0:
                self.drop(key)
            return 0
        self._files[key] = (descriptor, length + stored)
        return stored

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(self.directory, flags | os.O_TMPFILE, 0o600)
        except IsADirectoryError:
            pass
        except OSError as error:
            if error.errno != 95:  # EOPNOTSUPP: a file system without O_TMPFILE
                raise
        path = os.path.join(self.directory, f"{os.getpid()}.spool")
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)
        return descriptor

    def read(self, key: int, position: int, size: int) -> bytes:
        """Return up to `size` stored bytes from `position`."""
        return os.pread(self._files[key][0], size, position)

    def drop(self, key: int) -> None:
        """Forget the stream."""
        entry = self._files.pop(key, None)
        if entry is not None:
            os.close(entry[0])
