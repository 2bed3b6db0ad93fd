"""A tree of hops that pass an image on, each a shell around the real transfers, with a cache in memory."""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from random import Random

from heorot.core.images.chunks import CHUNK_BYTES, FILE
from heorot.core.images.copies import CopiesDue
from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.manifest import ChunkLayout, Entry, Manifest, encode_manifest, image_id, mask_of, ranges_of
from heorot.core.images.sender import WINDOW_BYTES
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    CopiesDropped,
    DropCopies,
    Examine,
    Examined,
    Forget,
    KeepChunks,
    KeepManifest,
    Log,
    Send,
    SendChunks,
    SendManifest,
    SetTimer,
    SharedTaken,
    TakeShared,
)
from heorot.core.shells import HopShell
from heorot.core.wire import images as i


class Sample:
    """An image with its bytes."""

    def __init__(self, random: Random, sizes: list[int], program: bytes = b"") -> None:
        self.contents = [random.randbytes(size) for size in sizes]
        entries = []
        for number, content in enumerate(self.contents):
            pieces = [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]
            digests = b"".join(sha256(piece).digest() for piece in pieces)
            entries.append(Entry(b"/f%d" % number, FILE, 0o644, len(content), digests))
        manifest = Manifest(entries, program)
        self.encoded = encode_manifest(manifest)
        self.layout = ChunkLayout(manifest)
        self.image = image_id(self.encoded)

    def chunk(self, number: int) -> bytes:
        file, offset, length = self.layout.place(number)
        return self.contents[self.layout.files[file]][offset : offset + length]


class Hop(HopShell):
    """One host: its transfers, and a cache in memory that does what the instructions say."""

    def __init__(self, tree: Tree, name: int, parent: Hop | None) -> None:
        self.tree = tree
        self.name = name
        self.parent = parent
        self.manifest = b""
        self.chunks: dict[int, bytes] = {}
        self.completed = 0
        self.failures: list[str] = []
        self.in_flight: dict[int, int] = {}
        self.sent_bytes = 0
        self.broken = False
        self.pinned = 0
        self.store = b""
        """What its cache shares with those of other hops."""
        self.looks = True
        """It looks into the store when it is to."""
        self.taking: list[TakeShared] = []
        """What it was to look for."""
        self.told = 0
        """So often it was told that something is there."""
        self.timers: list[int] = []
        """When they are due."""
        self.copies_due_ms: int | None = None
        """When it is to be seen which copies have to go."""
        self.transfers = Transfers(
            lambda item: self.carry_out((item,)),
            self.ask,
            self.sources,
            self.complete,
            lambda image, why: self.failures.append(why),
            now_ms=lambda: self.tree.now_ms,
        )

    def sources(self, image: bytes) -> list[Source] | str:
        if self.name == 0:
            return self.tree.nobody
        return [Source(self.parent.name)] if self.parent is not None else []

    def ask(self, source: int, message: i.Want | i.Took) -> None:
        self.tree.send(self.name, source, message)

    def complete(self, image: bytes) -> None:
        self.completed += 1
        self.transfers.dismiss(image)

    def examine(self, item: Examine) -> None:
        self.pinned += 1
        self.tree.post(self, self.examined)

    def forget(self, item: Forget) -> None:
        self.pinned -= 1

    def keep_manifest(self, item: KeepManifest) -> None:
        assert item.data == self.tree.sample.encoded
        self.manifest = item.data
        self.tree.post(self, self.examined)

    def keep_chunks(self, item: KeepChunks) -> None:
        image = self.tree.sample.image
        for chunk, data in enumerate(item.chunks, item.first):
            assert data == self.tree.sample.chunk(chunk), "something wrong was kept"
            self.chunks[chunk] = bytes(data)
        if self.broken:
            self.tree.post(self, lambda: self.transfers.cache_failed(CacheFailed(image, "no space left")))

    def take_shared(self, item: TakeShared) -> None:
        self.taking.append(item)
        if self.looks:
            self.tree.post(self, lambda: self.look_into_store(item))

    def look_into_store(self, item: TakeShared) -> None:
        sample = self.tree.sample
        sharing = [hop for hop in self.tree.hops if self.store and hop.store == self.store]
        found = 0
        for number in range(sample.layout.chunks):
            is_seen = mask_of(item.chunks, sample.layout.chunks) >> number & 1 and number not in self.tree.unseen
            if is_seen and any(hop.chunks.get(number) == sample.chunk(number) for hop in sharing):
                self.chunks[number] = sample.chunk(number)
                found |= 1 << number
        self.transfers.stored.taken(SharedTaken(sample.image, item.chunks, ranges_of(found)))

    def send_manifest(self, item: SendManifest) -> None:
        self.tree.send(self.name, item.link, i.ImageManifest(self.tree.sample.image, self.manifest))

    def set_timer(self, item: SetTimer) -> None:
        if item.key == CopiesDue():
            self.copies_due_ms = item.at_ms
        else:
            self.timers.append(item.at_ms)

    def drop_copies(self, item: DropCopies) -> None:
        if not self.pinned and self.tree.sample.image not in item.keep:
            self.chunks.clear()
            self.manifest = b""
        self.transfers.copies.dropped(CopiesDropped(used=False))

    def send(self, item: Send) -> None:
        assert isinstance(item.message, i.Unavailable | i.Stored)
        self.tree.send(self.name, item.link, item.message)

    def log(self, item: Log) -> None:
        pass

    def unexpected(self, item: object) -> None:
        raise AssertionError(f"a hop of images asks for {item}")

    connect = close_link = stop = unexpected

    def send_chunks(self, item: SendChunks) -> None:
        sample, tree = self.tree.sample, self.tree
        numbers = range(item.first, item.first + item.count)
        if item.check:
            bad = [n for n in numbers if self.chunks.get(n) != sample.chunk(n)]
            if bad:
                for number in bad:
                    self.chunks.pop(number, None)
                gone = ranges_of(sum(1 << number for number in bad))
                event = ChunksGone(sample.image, item.link, item.first, item.count, gone)
                tree.post(self, lambda: self.transfers.chunks_gone(event))
                return
        size = sum(len(sample.chunk(n)) for n in numbers)
        self.in_flight[item.link] = self.in_flight.get(item.link, 0) + size
        self.sent_bytes += size
        assert self.in_flight[item.link] <= WINDOW_BYTES + 2 * CHUNK_BYTES, "more than a window is on its way"
        tree.send(self.name, item.link, i.Piece(sample.image, item.first, [self.chunks[n] for n in numbers]))

    def examined(self) -> None:
        sample = self.tree.sample
        have = ranges_of(sum(1 << number for number in self.chunks)) if self.manifest else []
        self.transfers.examined(Examined(sample.image, self.manifest, have, self.store))

    def received(self, sender: int, message: object) -> None:
        if isinstance(message, i.Want):
            self.transfers.want(sender, message)
        elif isinstance(message, i.Took):
            self.in_flight[sender] = self.in_flight.get(sender, 0) - message.size_bytes
            self.transfers.took(sender, message)
        elif isinstance(message, i.ImageManifest):
            self.transfers.manifest(sender, message)
        elif isinstance(message, i.Piece):
            self.transfers.piece(sender, message)
        elif isinstance(message, i.Stored):
            self.told += 1
            self.transfers.stored.told(sender, message)
        else:
            assert isinstance(message, i.Unavailable)
            self.transfers.unavailable(sender, message)


