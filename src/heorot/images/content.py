"""The files of a host's cache, by content: whole, or with chunks still lacking.

Nothing is flushed to the disk: after another boot every file counts as partial, and its chunks are looked at again
before they are used. So are those of a whole file whose size or modification time is not the one that it was given:
something, with root's rights, has written to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256

from heorot.core.chunks import DIGEST_BYTES, chunk_bytes_of
from heorot.core.image import Entry, Layout
from heorot.core.message_base import Chunk
from heorot.images.disk import cache_failure, is_spoilt, names_in, remove, size_on_disk, write_parts

MAX_OPEN_FILES = 16
SEALED_NS = 1_000_000_000 * 10**9
"""The modification time of every whole file and view: whatever is written to it later changes that."""
_PLAIN_MODE, _EXECUTABLE_MODE = 0o444, 0o555


def content_name(layout: Layout, file: int) -> str:
    """Return what the file at this place in `Layout.files` is called here: its content, and "x" if it is executable."""
    executable = layout.manifest.entries[layout.files[file]].mode & 0o111
    return layout.id_of(file).hex() + ("x" if executable else "")


def kept_mode(mode: int) -> int:
    """Return the mode of a file that is whole."""
    return _EXECUTABLE_MODE if mode & 0o111 else _PLAIN_MODE


def whole_mask(entry: Entry) -> int:
    """Return the mask of all chunks of a file."""
    return (1 << len(entry.digests) // DIGEST_BYTES) - 1


class Content:
    """The folders ``files``, ``partial`` and ``views`` of a cache's directory. Every method raises only `ImageError`
    unless it says so.
    """

    def __init__(self, directory: str, owner: str, log: Callable[[str, str], None]) -> None:
        self._directory = directory
        self._owner = owner
        self._log = log
        self.used_bytes = 0
        self._open: dict[str, int] = {}

    def path(self, *parts: str) -> str:
        """Return the path of something in the cache's directory."""
        return "/".join((self._directory, *parts))

    # ------------------------------------------------------------------ what is here

    def chunks_here(self, name: str, entry: Entry) -> int:
        """Return a mask of the chunks of a file that are on the disk, and right."""
        try:
            if self._is_whole(name, entry):
                return whole_mask(entry)
        except OSError:
            pass
        try:
            have = self._check(name, entry)
            if have == whole_mask(entry):
                self.finish(name, entry.mode)
            return have
        except FileNotFoundError:
            return 0
        except OSError as error:
            path = self.path("partial", name)
            if not is_spoilt(path, error):
                raise cache_failure(self._owner, error, path) from error
            self.lose(name)
            return 0

    def _is_whole(self, name: str, entry: Entry) -> bool:
        """Say whether a file is here as it came; one that is not is dropped. Raises OSError."""
        path = self.path("files", name)
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
            if stat.S_IMODE(status.st_mode) != kept_mode(entry.mode):
                # Says nothing of the content; but nobody, or everybody, could open it.
                self._log("warning", f"the mode of {path} was changed by somebody: it is set anew")
                os.chmod(path, kept_mode(entry.mode))
            if status.st_mtime_ns == SEALED_NS:
                return True
            if self._check(name, entry) == whole_mask(entry):
                os.utime(path, ns=(status.st_atime_ns, SEALED_NS))
                return True
        self._log("warning", f"{path} was changed by somebody: it is fetched anew")
        self.lose(name)
        return False

    def _check(self, name: str, entry: Entry) -> int:
        """Return a mask of the chunks of a file that are right. Raises OSError."""
        step = chunk_bytes_of(entry.size)
        have = 0
        fd = self.open(name, os.O_RDWR)
        for chunk, offset in enumerate(range(0, entry.size, step)):
            data = os.pread(fd, min(step, entry.size - offset), offset)
            if sha256(data).digest() == entry.digests[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES]:
                have |= 1 << chunk
        return have

    # ------------------------------------------------------------------ what comes and goes

    def write(self, name: str, chunks: Sequence[Chunk], offset: int) -> None:
        """Store consecutive chunks of a file. Raises OSError."""
        write_parts(self.open(name, os.O_RDWR | os.O_CREAT), chunks, offset)
        self.used_bytes += sum(map(len, chunks))

    def finish(self, name: str, mode: int) -> None:
        """All chunks of a file are there."""
        self.close(name)
        path = self.path("partial", name)
        try:
            os.chmod(path, kept_mode(mode))
            os.utime(path, ns=(SEALED_NS, SEALED_NS))
            os.rename(path, self.path("files", name))
        except OSError as error:
            raise cache_failure(self._owner, error, path) from error

    def lose(self, name: str) -> None:
        """Drop a damaged file, and every view in which it is."""
        self.close(name)
        inodes: set[int] = set()
        for kind in ("files", "partial"):
            with contextlib.suppress(OSError):
                status = os.lstat(self.path(kind, name))
                inodes.add(status.st_ino)
                self.used_bytes -= size_on_disk(status)
                remove(self.path(kind, name))
        for view in names_in(self.path("views")):
            path = self.path("views", view)
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                # It would go on showing them.
                if any(entry.inode() in inodes for entry in entries):
                    remove(path)

    def drop_without(self, holders: Counter[str]) -> None:
        """Drop every file that no image holds, and count the rest."""
        self.used_bytes = 0
        for kind in ("files", "partial"):
            for name in names_in(self.path(kind)):
                path = self.path(kind, name)
                if name in holders:
                    with contextlib.suppress(OSError):
                        self.used_bytes += size_on_disk(os.lstat(path))
                else:
                    self.close(name)
                    remove(path)

    def count(self) -> None:
        """Find out how much is here."""
        self.used_bytes = 0
        for kind in ("files", "partial"):
            for name in names_in(self.path(kind)):
                with contextlib.suppress(OSError):
                    self.used_bytes += size_on_disk(os.lstat(self.path(kind, name)))

    def doubt_all(self) -> None:
        """After another boot: let every file count as partial. Raises OSError."""
        for name in os.listdir(self.path("files")):
            whole, partial = self.path("files", name), self.path("partial", name)
            remove(partial)
            if stat.S_ISREG(os.lstat(whole).st_mode):
                os.chmod(whole, 0o600)
                os.rename(whole, partial)
            else:
                remove(whole)

    # ------------------------------------------------------------------ descriptors

    def open(self, name: str, flags: int) -> int:
        """Return an open file, whole or partial; the last few are kept open. Raises OSError."""
        fd = self._open.pop(name, None)
        if fd is None:
            if len(self._open) >= MAX_OPEN_FILES:
                self.close(next(iter(self._open)))
            try:
                fd = os.open(self.path("files", name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                flags = os.O_RDWR | flags & os.O_CREAT
                fd = os.open(self.path("partial", name), flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._open[name] = fd
        return fd

    def close(self, name: str) -> None:
        """Close a file."""
        fd = self._open.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close all files."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
