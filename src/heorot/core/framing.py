"""Frames: a 4-byte big-endian length, then that many bytes. The first layer of every link."""

from __future__ import annotations

from heorot.core.errors import ProtocolError

HEADER_BYTES = 4
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Room for the largest argv and environment that Linux accepts (about 6 MiB with an unlimited stack: 3/4 of 8 MiB)."""
MAX_GREETING_BYTES = 64 * 1024
"""The limit until the peer has said who it is."""


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
    """Cuts a byte stream into frames. Holds at most one incomplete frame, bounded by `limit_bytes`."""

    def __init__(self, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take received bytes; return the frames that they complete, in order.

        Raises
        ------
        ProtocolError
            If a frame announces more than `limit_bytes`. The decoder must not be used afterwards.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            # Most frames arrive whole: only what was cut in two goes through the buffer.
            if len(buffer) < HEADER_BYTES or len(buffer) < HEADER_BYTES + self._announced(buffer, 0):
                return []
            source = memoryview(bytes(buffer))
            buffer.clear()
        else:
            source = memoryview(data)
        frames: list[bytes] = []
        start = 0
        available = len(source)
        while available - start >= HEADER_BYTES:
            end = start + HEADER_BYTES + self._announced(source, start)
            if end > available:
                break
            frames.append(bytes(source[start + HEADER_BYTES : end]))
            start = end
        if start < available:
            buffer += source[start:]
        return frames

    def _announced(self, source: bytearray | memoryview, start: int) -> int:
        length = int.from_bytes(source[start : start + HEADER_BYTES], "big")
        if length > self.limit_bytes:
            raise ProtocolError(f"the peer announced a frame of {length} bytes; the limit is {self.limit_bytes}")
        return length
