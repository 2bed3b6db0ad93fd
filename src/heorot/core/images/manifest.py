"""Images: what a program is started from when its node does not have it, as a list of files cut into chunks.

An image is named by the SHA-256 of its manifest, and the manifest holds the SHA-256 of every chunk of every file: so
whoever knows the name can check each chunk on its own, before it is stored or passed on. A file's name is a digest over
its size and chunks: two images that hold the same file share it, and it travels once.

Chunks are numbered through the whole image, in the order of its entries. A chunk never spans two files.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256
from typing import TypeAlias

import msgspec

from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import DIGEST_BYTES, DIRECTORY, FILE, MAX_FILE_BYTES, SYMLINK, chunk_bytes_of, file_id
from heorot.core.wire.base import Count, Message

MAX_MANIFEST_BYTES = 6 * 1024 * 1024
"""Room for about 40,000 files; it travels in one frame."""
MAX_CHUNKS = MAX_MANIFEST_BYTES // DIGEST_BYTES
"""No image has more: each has its digest in the manifest."""
PERMISSIONS = 0o777
"""What an entry's mode may hold: neither set-user-ID nor anything else that grants more than the user has."""
FORBIDDEN_ROOTS = (b"/proc", b"/sys", b"/dev")

Digest: TypeAlias = bytes


class Entry(Message, frozen=True):
    """One file, directory or symbolic link of an image."""

    path: bytes
    """Absolute, without ``.`` and ``..``: where the process sees it."""
    kind: int
    mode: Count
    size: Count = 0
    digests: bytes = b""
    """Of a file: the SHA-256 of each of its chunks, one after the other."""
    target: bytes = b""
    """Of a symbolic link."""
    attributes: tuple[int, ...] = ()
    """Of what is copied and keeps them: mode with all bits, uid, gid, and modification time in nanoseconds."""


class Manifest(Message, tag="heorot-image", frozen=True):
    """Everything that an image consists of, except for the bytes of its files."""

    entries: list[Entry]
    program: bytes = b""
    """The path of what is to be executed; empty: the image is only data."""

    @property
    def is_copy(self) -> bool:
        """Whether this is data on its way to its place, which nobody needs once it is there
        (`heorot.core.images.copies`).
        """
        return not self.program


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Manifest] = msgspec.msgpack.Decoder(Manifest)


def image_id(encoded: bytes) -> Digest:
    """Return the name of the image with this encoded manifest."""
    return sha256(encoded).digest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as msgpack.

    Raises
    ------
    ProtocolError
        If it is larger than `MAX_MANIFEST_BYTES`.
    """
    encoded = _encoder.encode(manifest)
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise ProtocolError(
            f"the list of the image's {len(manifest.entries)} files takes {len(encoded)} bytes; at most"
            f" {MAX_MANIFEST_BYTES}: send fewer files"
        )
    return encoded


def decode_manifest(encoded: bytes) -> Manifest:
    """Decode and check a manifest; nothing in the result can name a file outside of the image's own tree.

    Raises
    ------
    ProtocolError
        If it is no valid manifest.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise ProtocolError(f"a manifest of {len(encoded)} bytes; at most {MAX_MANIFEST_BYTES}")
    try:
        manifest = _decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid manifest: {error}") from error
    seen: set[bytes] = set()
    leaves: set[bytes] = set()
    for entry in manifest.entries:
        _check(entry)
        if entry.path in seen:
            raise ProtocolError(f"the manifest names {entry.path!r} twice")
        seen.add(entry.path)
        if entry.kind != DIRECTORY:
            leaves.add(entry.path)
    _check_ancestors(manifest.entries, leaves)
    if manifest.program and manifest.program not in seen:
        raise ProtocolError(f"the manifest's program {manifest.program!r} is not among its files")
    return manifest


def _check_ancestors(entries: list[Entry], leaves: set[bytes]) -> None:
    """Refuse what lies below a file or a link: made by its path, it would come to lie wherever the link leads."""
    fine: set[bytes] = {b""}
    for entry in entries:
        above = entry.path.rpartition(b"/")[0]
        checked: list[bytes] = []
        while above not in fine:
            if above in leaves:
                raise ProtocolError(f"the manifest has {entry.path!r} below {above!r}, which is no directory")
            checked.append(above)
            above = above.rpartition(b"/")[0]
        fine.update(checked)


