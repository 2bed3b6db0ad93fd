"""The files of a host's cache, by content: whole, or with chunks still lacking.

Nothing is flushed to the disk: after another boot every file counts as partial, and its chunks are looked at again
before they are used. So are those of a whole file whose size or modification time is not the one that it was given:
something, with root's rights, has written to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256

from heorot.core.images.chunks import DIGEST_BYTES, MAX_FILE_BYTES, chunk_bytes_of
from heorot.core.images.manifest import ChunkLayout, Entry
from heorot.core.wire.base import Chunk
from heorot.images.disk import (
    boot_of_host,
    cache_failure,
    is_spoilt,
    names_in,
    read_plain_file,
    remove,
    size_on_disk,
    write_file,
    write_parts,
)
from heorot.images.shared import SharedContent
from heorot.linux.slot_file import with_room

MAX_OPEN_FILES = 16
SEALED_NS = 1_000_000_000 * 10**9
"""The modification time of every whole file and view: whatever is written to it later changes that."""
_PLAIN_MODE, _EXECUTABLE_MODE = 0o444, 0o555


def content_names(layout: ChunkLayout) -> list[str]:
    """Return what each of `ChunkLayout.files` is called here: its content, and "x" if it is executable."""
    executable = [layout.manifest.entries[index].mode & 0o111 for index in layout.files]
    return [layout.id_of(file).hex() + ("x" if flag else "") for file, flag in enumerate(executable)]


def kept_mode(mode: int) -> int:
    """Return the mode of a file that is whole."""
    return _EXECUTABLE_MODE if mode & 0o111 else _PLAIN_MODE


def whole_mask(entry: Entry) -> int:
    """Return the mask of all chunks of a file."""
    return (1 << len(entry.digests) // DIGEST_BYTES) - 1


def _is_program(name: str) -> bool:
    """Say whether this is the name of a file that may be executed."""
    return name.endswith("x")


def right_chunks(fd: int, entry: Entry, begin: int = 0, limit_bytes: int = MAX_FILE_BYTES) -> int:
    """Return a mask of the chunks of an open file that are right, of about so many bytes from the chunk `begin` on.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    step = chunk_bytes_of(entry.size)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
    end = status.st_size
    have = data_at = 0
    for chunk, offset in enumerate(range(begin * step, min(entry.size, begin * step + limit_bytes), step), begin):
        length = min(step, entry.size - offset)
        if offset + length > end:
            break
        if data_at < offset + length:
            data_at = _next_data(fd, max(data_at, offset), end)
        # A file that is on its way is mostly a hole, which need not be digested each time.
        found = sha256(os.pread(fd, length, offset)).digest() if data_at < offset + length else _digest_of_zeros(length)
        if found == entry.digests[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES]:
            have |= 1 << chunk
    return have


