"""Room on a disk that is full: images that nobody uses go, from all caches of a cluster's directory that lie on it.

The store, an epoch, a spool and whatever else is written for running jobs matter more than a cache, whichever daemon
has it. So whoever finds no room takes it from every cache; the image that was used longest ago goes first.

What keeps an image is a lock on its manifest: a cache holds one while a transfer needs the image, and a copy while it
reads from it. What keeps a cache from taking an image up while it is looked at is a lock on its directory of manifests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby

from heorot.core.errors import ProtocolError
from heorot.core.images.manifest import ChunkLayout, decode_manifest
from heorot.images.content import content_names
from heorot.images.disk import names_in, read_plain_file, remove
from heorot.images.shared import remove_unused as release_shared

WANTED_BYTES = 8 * 1024 * 1024
"""So much is freed at once, if there is so much. A writer that needs more asks again."""
PAUSE_S = 2.0
"""Before the caches are looked through again when there was nothing that could go."""
LOCK_WAIT_S = 0.5
"""How long a cache waits for somebody who frees room in it. If it takes longer, as that was stopped perhaps, what goes
is fetched anew."""
_LOCK_POLL_S = 0.01
ID_DIGITS = 64
"""Of the name of a manifest."""
_MANIFESTS = ("manifests", "copies")
"""Where a cache has its manifests."""


class Reclaimer:
    """Frees room on the disk of a cluster's directory `root`, for one daemon. `log` takes level and text."""

    def __init__(self, root: str | os.PathLike[str], log: Callable[[str, str], None]) -> None:
        self._root = os.fspath(root)
        self._log = log
        self._not_before_s = 0.0

    def __call__(self) -> bool:
        """Drop images that nobody uses; return whether that has freed anything. Never raises."""
        if time.monotonic() < self._not_before_s:
            return False
        images, freed_bytes = drop_unused(self._root, WANTED_BYTES)
        if images:
            gone = f"dropped {images} images that nobody used ({freed_bytes} bytes)"
            self._log("warning", f"the disk of {self._root} is full: {gone}")
        if not freed_bytes:
            self._not_before_s = time.monotonic() + PAUSE_S
        return bool(freed_bytes)


def caches_of(root: str) -> list[str]:
    """Return the directories of all caches below a cluster's directory that lie on its disk."""
    found = []
    for kind in ("heads", "nodes"):
        for name in names_in(f"{root}/{kind}"):
            path = f"{root}/{kind}/{name}/images"
            with contextlib.suppress(OSError):
                if os.stat(path).st_dev == os.stat(root).st_dev:
                    found.append(path)
    return sorted(found)


def drop_unused(root: str, wanted_bytes: int) -> tuple[int, int]:
    """Drop images that nobody uses until so much is freed; return how many, and how many bytes that gave."""
    images = [(_used_at_ns(path), cache, path) for cache in caches_of(root) for path in _manifests_of(cache)]
    count = freed_bytes = 0
    shared = f"{root}/content"
    for cache, group in groupby(sorted(images), key=lambda image: image[1]):
        if freed_bytes >= wanted_bytes:
            break
        with _locked(f"{cache}/manifests") as is_ours:
            if is_ours:
                paths = [path for _, _, path in group]
                dropped, gone_bytes = _drop(cache, paths, wanted_bytes - freed_bytes, shared)
                count, freed_bytes = count + dropped, freed_bytes + gone_bytes
    return count, freed_bytes


def _manifests_of(cache: str) -> list[str]:
    """Return the paths of a cache's manifests; one that is being written is none yet."""
    return [
        f"{cache}/{folder}/{name}"
        for folder in _MANIFESTS
        for name in names_in(f"{cache}/{folder}")
        if len(name) == ID_DIGITS
    ]


def _used_at_ns(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0


def _drop(cache: str, manifests: list[str], wanted_bytes: int, shared: str) -> tuple[int, int]:
    """Drop images of a locked cache, in this order, as `drop_unused`; in `shared` caches share what they have."""
    files: dict[str, list[str]] = {}
    for manifest in _manifests_of(cache):
        # One that cannot be read is the matter of the cache.
        with contextlib.suppress(OSError, ProtocolError):
            files[manifest] = content_names(ChunkLayout(decode_manifest(read_plain_file(manifest))))
    holders = Counter(name for names in files.values() for name in names)
    count = freed_bytes = 0
    for manifest in manifests:
        if freed_bytes >= wanted_bytes:
            break
        with _locked(manifest) as is_unused:
            if not is_unused or manifest not in files:
                continue
            remove(f"{cache}/views/{os.path.basename(manifest)}")
            freed_bytes += _remove_counted(manifest)
            count += 1
        names = files.pop(manifest)
        holders.subtract(names)
        for name in names:
            if not holders[name]:
                freed_bytes += _remove_counted(f"{cache}/files/{name}") + _remove_counted(f"{cache}/partial/{name}")
                freed_bytes += release_shared(f"{shared}/{name}")
    return count, freed_bytes


def _remove_counted(path: str) -> int:
    """Remove a file, and return how many bytes that gives: none while it has other names."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    remove(path)
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


@contextlib.contextmanager
def _locked(path: str) -> Iterator[bool]:
    """Lock a file or directory, if nobody else has; say whether it is ours."""
    fd = -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = True
    except OSError:
        is_ours = False
    try:
        yield is_ours
    finally:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def undisturbed(cache: str) -> Iterator[None]:
    """Let nobody else drop anything from a cache meanwhile, if that can be had within `LOCK_WAIT_S`."""
    try:
        fd = os.open(f"{cache}/manifests", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield  # what is wrong there is said by who needs it
        return
    try:
        until_s = time.monotonic() + LOCK_WAIT_S
        while not _shared(fd) and time.monotonic() < until_s:
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(fd)


def _shared(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def hold_image(manifest: str) -> int:
    """Keep an image from being dropped by others until `release_image` of what is returned; -1: it is not here."""
    try:
        fd = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return -1
    _shared(fd)
    return fd


def release_image(held: int) -> None:
    """Let others drop the image again."""
    if held >= 0:
        os.close(held)
