"""A host's cache of images: content-addressed files on disk, checked when they come, bounded, the oldest evicted.

::

    manifests/IMAGE     the encoded manifest of an image; its modification time is when the image was used last
    files/CONTENT[x]    a whole file, named by its content; "x" if it is executable
    partial/CONTENT[x]  a file of which some chunks are still lacking
    views/IMAGE/        "manifest", and the image's files by the number of their entry: hard links
    stage/              empty: bpinit mounts something on it in a namespace of its own
    boot                the boot of the host in which all of this was written

Nothing is flushed to the disk: after another boot every file counts as partial, and its chunks are looked at again
before they are used. So are those of a whole file whose size or modification time is not the one that it was given:
something, with root's rights, has written to it. A view in which names have come or gone is made anew for the same
reason. A program that is evicted while a process runs it stays with that process; an image that is being copied from is
not evicted.

People may remove any part of this at any time. A directory that is gone is seen by the one that it was in, and whatever
stands where a file belongs and is none is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256

from heorot.core.chunks import DIGEST_BYTES, FILE, chunk_bytes_of
from heorot.core.errors import ProtocolError
from heorot.core.image import Layout, decode_manifest, image_id, ranges_of
from heorot.core.message_base import Chunk
from heorot.images.disk import (
    is_spoilt,
    look_of,
    make_directory,
    names_in,
    read_file,
    remove,
    size_on_disk,
    write_parts,
)
from heorot.images.files import read_exactly
from heorot.images.identity import ImageError
from heorot.images.reclaim import hold, release, undisturbed
from heorot.slot_file import no_room, with_room

BOOT_ID = "/proc/sys/kernel/random/boot_id"
DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024 * 1024
MAX_OPEN_FILES = 16
SEALED_NS = 1_000_000_000 * 10**9
"""The modification time of every whole file and view: whatever is written to it later changes that."""
_PLAIN_MODE, _EXECUTABLE_MODE = 0o444, 0o555
_VIEW_MODE = 0o711
"""A copy runs as its user, and opens the files through a descriptor of this directory."""
_FOLDERS = ("manifests", "files", "partial", "views", "stage")


class _Pinned:
    """An image that is in use by a transfer."""

    __slots__ = ("hold", "layout", "names")

    def __init__(self, layout: Layout, manifest: str) -> None:
        self.hold = hold(manifest)
        self.layout = layout
        self.names = [_name_of(layout, file) for file in range(len(layout.files))]


def _name_of(layout: Layout, file: int) -> str:
    executable = layout.manifest.entries[layout.files[file]].mode & 0o111
    return layout.id_of(file).hex() + ("x" if executable else "")


class Cache:
    """See the module. Every method raises only `ImageError`.

    Parameters
    ----------
    directory
        Is made if it is not there.
    limit_bytes
        What all files together may take, at most.
    owner
        Whose cache it is, for people: what is too small here is told on other hosts.
    log
        Takes level and text of what an administrator should know.
    make_room
        Is asked for room when the disk has none and nothing of this cache can go; says whether it has freed any.
    """

    def __init__(
        self,
        directory: str,
        limit_bytes: int,
        owner: str,
        log: Callable[[str, str], None] = lambda level, text: None,
        make_room: Callable[[], bool] = no_room,
    ) -> None:
        self._log = log
        self._reclaim = make_room
        self.directory = directory
        self.owner = owner
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._seen: list[int] | None = None
        """What the directory looked like when all that belongs in it was there."""
        self._pinned: dict[bytes, _Pinned] = {}
        self._too_large: set[bytes] = set()
        """Pinned images for which the disk had no room: what has come of them is of no use."""
        self._chunks: dict[str, int] = {}
        """By file of a pinned image: mask of the chunks that are here. Two images may share a file."""
        self._open: dict[str, int] = {}

    def close(self) -> None:
        """Close all files."""
        for pinned in self._pinned.values():
            release(pinned.hold)
            pinned.hold = -1
        self._close_files()

    def _close_files(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    # ------------------------------------------------------------------ what is there

    def examine(self, image: bytes) -> tuple[bytes, list[int]]:
        """Return an image's manifest (empty: it is not here) and the chunks that are here, as flat ranges.

        What is here is not evicted until `forget`.
        """
        self._prepare()
        with undisturbed(self.directory):
            return self._examine(image)

    def _examine(self, image: bytes) -> tuple[bytes, list[int]]:
        path = self._path("manifests", image.hex())
        try:
            encoded = read_file(path)
        except FileNotFoundError:
            return b"", []
        except OSError as error:
            if not is_spoilt(path, error):
                raise self._failure(error, path) from error
            remove(path)
            return b"", []
        try:
            if image_id(encoded) != image:
                raise ProtocolError("it was changed")
            layout = Layout(decode_manifest(encoded))
        except ProtocolError:
            remove(path)
            return b"", []
        with contextlib.suppress(OSError):
            os.utime(path)
        pinned = self._pin(image, layout)
        have = 0
        for file, name in enumerate(pinned.names):
            have |= self._chunks[name] << layout.chunks_of(file)[0]
        if have != (1 << layout.chunks) - 1:
            # Of a file that comes anew it would go on showing the former one.
            remove(self._path("views", image.hex()))
        return encoded, ranges_of(have)

    def _pin(self, image: bytes, layout: Layout) -> _Pinned:
        if layout.size > self.limit_bytes:
            raise ImageError(
                f"the image has {layout.size} bytes; the image cache of {self.owner} ({self.directory}) holds at most"
                f" {self.limit_bytes}: send less, or raise [images] cache_bytes there"
            )
        former = self._pinned.get(image)
        pinned = self._pinned[image] = _Pinned(layout, self._path("manifests", image.hex()))
        if former is not None:
            release(former.hold)
        for file, name in enumerate(pinned.names):
            if name not in self._chunks:
                self._chunks[name] = self._chunks_of(layout, file, name)
        return pinned

    def _chunks_of(self, layout: Layout, file: int, name: str) -> int:
        """Return a mask of the chunks of a file that are on the disk."""
        try:
            if self._is_whole(layout, file, name):
                return (1 << layout.chunks_of(file)[1]) - 1
        except OSError:
            pass
        try:
            return self._check_partial(layout, file, name)
        except FileNotFoundError:
            return 0
        except OSError as error:
            path = self._path("partial", name)
            if not is_spoilt(path, error):
                raise self._failure(error, path) from error
            self._lose(name)
            return 0

    def _is_whole(self, layout: Layout, file: int, name: str) -> bool:
        """Say whether a file is here as it came; one that is not is dropped. Raises OSError."""
        path = self._path("files", name)
        entry = layout.manifest.entries[layout.files[file]]
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
            if stat.S_IMODE(status.st_mode) != _mode_of(entry.mode):
                # Says nothing of the content; but nobody, or everybody, could open it.
                self._log("warning", f"the mode of {path} was changed by somebody: it is set anew")
                os.chmod(path, _mode_of(entry.mode))
            if status.st_mtime_ns == SEALED_NS:
                return True
            if self._check(layout, file, name) == (1 << layout.chunks_of(file)[1]) - 1:
                os.utime(path, ns=(status.st_atime_ns, SEALED_NS))
                return True
        self._log("warning", f"{path} was changed by somebody: it is fetched anew")
        self._lose(name)
        return False

    def _check_partial(self, layout: Layout, file: int, name: str) -> int:
        """Return a mask of the chunks of an incomplete file that are right; if all are, it is whole."""
        have = self._check(layout, file, name)
        if have == (1 << layout.chunks_of(file)[1]) - 1:
            self._finish(name, layout.manifest.entries[layout.files[file]].mode)
        return have

    def _check(self, layout: Layout, file: int, name: str) -> int:
        """Return a mask of the chunks of a file that are right."""
        entry = layout.manifest.entries[layout.files[file]]
        step = chunk_bytes_of(entry.size)
        have = 0
        fd = self._file(name, os.O_RDWR)
        for chunk, offset in enumerate(range(0, entry.size, step)):
            data = os.pread(fd, min(step, entry.size - offset), offset)
            if sha256(data).digest() == entry.digests[chunk * DIGEST_BYTES : (chunk + 1) * DIGEST_BYTES]:
                have |= 1 << chunk
        return have

    def forget(self, image: bytes) -> None:
        """The image may be evicted; it is, if the disk was too full for it: others need the room more."""
        pinned = self._pinned.pop(image, None)
        if pinned is not None:
            release(pinned.hold)
            held = self._held()
            for name in pinned.names:
                if name not in held:
                    self._chunks.pop(name, None)
                    self._close(name)
        if image in self._too_large:
            self._too_large.discard(image)
            self._evict(self.limit_bytes, image.hex())

    def _held(self) -> set[str]:
        return {name for pinned in self._pinned.values() for name in pinned.names}

    # ------------------------------------------------------------------ what comes

    def keep_manifest(self, image: bytes, encoded: bytes) -> tuple[bytes, list[int]]:
        """Store a manifest that was checked; return what `examine` would."""
        self._prepare()
        with undisturbed(self.directory):
            return self._keep_manifest(image, encoded)

    def _keep_manifest(self, image: bytes, encoded: bytes) -> tuple[bytes, list[int]]:
        path = self._path("manifests", image.hex())
        temporary = f"{path}.{os.getpid()}"
        try:
            with_room(lambda: _write_file(temporary, encoded), self._reclaim)
            os.rename(temporary, path)
            # There the former one is linked, and that was lost because it was changed.
            remove(self._path("views", image.hex()))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise self._failure(error, path) from error
        return self._examine(image)

    def keep_chunks(self, image: bytes, first: int, chunks: Sequence[Chunk]) -> None:
        """Store consecutive chunks that were checked."""
        pinned = self._pinned.get(image)
        if pinned is None:
            return
        layout = pinned.layout
        while chunks:
            file, offset, _ = layout.place(first)
            start, count = layout.chunks_of(file)
            mine = chunks[: start + count - first]
            self._keep_in_file(layout, file, pinned.names[file], first - start, mine, offset)
            first, chunks = first + len(mine), chunks[len(mine) :]

    def _keep_in_file(
        self, layout: Layout, file: int, name: str, first: int, chunks: Sequence[Chunk], offset: int
    ) -> None:
        """Store consecutive chunks of one file; the first has this number there."""
        have = self._chunks[name]
        bits = ((1 << len(chunks)) - 1) << first
        if have & bits and len(chunks) > 1:
            # Another image that holds the same file has brought some of them.
            for chunk, data in enumerate(chunks, first):
                self._keep_in_file(layout, file, name, chunk, [data], offset)
                offset += len(data)
            return
        if have & bits:
            return
        size = sum(map(len, chunks))
        self._make_room(size)
        try:
            self._write_chunks(name, chunks, offset)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._too_large.update(image for image, pinned in self._pinned.items() if name in pinned.names)
            raise self._failure(error, self._path("partial", name)) from error
        self.used_bytes += size
        self._chunks[name] |= bits
        if self._chunks[name] == (1 << layout.chunks_of(file)[1]) - 1:
            self._finish(name, layout.manifest.entries[layout.files[file]].mode)

    def _write_chunks(self, name: str, chunks: Sequence[Chunk], offset: int) -> None:
        try:
            write_parts(self._file(name, os.O_RDWR | os.O_CREAT), chunks, offset)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # The disk is smaller than the limit, or others use it: what nobody needs now has to go.
            self._evict(self.limit_bytes)
            with_room(
                lambda: write_parts(self._file(name, os.O_RDWR | os.O_CREAT), chunks, offset),
                self._reclaim,
            )

    def _finish(self, name: str, mode: int) -> None:
        """All chunks of a file are there."""
        self._close(name)
        path = self._path("partial", name)
        try:
            os.chmod(path, _mode_of(mode))
            os.utime(path, ns=(SEALED_NS, SEALED_NS))
            os.rename(path, self._path("files", name))
        except OSError as error:
            raise self._failure(error, path) from error

    # ------------------------------------------------------------------ what is read

    def read_manifest(self, image: bytes) -> bytes:
        """Return an image's encoded manifest."""
        path = self._path("manifests", image.hex())
        try:
            return read_file(path)
        except OSError as error:
            raise self._failure(error, path) from error

    def read_chunks(self, image: bytes, first: int, count: int, *, check: bool) -> list[bytes]:
        """Return consecutive chunks; with `check`, only if they still are what they should be.

        After an ImageError `lose_chunks` says what has to come anew.
        """
        pinned = self._pinned.get(image)
        if pinned is None:
            raise ImageError("the image is not in the cache any more")
        layout = pinned.layout
        chunks = []
        for chunk in range(first, first + count):
            file, offset, length = layout.place(chunk)
            path = self._path("files", pinned.names[file])
            try:
                fd = self._file(pinned.names[file], os.O_RDONLY)
            except OSError as error:
                raise self._failure(error, path) from error
            data = read_exactly(fd, os.fsencode(path), offset, length)
            if check and sha256(data).digest() != layout.digest(chunk):
                raise ImageError(f"{path} is damaged")
            chunks.append(data)
        return chunks

    def lose_chunks(self, image: bytes, first: int, count: int) -> list[int]:
        """Some of these chunks are damaged or gone: drop the files that they are in, and return all of the chunks that
        have to be fetched anew, as flat ranges."""
        pinned = self._pinned.get(image)
        if pinned is None:
            return []
        layout = pinned.layout
        lost = 0
        for file in sorted({layout.place(chunk)[0] for chunk in range(first, first + count)}):
            start, chunks = layout.chunks_of(file)
            lost |= ((1 << chunks) - 1) << start
            self._lose(pinned.names[file])
            self._chunks[pinned.names[file]] = 0
        return ranges_of(lost)

    def _lose(self, name: str) -> None:
        """Drop a damaged file, and every view in which it is."""
        self._close(name)
        inodes: set[int] = set()
        for kind in ("files", "partial"):
            with contextlib.suppress(OSError):
                status = os.lstat(self._path(kind, name))
                inodes.add(status.st_ino)
                self.used_bytes -= size_on_disk(status)
                remove(self._path(kind, name))
        self._remove_views_of(inodes)

    def _remove_views_of(self, inodes: set[int]) -> None:
        """Drop every view in which these files are linked: it would go on showing them."""
        for view in names_in(self._path("views")):
            path = self._path("views", view)
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                if any(entry.inode() in inodes for entry in entries):
                    remove(path)

    # ------------------------------------------------------------------ views

    def make_view(self, image: bytes) -> str:
        """Return a directory with the image's manifest and its files, each under the number of its entry."""
        self._prepare()
        path = self._path("views", image.hex())
        pinned = self._pinned.get(image)
        if pinned is None or any(
            self._chunks[name] != (1 << pinned.layout.chunks_of(file)[1]) - 1 for file, name in enumerate(pinned.names)
        ):
            raise ImageError("the image is not complete")
        if _is_sealed(path):
            return path
        temporary = f"{path}.{os.getpid()}"
        for former in (path, temporary):
            remove(former)
        try:
            os.mkdir(temporary, _VIEW_MODE)
            os.chmod(temporary, _VIEW_MODE)
            links = [(self._path("manifests", image.hex()), "manifest")]
            for file, index in enumerate(pinned.layout.files):
                links.append((self._path("files", pinned.names[file]), str(index)))
            for source, name in links:
                os.link(source, f"{temporary}/{name}")
            for index, entry in enumerate(pinned.layout.manifest.entries):
                if entry.kind == FILE and not entry.size:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                    os.close(os.open(f"{temporary}/{index}", flags, _mode_of(entry.mode)))
            os.rename(temporary, path)
            os.utime(path, ns=(SEALED_NS, SEALED_NS))
        except OSError as error:
            raise self._failure(error, path) from error
        return path

    # ------------------------------------------------------------------ room

    def _make_room(self, size: int) -> None:
        if self.used_bytes + size <= self.limit_bytes:
            return
        self._evict(size)
        if self.used_bytes + size > self.limit_bytes:
            raise ImageError(
                f"the image cache of {self.owner} ({self.directory}) is full: all {self.limit_bytes} bytes are in use;"
                " try again later, or raise [images] cache_bytes there"
            )

    def _evict(self, size: int, only: str = "") -> None:
        """Drop images that nobody uses, the one that was used longest ago first, until there is room; or `only` one."""
        wanted_bytes = max(0, self.limit_bytes - size - self.limit_bytes // 16)
        images: list[tuple[int, str, list[str]]] = []
        holders = Counter(name for pinned in self._pinned.values() for name in pinned.names)
        for image in names_in(self._path("manifests")):
            path = self._path("manifests", image)
            try:
                if bytes.fromhex(image) in self._pinned:
                    continue
                layout = Layout(decode_manifest(read_file(path)))
                names = [_name_of(layout, file) for file in range(len(layout.files))]
                used_at_ns = os.stat(path).st_mtime_ns
                holders.update(names)
                if only in ("", image):
                    images.append((used_at_ns, image, names))
            except (OSError, ValueError, ProtocolError):
                remove(path)
        self._drop_files_without(holders)
        for _, image, names in sorted(images):
            if self.used_bytes <= wanted_bytes:
                return
            if self.is_used(image):
                continue
            remove(self._path("views", image))
            remove(self._path("manifests", image))
            holders.subtract(names)
            self._drop_files_without(+holders)

    def is_used(self, image: str) -> bool:
        """Say whether a copy reads from an image's view: it holds a lock on the manifest there."""
        try:
            fd = os.open(self._path("views", image, "manifest"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Locked; or nobody can say.
            return True
        finally:
            os.close(fd)
        return False

    def _drop_files_without(self, holders: Counter[str]) -> None:
        """Drop every file that no image holds, and count the rest."""
        self.used_bytes = 0
        for kind in ("files", "partial"):
            for name in names_in(self._path(kind)):
                path = self._path(kind, name)
                if name in holders:
                    with contextlib.suppress(OSError):
                        self.used_bytes += size_on_disk(os.lstat(path))
                else:
                    self._close(name)
                    remove(path)

    # ------------------------------------------------------------------ files

    def _prepare(self) -> None:
        """Make the directories, and find out what is there; later, only if one of them has come or gone."""
        if self._seen is not None and self._seen == look_of(self.directory):
            return
        cleared = self._seen is not None
        self._seen = None
        self._close_files()
        self.used_bytes = 0
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            made = [name for name in _FOLDERS if make_directory(self._path(name))]
            if cleared and made:
                self._log("warning", f"{self.directory} has lost {', '.join(made)}: what is needed comes anew")
            self._doubt_former_boot()
            for kind in ("files", "partial"):
                for name in names_in(self._path(kind)):
                    with contextlib.suppress(OSError):
                        self.used_bytes += size_on_disk(os.lstat(self._path(kind, name)))
        except OSError as error:
            raise self._failure(error, self.directory) from error
        self._chunks = dict.fromkeys(self._chunks, 0)
        counted: set[str] = set()
        for pinned in self._pinned.values():
            for file, name in enumerate(pinned.names):
                if name not in counted:
                    counted.add(name)
                    self._chunks[name] = self._chunks_of(pinned.layout, file, name)
        self._seen = look_of(self.directory)

    def _doubt_former_boot(self) -> None:
        with open(BOOT_ID, "rb") as file:
            boot = file.read().strip()
        path = self._path("boot")
        try:
            if read_file(path) == boot:
                return
        except OSError:
            pass
        # It need not be a file that can be written.
        remove(path)
        for name in os.listdir(self._path("views")):
            remove(self._path("views", name))
        for name in os.listdir(self._path("files")):
            whole, partial = self._path("files", name), self._path("partial", name)
            remove(partial)
            if stat.S_ISREG(os.lstat(whole).st_mode):
                os.chmod(whole, 0o600)
                os.rename(whole, partial)
            else:
                remove(whole)
        with_room(lambda: _write_file(path, boot), self._reclaim)

    def _path(self, *parts: str) -> str:
        return "/".join((self.directory, *parts))

    def _file(self, name: str, flags: int) -> int:
        """Return an open file, whole or partial; the last few are kept open."""
        fd = self._open.pop(name, None)
        if fd is None:
            if len(self._open) >= MAX_OPEN_FILES:
                self._close(next(iter(self._open)))
            try:
                fd = os.open(self._path("files", name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                flags = os.O_RDWR | flags & os.O_CREAT
                fd = os.open(self._path("partial", name), flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._open[name] = fd
        return fd

    def _close(self, name: str) -> None:
        fd = self._open.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _failure(self, error: OSError, path: str) -> ImageError:
        cache = f"the image cache of {self.owner}"
        if error.errno == errno.EROFS:
            return ImageError(f"{cache} cannot write {path}: the file system is read-only")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ImageError(f"{cache} cannot write {path}: {os.strerror(error.errno)}")
        return ImageError(f"{cache} fails at {path}: {error.strerror or error}")


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_parts(fd, [data], 0)
    finally:
        os.close(fd)


def _mode_of(mode: int) -> int:
    return _EXECUTABLE_MODE if mode & 0o111 else _PLAIN_MODE


def _is_sealed(view: str) -> bool:
    """Say whether a view is here, and as it was made."""
    try:
        status = os.lstat(view)
    except OSError:
        return False
    return status.st_mode == stat.S_IFDIR | _VIEW_MODE and status.st_mtime_ns == SEALED_NS
