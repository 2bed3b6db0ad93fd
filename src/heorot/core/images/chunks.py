"""How a file of an image is cut into chunks, and how its content is named. Short commands import this: no msgspec."""

from __future__ import annotations

from hashlib import sha256

DIGEST_BYTES = 32
CHUNK_BYTES = 64 * 1024
"""The size of a chunk of a file of up to `MAX_CHUNKS_OF_FILE` such chunks; a larger file has larger ones."""
MAX_CHUNKS_OF_FILE = 4_096
MAX_CHUNK_BYTES = 4 * 1024 * 1024
"""Half of the largest frame."""
MAX_FILE_BYTES = MAX_CHUNKS_OF_FILE * MAX_CHUNK_BYTES
FILE, DIRECTORY, SYMLINK = 0, 1, 2
"""The kinds of entries of an image."""
_FILE_DOMAIN = b"heorot file\0"


def chunk_bytes_of(size: int) -> int:
    """Return the size of the chunks of a file of `size` bytes; the last one may be shorter."""
    chunk = CHUNK_BYTES
    while size > chunk * MAX_CHUNKS_OF_FILE:
        chunk *= 2
    return chunk


def file_id(size: int, digests: bytes) -> bytes:
    """Return the name of a file's content: SHA-256 over its size and the SHA-256 of each of its chunks."""
    return sha256(_FILE_DOMAIN + size.to_bytes(8, "big") + digests).digest()