class Tree:
    """Hops below hop 0, which has the image; messages wait on links, in order, until chance delivers them."""

    def __init__(self, random: Random, sample: Sample, hops: int, fanout: int) -> None:
        self.random = random
        self.sample = sample
        self.nobody = "nobody has this image"
        self.links: dict[tuple[int, int], deque[object]] = {}
        self.now_ms = 0
        self.posted: deque[tuple[Hop, object]] = deque()
        self.hops: list[Hop] = []
        self.damage = 0.0
        self.unseen: set[int] = set()
        """Chunks that nobody finds in a store."""
        self.has_clock = True
        for number in range(hops + 1):
            parent = self.hops[(number - 1) // fanout] if number else None
            self.hops.append(Hop(self, number, parent))
        root = self.hops[0]
        root.manifest = sample.encoded
        root.chunks = {number: sample.chunk(number) for number in range(sample.layout.chunks)}

    def send(self, sender: int, receiver: int, message: object) -> None:
        link = self.links.get((sender, receiver))
        if link is None:
            link = self.links[sender, receiver] = deque()
        if isinstance(message, i.Piece) and self.random.random() < self.damage:
            message = i.Piece(message.image, message.first, [b"?" + chunk[1:] for chunk in message.chunks])
        link.append(message)

    def post(self, hop: Hop, call: object) -> None:
        self.posted.append((hop, call))

    def step(self) -> bool:
        busy = [link for link, queue in self.links.items() if queue]
        if self.posted and (not busy or self.random.random() < 0.5):
            _, call = self.posted.popleft()
            assert callable(call)
            call()
            return True
        if not busy:
            return self.time_passes()
        sender, receiver = self.random.choice(busy)
        self.hops[receiver].received(sender, self.links[sender, receiver].popleft())
        return True

    def time_passes(self) -> bool:
        waiting = [hop for hop in self.hops if hop.timers and self.has_clock]
        for hop in waiting:
            self.now_ms = max(self.now_ms, *hop.timers)
            hop.timers.clear()
            hop.transfers.waited()
        if waiting:
            return True
        idle = [hop for hop in self.hops if hop.copies_due_ms is not None and self.has_clock]
        for hop in idle:
            self.now_ms, hop.copies_due_ms = max(self.now_ms, hop.copies_due_ms or 0), None
            hop.transfers.copies.look()
        return bool(idle)

    def run(self) -> None:
        for _ in range(200_000):
            if not self.step():
                return
        raise AssertionError("it never ends")

    def move(self, hop: Hop, parent: Hop | None) -> None:
        """Cut a hop off and, if there is a new parent, link it there."""
        former = hop.parent
        if former is not None:
            self.links.pop((hop.name, former.name), None)
            self.links.pop((former.name, hop.name), None)
            former.in_flight.pop(hop.name, None)
            hop.parent = None
            hop.transfers.source_lost(former.name)
            former.transfers.neighbour_lost(hop.name)
        hop.parent = parent
        if parent is not None:
            hop.transfers.source_found()

    def assert_idle(self) -> None:
        for hop in self.hops:
            assert not hop.transfers.transfers, f"hop {hop.name} still holds a transfer"
            assert hop.pinned == 0


def make(seed: int, hops: int = 10, fanout: int = 3, sizes: list[int] | None = None, program: bytes = b"/f0") -> Tree:
    random = Random(seed)
    return Tree(random, Sample(random, sizes or [500_000, 1, 0, 3_000_000, 70_000], program), hops, fanout)


def assert_all_have_it(tree: Tree, hops: list[Hop]) -> None:
    for hop in hops:
        assert hop.completed == 1, f"hop {hop.name}: {hop.completed} {hop.failures}"
        assert len(hop.chunks) == tree.sample.layout.chunks
