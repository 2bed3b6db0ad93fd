"""Frames: a 4-byte big-endian length, then that many bytes. The first layer of every link."""

from __future__ import annotations

from heorot.core.errors import ProtocolError

HEADER_BYTES = 4
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Room for the largest argv and environment that Linux accepts (about 6 MiB with an unlimited stack: 3/4 of 8 MiB)."""
MAX_GREETING_BYTES = 64 * 1024
"""The limit until the peer has said who it is."""
LARGE_BYTES = 64 * 1024
"""From this size on, a frame that is cut in two is put together at its place."""
PROGRESS_MS = 30_000
"""A frame that was begun, and of which nothing more has come for so long, ends its connection."""
EAGER_BYTES = 1024 * 1024
"""So much memory is taken for a large frame of a peer that has said who it is on its announcement alone, and of any
other one `LARGE_BYTES`; more, when so much of it has come."""


def encode_frame(payload: bytes) -> bytes:
    """Return `payload` with its length in front.

    Raises
    ------
    ProtocolError
        If the payload exceeds `MAX_FRAME_BYTES`; nothing larger may ever be sent.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(payload)} bytes exceeds the limit of {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into frames. Holds at most one incomplete frame, bounded by `limit_bytes`.

    Whoever can have received bytes written to a place of his choice asks `rest` for one first: of a large frame of up
    to `eager_bytes` only what came with its header is then copied. One that is larger moves whenever its room is full:
    it is copied less than twice over, and less than twice its length is held while it moves.
    """

    def __init__(self, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.eager_bytes = LARGE_BYTES
        self._buffer = bytearray()
        """The beginning of a small frame, or of a header."""
        self._large = memoryview(b"")
        """Room for the payload of a large frame, or for its beginning; empty: none is under way."""
        self._length = 0
        """Of the large frame: how long its payload is."""
        self._filled = 0
        """And how much of it has come."""

    @property
    def room_bytes(self) -> int:
        """How much memory a large frame that is under way takes; 0: none is."""
        return len(self._large)

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return HEADER_BYTES + self._filled if self._large else len(self._buffer)

    def rest(self) -> memoryview | None:
        """Return where the rest of a large frame belongs, if one is under way: put bytes there, then call `advance`."""
        return self._large[self._filled :] if self._large else None

    def advance(self, count: int) -> memoryview | None:
        """So many bytes were put to the beginning of `rest`: return the payload, which is yours, if it is complete."""
        self._filled += count
        if self._filled < len(self._large):
            return None
        if self._filled < self._length:
            self._take_room(2 * self._filled, self._large)
            return None
        payload, self._large = self._large, memoryview(b"")
        return payload

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take received bytes; return the frames that they complete, in order.

        Raises
        ------
        ProtocolError
            If a frame announces more than `limit_bytes`. The decoder must not be used afterwards.
        """
        frames: list[bytes] = []
        while (rest := self.rest()) is not None:
            count = min(len(rest), len(data))
            rest[:count] = data[:count]
            data = memoryview(data)[count:]
            payload = self.advance(count)
            if payload is not None:
                frames.append(bytes(payload))
            elif not data:
                return []
        buffer = self._buffer
        if buffer:
            buffer += data
            # Most frames arrive whole: only what was cut in two goes through the buffer.
            if len(buffer) < HEADER_BYTES:
                return frames
            length = self._announced(buffer, 0)
            if len(buffer) < HEADER_BYTES + length and length < LARGE_BYTES:
                return frames
            source = memoryview(bytes(buffer))
            buffer.clear()
        else:
            source = memoryview(data)
        start = 0
        available = len(source)
        while available - start >= HEADER_BYTES:
            length = self._announced(source, start)
            end = start + HEADER_BYTES + length
            if end > available:
                if length >= LARGE_BYTES:
                    self._begin_large(length, source[start + HEADER_BYTES :])
                    return frames
                break
            frames.append(bytes(source[start + HEADER_BYTES : end]))
            start = end
        if start < available:
            buffer += source[start:]
        return frames

    def _begin_large(self, length: int, beginning: memoryview) -> None:
        self._length = length
        self._filled = len(beginning)
        self._take_room(max(self.eager_bytes, 2 * self._filled), beginning)

    def _take_room(self, size: int, beginning: memoryview) -> None:
        self._large = memoryview(bytearray(min(self._length, size)))
        self._large[: len(beginning)] = beginning

    def _announced(self, source: bytearray | memoryview, start: int) -> int:
        length = int.from_bytes(source[start : start + HEADER_BYTES], "big")
        if length > self.limit_bytes:
            raise ProtocolError(f"the peer announced a frame of {length} bytes; the limit is {self.limit_bytes}")
        return length
