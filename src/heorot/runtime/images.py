"""Carries out what machines want of the image cache, and tells them what became of it."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from heorot.core.images.manifest import ranges_of
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
from heorot.core.wire.base import Chunk
from heorot.core.wire.images import ImageManifest, Piece
from heorot.core.wire.tree import encode
from heorot.images.cache import Cache
from heorot.images.files import FileDigest, open_file
from heorot.images.identity import ImageError, identity, is_settled
from heorot.images.shared_take import SharedTake
from heorot.linux.system import open_below
from heorot.runtime.links import Links
from heorot.runtime.loop import Loop

STEP_BYTES = 4 * 1024 * 1024
"""So much of a file is read before the daemon looks at everything else."""
MAX_REMEMBERED_FILES = 256
ENCODED_BYTES = 1024 * 1024
"""So much of what was sent last is kept in memory, as it went out, for the neighbours that are to be sent it, too."""


class Images(NodeCacheShell):
    """The hands of one daemon for images.

    Parameters
    ----------
    feed
        Takes the events.
    process
        Whose root directory this host's own files are looked for in: that of the processes that may run them. 0: ours.
    """

    def __init__(
        self,
        loop: Loop,
        cache: Cache,
        feed: Callable[[CacheEvent | Compared | ViewMade], None],
        log: Callable[[str, str], None],
        process: int = 0,
    ) -> None:
        self._process = process
        self._loop = loop
        self._cache = cache
        self._feed = feed
        self._log = log
        self._links: Links | None = None
        self._known: OrderedDict[bytes, tuple[list[int], bytes]] = OrderedDict()
        """Files of this host: what they looked like, and their content's name."""
        self._arrived: KeepChunks | None = None
        """What came last, until the present round of the loop is over: it need not be read to be passed on."""
        self._encoded: dict[tuple[bytes, int, int], bytes] = {}
        """Pieces that were sent last, the oldest first: image, first chunk, how many."""
        self._encoded_bytes = 0
        self._takes: deque[tuple[TakeShared, SharedTake]] = deque()
        """What is being taken from the store that is shared: no chunk of an image twice, as the machine sees to."""

    def attach(self, links: Links) -> None:
        """Say on which links images are sent."""
        self._links = links

    def begin(self) -> None:
        """The machine has begun: tell it what it does not know."""
        if self._cache.has_copies():
            self._feed(CopiesFound())

    def close(self) -> None:
        """Close the files of the cache."""
        self._cache.close()

    def end(self) -> None:
        """Nobody has anything of this host any more: what is only on its way elsewhere goes from the cache."""
        with contextlib.suppress(ImageError):
            self._cache.forget_all()
            self._cache.drop_copies(())
        self._cache.close()

    def _open(self, path: bytes, flags: int) -> int:
        if not self._process:
            return os.open(path, flags)
        try:
            root = os.open(f"/proc/{self._process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            # Without root, bpinit shares our own.
            return os.open(path, flags)
        try:
            return open_below(root, path, flags)
        finally:
            os.close(root)

    # ------------------------------------------------------------------ this host's own files

    def compare(self, item: Compare) -> None:
        """Look at this host's own file, a step a round of the loop; what was digested lately is remembered."""
        try:
            fd, status = open_file(item.path, self._open)
        except ImageError:
            self._feed(Compared(item.job, False))
            return
        known = self._known.get(item.path)
        if known is not None and known[0] == identity(status):
            os.close(fd)
            self._feed(Compared(item.job, known[1] == item.file_id))
            return
        self._compare_step(item, fd, status, FileDigest(item.path, fd, status))

    def _compare_step(self, item: Compare, fd: int, status: os.stat_result, digest: FileDigest) -> None:
        try:
            if not digest.advance(STEP_BYTES):
                self._feed(Compared(item.job, None))
                self._loop.call_soon(self._compare_step, item, fd, status, digest)
                return
        except ImageError as error:
            os.close(fd)
            self._log("info", f"not comparing a file with a program's: {error}")
            self._feed(Compared(item.job, False))
            return
        os.close(fd)
        if is_settled(status):
            self._known[item.path] = identity(status), digest.file_id
            if len(self._known) > MAX_REMEMBERED_FILES:
                self._known.popitem(last=False)
        self._feed(Compared(item.job, digest.file_id == item.file_id))

    # ------------------------------------------------------------------ the cache

    def _fail(self, image: bytes, error: ImageError) -> None:
        self._log("warning", str(error))
        self._feed(CacheFailed(image, str(error)))

    def examine(self, item: Examine) -> None:
        """Look up what the files of the cache say."""
        try:
            self._feed(Examined(item.image, *self._cache.examine(item.image), self._cache.store))
        except ImageError as error:
            self._fail(item.image, error)

    def forget(self, item: Forget) -> None:
        """Let it be evicted."""
        self._drop_encoded(item.image)
        self._cache.forget(item.image)

    def keep_manifest(self, item: KeepManifest) -> None:
        """Write it into the cache."""
        try:
            self._feed(Examined(item.image, *self._cache.keep_manifest(item.image, item.data), self._cache.store))
        except ImageError as error:
            self._fail(item.image, error)

    def keep_chunks(self, item: KeepChunks) -> None:
        """Write them into the cache; they need not be read there to be passed on in this round of the loop."""
        if self._arrived is None:
            self._loop.call_soon(self._forget_arrived)
        self._arrived = item
        try:
            self._cache.keep_chunks(item.image, item.first, item.chunks)
        except ImageError as error:
            self._fail(item.image, error)

    def take_shared(self, item: TakeShared) -> None:
        """Look at what is there, a step a round of the loop, by turns with whatever else is taken."""
        self._takes.append((item, self._cache.take_shared(item.image, item.chunks)))
        if len(self._takes) == 1:
            self._take_step()

    def _take_step(self) -> None:
        item, take = self._takes[0]
        event: SharedTaken | CacheFailed | None = None
        try:
            if take.advance(STEP_BYTES):
                event = SharedTaken(item.image, item.chunks, ranges_of(take.found))
        except ImageError as error:
            self._log("warning", str(error))
            event = CacheFailed(item.image, str(error))
        if event is None:
            self._takes.rotate(-1)
        else:
            self._takes.popleft()
        if self._takes:
            self._loop.call_soon(self._take_step)
        if event is not None:
            self._feed(event)

    def send_manifest(self, item: SendManifest) -> None:
        """Read it from the cache and queue it."""
        assert self._links is not None
        try:
            data = self._cache.read_manifest(item.image)
        except ImageError as error:
            self._fail(item.image, error)
            return
        self._links.send(item.link, ImageManifest(item.image, data), True)

    def _forget_arrived(self) -> None:
        self._arrived = None

    def send_chunks(self, item: SendChunks) -> None:
        """Queue them, encoded once for all neighbours that are sent the same."""
        assert self._links is not None
        key = item.image, item.first, item.count
        payload = self._encoded.get(key)
        if payload is None or item.check:
            try:
                chunks = self._chunks(item)
            except ImageError as error:
                self._log("warning", f"cannot send chunks of an image: {error}; fetching them anew")
                self._drop_encoded(item.image)
                lost = self._cache.lose_chunks(item.image, item.first, item.count)
                self._feed(ChunksGone(item.image, item.link, item.first, item.count, lost))
                return
            payload = encode(Piece(item.image, item.first, chunks))
            self._keep_encoded(key, payload)
        self._links.send_encoded(item.link, payload, True)

    def _chunks(self, item: SendChunks) -> Sequence[Chunk]:
        arrived = self._arrived
        if arrived is not None and arrived.image == item.image and not item.check:
            skipped = item.first - arrived.first
            if skipped >= 0 and skipped + item.count <= len(arrived.chunks):
                return arrived.chunks[skipped : skipped + item.count]
        return self._cache.read_chunks(item.image, item.first, item.count, check=item.check)

    def _keep_encoded(self, key: tuple[bytes, int, int], payload: bytes) -> None:
        """Most neighbours are sent the same pieces, about at the same time."""
        self._encoded_bytes += len(payload) - len(self._encoded.pop(key, b""))
        self._encoded[key] = payload
        while self._encoded_bytes > ENCODED_BYTES and len(self._encoded) > 1:
            self._encoded_bytes -= len(self._encoded.pop(next(iter(self._encoded))))

    def _drop_encoded(self, image: bytes) -> None:
        for key in [key for key in self._encoded if key[0] == image]:
            self._encoded_bytes -= len(self._encoded.pop(key))

    def drop_copies(self, item: DropCopies) -> None:
        """Remove them from the disk."""
        used = False
        try:
            used = self._cache.drop_copies(item.keep)
        except ImageError as error:
            self._log("warning", f"copies that nobody needs stay for now: {error}")
        self._feed(CopiesDropped(used))

    def make_view(self, item: MakeView) -> None:
        """Lay links to the files in a directory."""
        try:
            self._feed(ViewMade(item.image, os.fsencode(self._cache.make_view(item.image)), ""))
        except ImageError as error:
            self._feed(ViewMade(item.image, b"", str(error)))
