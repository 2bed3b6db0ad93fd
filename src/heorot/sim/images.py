"""Virtual images, and each host's cache of them: a disk that survives its daemon, and most of it a loss of power."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from heorot.core.images.chunks import CHUNK_BYTES, FILE
from heorot.core.images.manifest import ChunkLayout, Entry, Manifest, encode_manifest, image_id, mask_of, ranges_of
from heorot.core.machine import (
    CacheEvent,
    CacheFailed,
    ChunksGone,
    Compare,
    Compared,
    CopiesDropped,
    CopiesFound,
    DropCopies,
    Examine,
    Examined,
    Forget,
    KeepChunks,
    KeepManifest,
    MakeView,
    SendChunks,
    SendManifest,
    SharedTaken,
    TakeShared,
    ViewMade,
)
from heorot.core.shells import NodeCacheShell
from heorot.core.wire.images import ImageManifest, Piece
from heorot.images.offer import Offer
from heorot.sim.surroundings import Surroundings

if TYPE_CHECKING:
    from heorot.core.wire.tree import LinkMessage

PROGRAM = b"/bin/program"
DISK_FULL = "the image cache is full"
FILES_GONE = "files of the image are gone"
SLOWEST_LOOK_US = 20_000
"""How long it may take to compare a file of the node."""
KEPT_AFTER_POWER_LOSS = 0.7
LOST_IN_STORE = 0.01
"""So often a chunk that is said to be in a store is not found there."""


class VirtualImage:
    """A program with its files, and all of their bytes."""

    def __init__(self, random: Random, is_copy: bool) -> None:
        self.is_copy = is_copy
        """Nobody needs it afterwards."""
        self.contents = [random.randbytes(random.choice((0, 10, 70_000, 300_000))) for _ in range(3)]
        self.contents.append(random.randbytes(random.choice((1, 500_000, 1_500_000))))
        entries = []
        for number, content in enumerate(self.contents):
            pieces = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
            digests = b"".join(sha256(piece).digest() for piece in pieces)
            path = PROGRAM if number == 3 else b"/lib/%d" % number
            entries.append(Entry(path, FILE, 0o755, len(content), digests))
        manifest = Manifest(entries, b"" if is_copy else PROGRAM)
        self.encoded = encode_manifest(manifest)
        self.layout = ChunkLayout(manifest)
        self.image = image_id(self.encoded)
        self.program_id = self.layout.id_of(len(self.layout.files) - 1)

    def chunk(self, number: int) -> bytes:
        """Return the bytes of a chunk."""
        file, offset, length = self.layout.place(number)
        return self.contents[self.layout.files[file]][offset : offset + length]

    def offer(self) -> Offer:
        """Return what a client offers."""
        return Offer(self.image, PROGRAM, self.program_id, self.encoded)


class Travelled(Surroundings, Protocol):
    """A run in which images travel."""

    images: dict[bytes, VirtualImage]
    caches: list[VirtualCache]
    """Of all hosts that there were."""


class VirtualCache(NodeCacheShell):
    """The cache of one host.

    Parameters
    ----------
    feed
        Gives the present daemon an event; one that was planned for an earlier daemon is dropped.
    """

    def __init__(self, cluster: Travelled, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._manifests: set[bytes] = set()
        self._chunks: dict[bytes, dict[int, bytes]] = {}
        self.pinned: set[bytes] = set()
        self._read: set[bytes] = set()
        """Copies that a process of this host reads from for a while."""
        self._feed: Callable[[Any], None] = lambda event: None
        self._send: Callable[[int, LinkMessage], None] = lambda link, message: None
        self._next_is_gone = False
        self._spoilt: set[bytes] = set()
        """Images of which files were removed."""
        self._daemon = 0
        shares = Random(f"{name} shares").random() < cluster.settings.shared_store_rate
        self.store = b"store" if shares else b""
        """What it shares with other caches, each on a disk of its own all the same."""
        cluster.caches.append(self)

    def begin(
        self,
        feed: Callable[[Any], None],
        send: Callable[[int, LinkMessage], None],
    ) -> None:
        """A daemon starts."""
        self._daemon += 1
        self._feed, self._send = feed, send
        self.pinned.clear()
        if self.copies:
            self._later(CopiesFound())

    def lose_power(self) -> None:
        """What was not flushed may be gone; what is left is looked at again."""
        world = self._cluster.world
        for chunks in self._chunks.values():
            for number in list(chunks):
                if not world.chance(KEPT_AFTER_POWER_LOSS):
                    del chunks[number]

    def spoil(self) -> None:
        """Somebody is about to remove a file of what is sent next."""
        self._next_is_gone = True

    def _lose_file(self, image: bytes, file: int) -> list[int]:
        """Drop the chunks of a file, and return them."""
        start, count = self._cluster.images[image].layout.chunks_of(file)
        lost = list(range(start, start + count))
        self._spoilt.add(image)
        for number in lost:
            self._chunks.get(image, {}).pop(number, None)
        return lost

    def whole(self, image: bytes) -> bool:
        """Say whether everything of an image is here, and right."""
        virtual = self._cluster.images[image]
        chunks = self._chunks.get(image, {})
        return image in self._manifests and all(
            chunks.get(number) == virtual.chunk(number) for number in range(virtual.layout.chunks)
        )

    @property
    def copies(self) -> int:
        """How many copies are here, or parts of them."""
        here = {*self._manifests, *(image for image, chunks in self._chunks.items() if chunks)}
        return sum(self._cluster.images[image].is_copy for image in here)

    # ------------------------------------------------------------------ instructions

    def compare(self, item: Compare) -> None:
        """Look at a file for a while."""
        world = self._cluster.world
        if world.chance(0.2):
            self._later(Compared(item.job, None), 0)
        self._later(Compared(item.job, self._has_program(item)), world.between(0, SLOWEST_LOOK_US))

    def examine(self, item: Examine) -> None:
        """Look at what is here."""
        self.pinned.add(item.image)
        self._later(self._examined(item.image))

    def forget(self, item: Forget) -> None:
        """Nobody needs it now."""
        self.pinned.discard(item.image)

    def keep_manifest(self, item: KeepManifest) -> None:
        """Keep it, unless the disk is full."""
        world = self._cluster.world
        if not self._cluster.faults.healed and world.chance(self._cluster.settings.cache_full_rate):
            self._later(CacheFailed(item.image, DISK_FULL))
            return
        if item.data != self._cluster.images[item.image].encoded:
            world.violated("ImageExact", f"{self._name} keeps a wrong manifest")
        self._manifests.add(item.image)
        self._later(self._examined(item.image))

    def keep_chunks(self, item: KeepChunks) -> None:
        """Keep them, and see that they are right."""
        for chunk, data in enumerate(item.chunks, item.first):
            if data != self._cluster.images[item.image].chunk(chunk):
                self._cluster.world.violated("ImageExact", f"{self._name} keeps wrong bytes as chunk {chunk}")
            self._chunks.setdefault(item.image, {})[chunk] = bytes(data)

    def take_shared(self, item: TakeShared) -> None:
        """Take what another host with the same store has; now and then something of it is not seen."""
        world, virtual = self._cluster.world, self._cluster.images[item.image]
        others = [cache for cache in self._cluster.caches if self.store and cache.store == self.store]
        wanted = mask_of(item.chunks, virtual.layout.chunks)
        mine = self._chunks.setdefault(item.image, {})
        found = 0
        for number in range(virtual.layout.chunks):
            if not wanted >> number & 1:
                continue
            is_lost = not self._cluster.faults.healed and world.chance(LOST_IN_STORE)
            if not is_lost and any(cache.has(item.image, number) for cache in others):
                mine[number] = virtual.chunk(number)
            if number in mine:
                found |= 1 << number
        self._later(SharedTaken(item.image, item.chunks, ranges_of(found)), world.between(0, SLOWEST_LOOK_US))

    def has(self, image: bytes, number: int) -> bool:
        """Say whether a chunk is here."""
        return number in self._chunks.get(image, {})

    def send_manifest(self, item: SendManifest) -> None:
        """Let it travel."""
        self._send(item.link, ImageManifest(item.image, self._cluster.images[item.image].encoded))

    def send_chunks(self, item: SendChunks) -> None:
        """Let them travel, if they are here; else the files that they are in have to come anew."""
        mine, wanted = self._chunks.get(item.image, {}), range(item.first, item.first + item.count)
        layout = self._cluster.images[item.image].layout
        if self._next_is_gone:
            self._next_is_gone = False
            self._cluster.world.tell(self._name, "a file of %s goes from its cache", item.image.hex()[:8])
            self._lose_file(item.image, layout.place(item.first)[0])
        if not all(number in mine for number in wanted):
            files = sorted({layout.place(number)[0] for number in wanted})
            lost = ranges_of(sum(1 << number for file in files for number in self._lose_file(item.image, file)))
            self._later(ChunksGone(item.image, item.link, item.first, item.count, lost))
            return
        self._send(item.link, Piece(item.image, item.first, [mine[number] for number in wanted]))

    def drop_copies(self, item: DropCopies) -> None:
        """Drop those that no process reads from; after this one look none does."""
        used = False
        for image in sorted({*self._manifests, *self._chunks}):
            if not self._cluster.images[image].is_copy or image in self.pinned or image in item.keep:
                continue
            if image in self._read:
                used = True
                self._read.discard(image)
            else:
                self._manifests.discard(image)
                self._chunks.pop(image, None)
        self._later(CopiesDropped(used))

    def make_view(self, item: MakeView) -> None:
        """See that all of it is here; a process may read from it for a while."""
        world = self._cluster.world
        if item.image in self._spoilt and not self.whole(item.image):
            self._later(ViewMade(item.image, b"", FILES_GONE))
            return
        if not self.whole(item.image):
            world.violated("ImageExact", f"{self._name} lays out an image that is not complete")
        if world.chance(0.3):
            self._read.add(item.image)
        self._later(ViewMade(item.image, b"/view/" + item.image.hex().encode(), ""))

    def _has_program(self, item: Compare) -> bool:
        return Random(f"{self._name} {item.file_id.hex()}").random() < self._cluster.settings.same_program_rate

    def _examined(self, image: bytes) -> Examined:
        if image not in self._manifests:
            return Examined(image, b"", [], self.store)
        mask = sum(1 << number for number in self._chunks.get(image, {}))
        return Examined(image, self._cluster.images[image].encoded, ranges_of(mask), self.store)

    def _later(self, event: CacheEvent | Compared | ViewMade, delay_us: int = 0) -> None:
        self._cluster.world.after(delay_us, self._deliver, self._daemon, event)

    def _deliver(self, daemon: int, event: CacheEvent | Compared | ViewMade) -> None:
        if daemon == self._daemon:
            self._feed(event)
