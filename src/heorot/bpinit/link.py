"""The connection to the agent: frames in, frames out, control before bulk, never blocking."""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice

from heorot.core.errors import ProtocolError
from heorot.core.wire.framing import HEADER_BYTES, MAX_FRAME_BYTES, PROGRESS_MS, FrameDecoder
from heorot.core.wire.parts import Parts
from heorot.linux.clock import now_ms

_RECEIVE_BYTES = 64 * 1024
_SEND_PARTS = 64
"""So many parts of frames are written at once."""
_QUICK_BYTES = 64 * 1024
"""Below this backlog everything keeps its order, so that small output travels in front of the exit that follows it."""


class AgentLink:
    """One connected agent."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.fd = connection.fileno()
        self.writable_watched = False
        self.dirty = False
        """Something was queued since the last look."""
        self._decoder = FrameDecoder()
        self.due_ms: int | None = None
        """When more must have come of the frame that was begun; None: none was."""
        self._first: deque[bytes | memoryview] = deque()
        self._first_bytes = 0
        self._bulk: deque[Parts] = deque()
        self._bulk_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """How much waits to be written."""
        return self._first_bytes + self._bulk_bytes

    def queue(self, payload: bytes | Parts, bulk: bool) -> int:
        """Queue a payload, which `flush` writes; return its length. Raises ProtocolError if it is too long."""
        length = len(payload) if isinstance(payload, bytes) else sum(map(len, payload))
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes exceeds the limit of {MAX_FRAME_BYTES}")
        header = length.to_bytes(HEADER_BYTES, "big")
        frame = (header + payload,) if isinstance(payload, bytes) else (header + payload[0], *payload[1:])
        self.dirty = True
        if bulk and (self._bulk or self._first_bytes > _QUICK_BYTES):
            self._bulk.append(frame)
            self._bulk_bytes += HEADER_BYTES + length
        else:
            self._first += frame
            self._first_bytes += HEADER_BYTES + length
        return length

    def flush(self) -> bool:
        """Write what the socket takes; return True if it took anything. Raises OSError if the agent is gone."""
        written = False
        while self.backlog_bytes:
            first = self._first
            if not first:
                frame = self._bulk.popleft()
                size = sum(map(len, frame))
                self._bulk_bytes -= size
                first += frame
                self._first_bytes += size
            batch = [first[0]] if len(first) == 1 else list(islice(first, _SEND_PARTS))
            try:
                sent = self.socket.send(batch[0]) if len(batch) == 1 else self.socket.sendmsg(batch)
            except BlockingIOError:
                break
            written = True
            self._first_bytes -= sent
            for part in batch:
                if sent < len(part):
                    break
                sent -= len(part)
                first.popleft()
            else:
                continue
            if sent:
                first[0] = memoryview(first[0])[sent:]
            break
        return written

    def receive(self) -> list[bytes] | None:
        """Return the frames that have arrived; None if the agent is gone. Raises ProtocolError."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        frames = self._decoder.feed(data)
        self.due_ms = now_ms() + PROGRESS_MS if self._decoder.buffered_bytes else None
        return frames

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
