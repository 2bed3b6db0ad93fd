"""Byte streams addressed by offset: a rank's output as its node keeps it, a rank's input, and the receiver's side.

An offset counts the bytes from the start of the stream. Repetition is harmless everywhere: whoever receives compares
offsets and takes only what is new.
"""

from __future__ import annotations

from typing import Protocol

from heorot.core.errors import ProtocolError
from heorot.core.pieces import Pieces

TAKES_NO_MORE = 2**62
"""The highest offset: who acknowledges it, or a node that reports it, takes no more input."""
CHUNK_BYTES = 64 * 1024
"""The most that one feed of input carries."""
OUTPUT_CHUNK_BYTES = 256 * 1024
"""The most that one `Output` carries."""
INPUT_LIMIT_BYTES = 1024 * 1024
"""How much input a stream holds that its slowest reader has not taken."""


class Spool(Protocol):
    """Where output goes that does not fit into memory. `key` names a stream; positions count from its first append."""

    def append(self, key: int, data: bytes) -> int:
        """Store bytes at the end; return how many were stored (fewer if the disk is full).

        Nothing is held for a stream of which nothing was ever stored.
        """

    def read(self, key: int, position: int, size: int) -> bytes:
        """Return up to `size` stored bytes from `position`; at least one if there is one."""

    def drop(self, key: int) -> None:
        """Forget the stream and all of its bytes."""


class OutputStream:
    """What a rank wrote to stdout or stderr and nobody has acknowledged yet.

    The kept bytes are, in order: a head in memory, a middle in the spool, and a tail in memory that the spool did not
    take (at most one read of the pipe while nobody reads, because reading stops as soon as there is a tail; at most a
    window while somebody does).
    """

    __slots__ = (
        "_head", "_spool", "_spool_length", "_spool_start", "_tail", "acked", "end", "had_turn", "key", "sent",
        "turn_end",
    )  # fmt: skip

    def __init__(self, key: int, spool: Spool) -> None:
        self.key = key
        self.acked = 0
        """Bytes before this offset are forgotten."""
        self.sent = 0
        """Bytes before this offset are on their way."""
        self.end = 0
        """How many bytes the rank has written."""
        self.turn_end = 0
        """Up to this offset the reader has let it send, whatever its window is; 0: it has no turn."""
        self.had_turn = False
        """The present reader has given it a turn, and may wait for the word that it is over."""
        self._spool = spool
        self._head: Pieces | None = None
        self._spool_start = 0
        self._spool_length = 0
        self._tail: bytearray | None = None

    @property
    def kept_bytes(self) -> int:
        """How many bytes are held."""
        return self.end - self.acked

    @property
    def memory_bytes(self) -> int:
        """How much memory the held bytes take."""
        return (self._head.held_bytes if self._head else 0) + (len(self._tail) if self._tail else 0)

    @property
    def spooled_bytes(self) -> int:
        """The length of the stream's spool file."""
        return self._spool_length

    @property
    def stuck(self) -> bool:
        """True while there are bytes that neither memory nor spool had room for: do not read on."""
        return bool(self._tail)

    def append(self, data: bytes, memory_limit_bytes: int, spool_limit_bytes: int) -> None:
        """Take what the rank wrote; nothing is ever refused, but `stuck` may become true."""
        self.end += len(data)
        if self._tail:
            self._tail += data
            return
        if not self._spool_length:
            head = self._head
            if head is None:
                head = self._head = Pieces()
            if head.size + len(data) <= memory_limit_bytes:
                head.append(data)
                return
            self._spool_start = self.end - len(data)
        self._tail = bytearray(data)
        self.settle(spool_limit_bytes)

    def settle(self, spool_limit_bytes: int) -> None:
        """Try again to move the tail into the spool."""
        tail = self._tail
        if not tail:
            return
        if not self._spool_length:
            self._spool_start = self.end - len(tail)
        room = max(0, spool_limit_bytes - self._spool_length)
        if room:
            stored = self._spool.append(self.key, bytes(tail[:room]))
            self._spool_length += stored
            del tail[:stored]
        if not tail:
            self._tail = None
        elif not self._spool_length and not (self._head and self._head.size):
            self._head, self._tail = Pieces(tail), None

    def peek(self, size: int = OUTPUT_CHUNK_BYTES) -> bytes:
        """Return up to `size` bytes from the offset `sent`; empty only if there are none."""
        offset = self.sent
        if offset >= self.end:
            return b""
        head = self._head
        if head and offset - self.acked < head.size:
            return head.peek(offset - self.acked, size)
        if self._spool_length and offset < self._spool_start + self._spool_length:
            position = offset - self._spool_start
            return self._spool.read(self.key, position, min(size, self._spool_length - position))
        tail = self._tail
        assert tail
        start = offset - (self.end - len(tail))
        return bytes(tail[start : start + size])

    def ack(self, offset: int) -> None:
        """Forget the bytes before `offset` (an offset beyond the end means the end)."""
        offset = min(offset, self.end)
        if offset <= self.acked:
            return
        head = self._head
        if head:
            head.forget(offset - self.acked)
        self.acked = offset
        self.sent = max(self.sent, offset)
        if self._spool_length and offset >= self._spool_start + self._spool_length:
            self._spool.drop(self.key)
            self._spool_length = 0
        if not self._spool_length and not (head and head.size):
            tail = self._tail
            if tail:
                del tail[: max(0, offset - (self.end - len(tail)))]
            self._head, self._tail = Pieces(tail) if tail else None, None

    def rewind(self) -> None:
        """Send again everything that is kept."""
        self.sent = self.acked

    def close(self) -> None:
        """Forget everything."""
        if self._spool_length:
            self._spool.drop(self.key)
            self._spool_length = 0
        self._head = self._tail = None
        self.acked = self.sent = self.end


