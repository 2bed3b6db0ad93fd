"""The room that a host's cache of images takes: a bound, and what goes first.

Programs stay as long as there is room, and what was used longest ago goes first. A *copy* is data on its way to its
place (`heorot.core.images.manifest.Manifest.is_copy`): it goes as soon as the core says that no hop needs it any more
(`heorot.core.images.copies`), and nothing but the core's word keeps it. What is in use stays in any case: an image of a
transfer, and one that a process of this host copies from, which holds a lock on the manifest in its view.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from heorot.core.errors import ProtocolError
from heorot.core.images.manifest import ChunkLayout, decode_manifest
from heorot.images.content import Content, content_names, whole_mask
from heorot.images.disk import names_in, read_plain_file, remove
from heorot.images.identity import ImageError
from heorot.images.reclaim import hold_image

SHARE = (3, 4)
"""Of the room on a disk that is free or a cache's own, so much is for the cache: the rest is for running jobs."""

MAX_TRIES = 64


def bound_bytes(directory: str, used_bytes: int, limit_bytes: int) -> int:
    """Return what caches in this directory, which take so much already, may take now: `limit_bytes` at most."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return limit_bytes
    return min(limit_bytes, (disk.f_bavail * disk.f_frsize + used_bytes) * SHARE[0] // SHARE[1])


class Pinned:
    """An image that is in use by a transfer."""

    __slots__ = ("hold", "layout", "names", "whole")

    def __init__(self, layout: ChunkLayout, manifest: str) -> None:
        self.hold = hold_image(manifest)
        self.layout = layout
        self.names = content_names(layout)
        self.whole = [whole_mask(layout.manifest.entries[index]) for index in layout.files]
        """By file: the mask of all of its chunks."""


class CacheRoom:
    """Decides for a cache what has to go.

    Parameters
    ----------
    pinned
        Returns the images that transfers use, with the names of their files.
    reclaim
        Takes room from the other caches on this disk; returns whether there was any.
    """

    def __init__(
        self,
        content: Content,
        limit_bytes: int,
        owner: str,
        pinned: Callable[[], Mapping[bytes, Sequence[str]]],
        reclaim: Callable[[], bool],
    ) -> None:
        self._content = content
        self.limit_bytes = limit_bytes
        self._owner = owner
        self._pinned = pinned
        self._reclaim = reclaim
        self._copies: set[str] = set()
        """The images here that are copies."""

    # ------------------------------------------------------------------ where manifests are

    def look(self) -> None:
        """See which images are copies."""
        self._copies = set(names_in(self._content.path("copies")))

    def admit(self, image: str, is_copy: bool) -> None:
        """An image comes."""
        if is_copy:
            self._copies.add(image)

    def manifest_path(self, image: str) -> str:
        """Return where the manifest of an image is."""
        return self._content.path("copies" if image in self._copies else "manifests", image)

    def _images(self) -> list[str]:
        return names_in(self._content.path("manifests")) + names_in(self._content.path("copies"))

    def _remove(self, image: str) -> None:
        remove(self._content.path("views", image))
        remove(self.manifest_path(image))
        self._copies.discard(image)

    # ------------------------------------------------------------------ room

    def bound_bytes(self) -> int:
        """Return what all files may take now: the configured limit, or `SHARE` of what is free on the disk and
        of what they take already, if that is less."""
        return bound_bytes(self._content.path(), self._content.used_bytes, self.limit_bytes)

    def _bound_for(self, size: int, used: Callable[[], int]) -> int:
        """Return what all files may take, after others on this disk have made room for so much more, if need be."""
        for _ in range(MAX_TRIES):
            bound_bytes = self.bound_bytes()
            if used() + size <= bound_bytes or bound_bytes == self.limit_bytes or not self._reclaim():
                break
        return self.bound_bytes()

    def is_short_of_disk(self) -> bool:
        """Say whether it is the disk that bounds this cache."""
        return self.bound_bytes() < self.limit_bytes

    def _way_out(self, bound_bytes: int) -> str:
        if bound_bytes < self.limit_bytes:
            return "free some room there: it takes no more than three quarters of what its disk has for it"
        return "raise [images] cache_bytes there"

    def check_size(self, size: int) -> None:
        """Raise ImageError if an image of so many bytes does not fit."""
        bound_bytes = self._bound_for(size, lambda: 0)
        if size > bound_bytes:
            raise ImageError(
                f"the image has {size} bytes; the image cache of {self._owner} ({self._content.path()}) holds at most"
                f" {bound_bytes}: send less, or {self._way_out(bound_bytes)}"
            )

    def make(self, size: int) -> None:
        """Make room for so many bytes. Raises ImageError if everything is in use."""
        if self._content.used_bytes + size <= self.bound_bytes():
            return
        self.evict(size)
        bound_bytes = self._bound_for(size, lambda: self._content.used_bytes)
        if self._content.used_bytes + size > bound_bytes:
            raise ImageError(
                f"the image cache of {self._owner} ({self._content.path()}) is full: all {bound_bytes} bytes are"
                f" in use; try again later, or {self._way_out(bound_bytes)}"
            )

    def evict(self, size: int, only: str = "") -> None:
        """Drop images that nobody uses until there is room for so many bytes: copies first, then those that were used
        longest ago; or `only` one."""
        bound_bytes = self.bound_bytes()
        wanted_bytes = max(0, bound_bytes - size - bound_bytes // 16)
        images, holders = self._survey()
        self._content.drop_without(holders)
        order = [(image not in self._copies, used_at_ns, image) for image, (used_at_ns, _) in images.items()]
        for _, _, image in sorted(order):
            if self._content.used_bytes <= wanted_bytes:
                return
            if only not in ("", image) or self.is_used(image):
                continue
            self._remove(image)
            holders.subtract(images[image][1])
            self._content.drop_without(+holders)

    def evict_all(self) -> None:
        """Drop every image that nobody uses: somebody else needs the room more."""
        self.evict(self.limit_bytes)

    def drop_copies(self, keep: Collection[bytes]) -> bool:
        """Drop every copy that nobody uses, but for these; return whether a process copies from one of the others."""
        used = False
        going: list[str] = []
        pinned = self._pinned()
        for image in sorted(self._copies):
            try:
                name = bytes.fromhex(image)
            except ValueError:
                remove(self._content.path("copies", image))
                continue
            if name in pinned or name in keep:
                continue
            if self.is_used(image):
                used = True
            else:
                going.append(image)
        if going:
            for image in going:
                self._remove(image)
            self._content.drop_without(self._survey()[1])
            self._content.shared.sweep()
        return used

    def _survey(self) -> tuple[dict[str, tuple[int, list[str]]], Counter[str]]:
        """Return the images that no transfer uses, each with the time of its last use and its files; and how many
        images hold each file. What is no image is removed."""
        pinned = self._pinned()
        holders = Counter(name for names in pinned.values() for name in names)
        images: dict[str, tuple[int, list[str]]] = {}
        for image in self._images():
            path = self.manifest_path(image)
            try:
                if bytes.fromhex(image) in pinned:
                    continue
                layout = ChunkLayout(decode_manifest(read_plain_file(path)))
                names = content_names(layout)
                images[image] = os.stat(path).st_mtime_ns, names
                holders.update(names)
            except (OSError, ValueError, ProtocolError):
                remove(path)
        return images, holders

    def is_used(self, image: str) -> bool:
        """Say whether a copy reads from an image's view: it holds a lock on the manifest there."""
        try:
            path = self._content.path("views", image, "manifest")
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
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