def _next_data(fd: int, offset: int, end: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        # There is no more; or the file system does not know of holes.
        return end if error.errno == errno.ENXIO else offset


@lru_cache(maxsize=64)
def _digest_of_zeros(length: int) -> bytes:
    return sha256(bytes(length)).digest()


class Content:
    """The folders ``files``, ``partial`` and ``views`` of a cache's directory. Every method raises only `ImageError`
    unless it says so.
    """

    def __init__(self, directory: str, owner: str, log: Callable[[str, str], None], shared: str = "") -> None:
        self._directory = directory
        self.shared = SharedContent(shared, log)
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
            if self._take(name, entry):
                return whole_mask(entry)
            have = self._check(name, entry)
            if have == whole_mask(entry):
                self.finish(name, entry)
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
        return right_chunks(self.open(name, os.O_RDWR), entry)

    # ------------------------------------------------------------------ what comes and goes

    def write(self, name: str, chunks: Sequence[Chunk], offset: int) -> None:
        """Store consecutive chunks of a file. Raises OSError."""
        fd = self.open(name, os.O_RDWR | os.O_CREAT)
        try:
            write_parts(fd, chunks, offset)
        except OSError as error:
            # Another cache of this host was faster, and has made the file that both have read-only.
            data = b"".join(chunks)
            if error.errno != errno.EBADF or os.pread(fd, len(data), offset) != data:
                raise
        self.used_bytes += sum(map(len, chunks))

    def finish(self, name: str, entry: Entry) -> None:
        """All chunks of a file are there."""
        self.close(name)
        path = self.path("partial", name)
        try:
            os.chmod(path, kept_mode(entry.mode))
            os.utime(path, ns=(SEALED_NS, SEALED_NS))
            if not self.shared.give(name, path):
                # Another cache of this host has it, too: one of both is enough.
                self._take_whole(name, entry, path)
            os.rename(path, self.path("files", name))
        except OSError as error:
            raise cache_failure(self._owner, error, path) from error

    def _take(self, name: str, entry: Entry) -> bool:
        """Take what another cache of this host has of a file of which nothing is here; return whether that is all of it
        and the file is whole. Raises OSError."""
        path = self.path("partial", name)
        if os.path.lexists(path):
            return False
        if not _is_program(name):
            # Others may still be writing into it.
            self.shared.take(name, path)
            return False
        if not self._take_whole(name, entry, path):
            return False
        os.rename(path, self.path("files", name))
        return True

    def _take_whole(self, name: str, entry: Entry, path: str) -> bool:
        """Let `path` be the whole file that another cache of this host has; return whether there is one that is right.

        It is never opened for writing: a program could not be executed meanwhile. Raises OSError."""
        try:
            if not self.borrow(name, entry) or self.right_in_borrowed(name, entry) != whole_mask(entry):
                return False
            os.rename(self._borrowed(name), path)
            return True
        finally:
            self.give_back(name)

    # ------------------------------------------------------------------ what another cache has

    def _borrowed(self, name: str) -> str:
        return self.path("partial", name + ".theirs")

    def borrow(self, name: str, entry: Entry) -> bool:
        """Hold the whole file of this name that another cache of this host has, to look at it; return whether there is
        one. `give_back` follows. Raises OSError.
        """
        self.give_back(name)
        return self.shared.take(name, self._borrowed(name)) and self._is_as_it_came(name, entry)

    def _is_as_it_came(self, name: str, entry: Entry) -> bool:
        status = os.lstat(self._borrowed(name))
        return status.st_size == entry.size and status.st_mtime_ns == SEALED_NS

    def right_in_borrowed(self, name: str, entry: Entry, begin: int = 0, limit_bytes: int = MAX_FILE_BYTES) -> int:
        """Return a mask of the chunks of a borrowed file that are right, as `right_chunks`. Raises OSError."""
        fd = os.open(self._borrowed(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return right_chunks(fd, entry, begin, limit_bytes)
        finally:
            os.close(fd)

    def is_part_of_borrowed(self, name: str) -> bool:
        """Say whether what is here of a file is in the very file that is borrowed."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self.path("partial", name)), os.lstat(self._borrowed(name)))
        return False

    def keep_borrowed(self, name: str, entry: Entry) -> bool:
        """All of a borrowed file is right: let it be ours; return False if it was changed meanwhile. Raises OSError."""
        if not self._is_as_it_came(name, entry):
            return False
        self.close(name)
        os.rename(self._borrowed(name), self.path("files", name))
        remove(self.path("partial", name))
        return True

    def give_back(self, name: str) -> None:
        """Hold what was borrowed no longer."""
        remove(self._borrowed(name))

    def lose(self, name: str) -> None:
        """Drop a damaged file, and every view in which it is."""
        self.close(name)
        inodes: set[int] = set()
        for kind in ("files", "partial"):
            with contextlib.suppress(OSError):
                status = os.lstat(self.path(kind, name))
                inodes.add(status.st_ino)
                self.used_bytes -= size_on_disk(status)
                if self.shared.is_same(name, self.path(kind, name)):
                    self.shared.forget(name)
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
                    self.shared.release(name)

    def count(self) -> None:
        """Find out how much is here."""
        self.used_bytes = 0
        for kind in ("files", "partial"):
            for name in names_in(self.path(kind)):
                with contextlib.suppress(OSError):
                    self.used_bytes += size_on_disk(os.lstat(self.path(kind, name)))

    def doubt_former_boot(self, make_room: Callable[[], bool]) -> None:
        """See whether all of this was written in this boot of the host: else it is looked at again. Raises OSError."""
        boot = boot_of_host()
        path = self.path("boot")
        try:
            if read_plain_file(path) == boot:
                return
        except OSError:
            pass
        # It need not be a file that can be written.
        remove(path)
        for name in os.listdir(self.path("views")):
            remove(self.path("views", name))
        self._doubt_all()
        with_room(lambda: write_file(path, boot), make_room)

    def _doubt_all(self) -> None:
        for name in os.listdir(self.path("files")):
            whole, partial = self.path("files", name), self.path("partial", name)
            remove(partial)
            if stat.S_ISREG(os.lstat(whole).st_mode):
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
                fd = self._open_partial(name, flags)
        self._open[name] = fd
        return fd

    def _open_partial(self, name: str, flags: int) -> int:
        path = self.path("partial", name)
        if flags & os.O_CREAT and not _is_program(name) and not os.path.lexists(path):
            self.shared.join(name, path)
        flags = os.O_RDWR | flags & os.O_CREAT
        try:
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except PermissionError:
            # Another cache of this host has made it whole, and read-only.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)

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
