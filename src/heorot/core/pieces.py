"""Bytes in memory in the pieces in which they came: a large one is copied neither when it comes nor when it goes."""

from __future__ import annotations

from collections import deque

SMALL_BYTES = 16 * 1024
"""Shorter pieces are put together,"""
JOINED_BYTES = 64 * 1024
"""up to so many bytes."""


class Pieces:
    """A queue of bytes that can be looked at anywhere."""

    __slots__ = ("_pieces", "_skipped", "size")

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self._pieces: deque[bytes | bytearray] = deque([data] if data else ())
        self._skipped = 0
        """So many bytes of the first piece are forgotten."""
        self.size = len(data)
        """How many bytes there are."""

    @property
    def held_bytes(self) -> int:
        """What is in memory: also what is forgotten of a piece of which something is left."""
        return self.size + self._skipped

    def append(self, data: bytes) -> None:
        """Put bytes at the end."""
        pieces, length = self._pieces, len(data)
        self.size += length
        if length >= SMALL_BYTES:
            pieces.append(data)
            return
        last = pieces[-1] if pieces else None
        if isinstance(last, bytearray) and len(last) + length <= JOINED_BYTES:
            last += data
        elif length:
            pieces.append(bytearray(data))

    def peek(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from the position `start`: at least one if there is one. A large piece comes alone,
        and a short one with what follows it.
        """
        start += self._skipped
        found: list[bytes | memoryview] = []
        for piece in self._pieces:
            length = len(piece)
            if start >= length:
                start -= length
                continue
            if not found:
                if not start and size >= length >= SMALL_BYTES:
                    return piece if isinstance(piece, bytes) else bytes(piece)
                if length - start < min(size, SMALL_BYTES):
                    size = min(size, JOINED_BYTES)
            part = memoryview(piece)[start : start + size]
            found.append(part)
            size -= len(part)
            if not size or (len(found) == 1 and len(part) >= SMALL_BYTES):
                break
            start = 0
        return b"".join(found)

    def forget(self, count: int) -> None:
        """Forget so many bytes at the beginning, or all that there are."""
        count = min(count, self.size)
        self.size -= count
        skipped = self._skipped + count
        pieces = self._pieces
        while pieces and skipped >= len(pieces[0]):
            skipped -= len(pieces.popleft())
        self._skipped = skipped