def _check(entry: Entry) -> None:
    path = entry.path
    parts = path.split(b"/")
    if parts[0] or len(parts) < 2 or any(part in (b"", b".", b"..") for part in parts[1:]) or b"\0" in path:
        raise ProtocolError(f"{path!r} is no absolute path without '.' and '..'")
    if b"/" + parts[1] in FORBIDDEN_ROOTS:
        raise ProtocolError(f"an image may not hold {path!r}")
    if entry.mode & ~PERMISSIONS:
        raise ProtocolError(f"{path!r} has the mode {entry.mode:o}; an image grants permissions only")
    if entry.attributes and (len(entry.attributes) != 4 or not all(0 <= n < 1 << 32 for n in entry.attributes[:3])):
        raise ProtocolError(f"{path!r} shall keep attributes that no file has")
    if entry.kind == FILE:
        if entry.size > MAX_FILE_BYTES:
            raise ProtocolError(f"{path!r} has {entry.size} bytes; at most {MAX_FILE_BYTES}")
        chunks = -(-entry.size // chunk_bytes_of(entry.size))
        if len(entry.digests) != chunks * DIGEST_BYTES:
            raise ProtocolError(f"{path!r} has {len(entry.digests)} bytes of digests for {chunks} chunks")
    elif entry.kind == SYMLINK:
        if not entry.target or b"\0" in entry.target:
            raise ProtocolError(f"the symbolic link {path!r} has no target")
    elif entry.kind != DIRECTORY:
        raise ProtocolError(f"{path!r} is of the unknown kind {entry.kind}")


class ChunkLayout:
    """Where each chunk of an image belongs."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.files: list[int] = []
        """The entries that have chunks, by their index."""
        self._firsts: list[int] = []
        """The number of the first chunk of each of them."""
        chunks = 0
        for index, entry in enumerate(manifest.entries):
            if entry.digests:
                self.files.append(index)
                self._firsts.append(chunks)
                chunks += len(entry.digests) // DIGEST_BYTES
        self.chunks = chunks
        self.size = sum(entry.size for entry in manifest.entries)

    def chunks_of(self, file: int) -> tuple[int, int]:
        """Return the number of the first chunk of the file at this place in `files`, and how many it has."""
        first = self._firsts[file]
        after = self._firsts[file + 1] if file + 1 < len(self._firsts) else self.chunks
        return first, after - first

    def place(self, chunk: int) -> tuple[int, int, int]:
        """Return the file of a chunk (its place in `files`), the chunk's offset there, and its length."""
        file = bisect_right(self._firsts, chunk) - 1
        entry = self.manifest.entries[self.files[file]]
        length = chunk_bytes_of(entry.size)
        offset = (chunk - self._firsts[file]) * length
        return file, offset, min(length, entry.size - offset)

    def digest(self, chunk: int) -> Digest:
        """Return the SHA-256 that a chunk has to have."""
        file = bisect_right(self._firsts, chunk) - 1
        start = (chunk - self._firsts[file]) * DIGEST_BYTES
        return self.manifest.entries[self.files[file]].digests[start : start + DIGEST_BYTES]

    def id_of(self, file: int) -> Digest:
        """Return the name of the content of the file at this place in `files`."""
        entry = self.manifest.entries[self.files[file]]
        return file_id(entry.size, entry.digests)


def ranges_of(mask: int) -> list[int]:
    """Return the bits that are set as flat ranges: first, count, ascending."""
    ranges: list[int] = []
    first = 0
    while mask:
        skipped = (mask & -mask).bit_length() - 1
        first += skipped
        mask >>= skipped
        count = (~mask & (mask + 1)).bit_length() - 1
        ranges += (first, count)
        first += count
        mask >>= count
    return ranges


def mask_of(ranges: list[int], limit: int) -> int:
    """Return a mask of the chunks in flat ranges.

    Raises
    ------
    ProtocolError
        If one is incomplete, or names a chunk that is not below `limit`.
    """
    if len(ranges) % 2:
        raise ProtocolError("an incomplete range of chunks")
    mask = 0
    for index in range(0, len(ranges), 2):
        first, count = ranges[index], ranges[index + 1]
        if first < 0 or count <= 0 or first + count > limit:
            raise ProtocolError(f"the chunks {first} to {first + count - 1} of an image of {limit}")
        mask |= ((1 << count) - 1) << first
    return mask
