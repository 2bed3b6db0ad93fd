"""A host's cache of images: content-addressed files on disk, checked when they come, bounded, the oldest evicted.

::

    manifests/IMAGE     the encoded manifest of a program's image; its modification time is when it was used last
    copies/IMAGE        that of a copy, which stays only as long as a hop needs it (`heorot.images.room`)
    files/CONTENT[x]    a whole file, named by its content; "x" if it is executable
    partial/CONTENT[x]  a file of which some chunks are still lacking
    views/IMAGE/        "manifest", and the image's files by the number of their entry: hard links
    stage/              empty: bpinit mounts something on it in a namespace of its own
    boot                the boot of the host in which all of this was written

What is on the disk is not believed (`heorot.images.content`). A view in which names have come or gone is made anew for
the same reason. A program that is evicted while a process runs it stays with that process; an image that is being
copied from is not evicted.

People may remove any part of this at any time. A directory that is gone is seen by the one that it was in, and whatever
stands where a file belongs and is none is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256

from heorot.core.errors import ProtocolError
from heorot.core.images.manifest import ChunkLayout, Manifest, decode_manifest, image_id, mask_of, ranges_of
from heorot.core.wire.base import Chunk
from heorot.images.content import Content, content_names
from heorot.images.disk import (
    cache_failure,
    is_spoilt,
    look_of,
    make_plain_directory,
    names_in,
    read_plain_file,
    remove,
    write_file,
)
from heorot.images.files import read_exactly
from heorot.images.identity import ImageError
from heorot.images.reclaim import release_image, undisturbed
from heorot.images.room import CacheRoom, Pinned
from heorot.images.shared_take import SharedTake
from heorot.images.view import is_sealed, make_view
from heorot.linux.slot_file import no_room, with_room

DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024 * 1024
_FOLDERS = ("manifests", "copies", "files", "partial", "views", "stage")


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
    shared
        A directory in which the caches of this host share what they have (`heorot.images.shared`); empty: none.
    """

    def __init__(
        self,
        directory: str,
        limit_bytes: int,
        owner: str,
        log: Callable[[str, str], None] = lambda level, text: None,
        make_room: Callable[[], bool] = no_room,
        shared: str = "",
    ) -> None:
        self._log = log
        self._reclaim = make_room
        self.directory = directory
        self.owner = owner
        self._seen: list[int] | None = None
        """What the directory looked like when all that belongs in it was there."""
        self._pinned: dict[bytes, Pinned] = {}
        self._too_large: set[bytes] = set()
        """Pinned images for which the disk had no room: what has come of them is of no use."""
        self._chunks: dict[str, int] = {}
        """By file of a pinned image: mask of the chunks that are here. Two images may share a file."""
        self._content = Content(directory, owner, log, shared)
        self._room = CacheRoom(
            self._content,
            limit_bytes,
            owner,
            lambda: {image: pinned.names for image, pinned in self._pinned.items()},
            make_room,
        )

    def close(self) -> None:
        """Close all files."""
        for pinned in self._pinned.values():
            release_image(pinned.hold)
            pinned.hold = -1
        self._content.close_all()

    @property
    def limit_bytes(self) -> int:
        """What all files together may take, at most."""
        return self._room.limit_bytes

    @property
    def store(self) -> bytes:
        """The name of the store that is shared, which is equal only for caches that share it; empty: none is."""
        return self._content.shared.name

    @property
    def used_bytes(self) -> int:
        """What all files together take."""
        return self._content.used_bytes

    # ------------------------------------------------------------------ what is there

    def examine(self, image: bytes) -> tuple[bytes, list[int]]:
        """Return an image's manifest (empty: it is not here) and the chunks that are here, as flat ranges.

        What is here is not evicted until `forget`.
        """
        self._prepare()
        with undisturbed(self.directory):
            return self._examine(image)

    def _examine(self, image: bytes) -> tuple[bytes, list[int]]:
        path = self._room.manifest_path(image.hex())
        try:
            encoded = read_plain_file(path)
        except FileNotFoundError:
            return b"", []
        except OSError as error:
            if not is_spoilt(path, error):
                raise cache_failure(self.owner, error, path) from error
            remove(path)
            return b"", []
        try:
            if image_id(encoded) != image:
                raise ProtocolError("it was changed")
            layout = ChunkLayout(decode_manifest(encoded))
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
            remove(self._content.path("views", image.hex()))
        return encoded, ranges_of(have)

    def _pin(self, image: bytes, layout: ChunkLayout) -> Pinned:
        self._room.check_size(layout.size)
        former = self._pinned.get(image)
        pinned = self._pinned[image] = Pinned(layout, self._room.manifest_path(image.hex()))
        if former is not None:
            release_image(former.hold)
        for file, name in enumerate(pinned.names):
            if name not in self._chunks:
                self._chunks[name] = self._content.chunks_here(name, layout.manifest.entries[layout.files[file]])
        return pinned

    def forget(self, image: bytes) -> None:
        """The image may be evicted; it is, if the disk was too full for it: others need the room more."""
        pinned = self._pinned.pop(image, None)
        if pinned is not None:
            release_image(pinned.hold)
            held = self._held()
            for name in pinned.names:
                if name not in held:
                    self._chunks.pop(name, None)
                    self._content.close(name)
        if image in self._too_large:
            self._too_large.discard(image)
            self._room.evict(self.limit_bytes, image.hex())

    def forget_all(self) -> None:
        """Every image may be evicted."""
        for image in list(self._pinned):
            self.forget(image)

    def has_copies(self) -> bool:
        """Say whether there are copies, or what looks like one."""
        return bool(names_in(self._content.path("copies")))

    def drop_copies(self, keep: Collection[bytes]) -> bool:
        """Drop every copy that nobody uses, but for these; return whether a process copies from one of the others."""
        if self._seen is None and not os.path.isdir(self._content.path("copies")):
            return False
        self._prepare()
        return self._room.drop_copies(keep)

    def is_used(self, image: str) -> bool:
        """Say whether a process of this host copies from an image."""
        return self._room.is_used(image)

    def _held(self) -> set[str]:
        return {name for pinned in self._pinned.values() for name in pinned.names}

    # ------------------------------------------------------------------ what comes

    def keep_manifest(self, image: bytes, encoded: bytes) -> tuple[bytes, list[int]]:
        """Store a manifest that was checked; return what `examine` would."""
        self._prepare()
        with undisturbed(self.directory):
            return self._keep_manifest(image, encoded)

    def _keep_manifest(self, image: bytes, encoded: bytes) -> tuple[bytes, list[int]]:
        self._room.admit(image.hex(), decode_manifest(encoded).is_copy)
        path = self._room.manifest_path(image.hex())
        temporary = f"{path}.{os.getpid()}"
        try:
            with_room(lambda: write_file(temporary, encoded), self._reclaim)
            os.rename(temporary, path)
            # There the former one is linked, and that was lost because it was changed.
            remove(self._content.path("views", image.hex()))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise cache_failure(self.owner, error, path) from error
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
        self, layout: ChunkLayout, file: int, name: str, first: int, chunks: Sequence[Chunk], offset: int
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
        try:
            self._room.make(size)
        except ImageError:
            if self._room.is_short_of_disk():
                self._too_large.update(image for image, pinned in self._pinned.items() if name in pinned.names)
            raise
        try:
            self._write_chunks(name, chunks, offset)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._too_large.update(image for image, pinned in self._pinned.items() if name in pinned.names)
            raise cache_failure(self.owner, error, self._content.path("partial", name)) from error
        self._chunks[name] |= bits
        if self._chunks[name] == (1 << layout.chunks_of(file)[1]) - 1:
            self._content.finish(name, layout.manifest.entries[layout.files[file]])

    def _write_chunks(self, name: str, chunks: Sequence[Chunk], offset: int) -> None:
        try:
            self._content.write(name, chunks, offset)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # The disk is smaller than the limit, or others use it: what nobody needs now has to go.
            self._room.evict_all()
            with_room(lambda: self._content.write(name, chunks, offset), self._reclaim)

    def take_shared(self, image: bytes, chunks: Sequence[int]) -> SharedTake:
        """Begin to take these chunks, flat ranges, from the store that is shared."""
        pinned = self._pinned.get(image)
        layout = pinned.layout if pinned is not None else ChunkLayout(Manifest([]))
        mask = mask_of(list(chunks), layout.chunks) if pinned is not None else 0
        return SharedTake(self._content, self._room, lambda: self._chunks, layout, content_names(layout), mask)

    # ------------------------------------------------------------------ what is read

    def read_manifest(self, image: bytes) -> bytes:
        """Return an image's encoded manifest."""
        path = self._room.manifest_path(image.hex())
        try:
            return read_plain_file(path)
        except OSError as error:
            raise cache_failure(self.owner, error, path) from error

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
            path = self._content.path("files", pinned.names[file])
            try:
                fd = self._content.open(pinned.names[file], os.O_RDONLY)
            except OSError as error:
                raise cache_failure(self.owner, error, path) from error
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
            self._content.lose(pinned.names[file])
            self._chunks[pinned.names[file]] = 0
        return ranges_of(lost)

    # ------------------------------------------------------------------ views

    def make_view(self, image: bytes) -> str:
        """Return a directory with the image's manifest and its files, each under the number of its entry."""
        self._prepare()
        path = self._content.path("views", image.hex())
        pinned = self._pinned.get(image)
        if pinned is None or any(self._chunks[name] != pinned.whole[file] for file, name in enumerate(pinned.names)):
            raise ImageError("the image is not complete")
        if is_sealed(path):
            return path
        files = [
            (self._content.path("files", pinned.names[file]), index) for file, index in enumerate(pinned.layout.files)
        ]
        try:
            make_view(path, self._room.manifest_path(image.hex()), files, pinned.layout.manifest.entries)
        except OSError as error:
            raise cache_failure(self.owner, error, path) from error
        return path

    # ------------------------------------------------------------------ files

    def _prepare(self) -> None:
        """Make the directories, and find out what is there; later, only if one of them has come or gone."""
        if self._seen is not None and self._seen == look_of(self.directory):
            return
        cleared = self._seen is not None
        self._seen = None
        self._content.close_all()
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            made = [name for name in _FOLDERS if make_plain_directory(self._content.path(name))]
            if cleared and made:
                self._log("warning", f"{self.directory} has lost {', '.join(made)}: what is needed comes anew")
            self._content.doubt_former_boot(self._reclaim)
            self._content.count()
            self._content.shared.prepare()
            self._content.shared.sweep()
            self._room.look()
        except OSError as error:
            raise cache_failure(self.owner, error, self.directory) from error
        self._chunks = dict.fromkeys(self._chunks, 0)
        counted: set[str] = set()
        for pinned in self._pinned.values():
            for file, name in enumerate(pinned.names):
                if name not in counted:
                    counted.add(name)
                    entry = pinned.layout.manifest.entries[pinned.layout.files[file]]
                    self._chunks[name] = self._content.chunks_here(name, entry)
        self._seen = look_of(self.directory)