class InputStream:
    """Input for one or more ranks: bytes between the slowest reader's position and the end of what has arrived."""

    __slots__ = ("_buffer", "ended", "start", "told")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.start = 0
        """Bytes before this offset are forgotten: every reader has taken them."""
        self.ended = False
        self.told = 0
        """The offset that was acknowledged last."""

    @property
    def end(self) -> int:
        """The offset after the last byte that has arrived."""
        return self.start + len(self._buffer)

    def take(self, offset: int, data: bytes, end: bool) -> bool:
        """Take what arrived; return False if something had to be left out, because of a gap or for want of room.

        The sender repeats what was left out from the offset that it sees acknowledged.
        """
        have = self.end
        if self.ended:
            return True
        if offset > have:
            return False
        fresh = data[have - offset :]
        room = INPUT_LIMIT_BYTES - len(self._buffer)
        if len(fresh) > room:
            self._buffer += fresh[:room]
            return False
        self._buffer += fresh
        if end and offset + len(data) == self.end:
            self.ended = True
        return True

    def peek(self, offset: int) -> bytes:
        """Return the next bytes for a reader at `offset`."""
        start = offset - self.start
        return bytes(self._buffer[start : start + CHUNK_BYTES])

    def forget(self, offset: int) -> None:
        """Every reader has taken the bytes before `offset`."""
        if offset > self.start:
            taken = min(offset, self.end) - self.start
            del self._buffer[:taken]
            self.start += taken


class InboundStream:
    """The receiver's side of a stream: gives every byte exactly once, whatever is repeated."""

    __slots__ = ("offset",)

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        """The offset after the last byte that was received."""

    def take(self, offset: int, data: bytes) -> bytes:
        """Return the part of `data` that is new.

        Raises
        ------
        ProtocolError
            If bytes are missing before `offset`.
        """
        have = self.offset
        if offset > have:
            raise ProtocolError(f"bytes {have} to {offset} of a stream are missing")
        if offset < have:
            data = data[have - offset :]
        self.offset = have + len(data)
        return data
