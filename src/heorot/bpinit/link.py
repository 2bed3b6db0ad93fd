"""The connection to the agent: frames in, frames out, control before bulk, never blocking."""

from __future__ import annotations

import socket
from collections import deque

from heorot.core.wire.framing import PROGRESS_MS, FrameDecoder, encode_frame
from heorot.linux.clock import now_ms

_RECEIVE_BYTES = 64 * 1024
_SEND_BYTES = 512 * 1024
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
        self._first: deque[bytes] = deque()
        self._first_bytes = 0
        self._bulk: deque[bytes] = deque()
        self._bulk_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """How much waits to be written."""
        return self._first_bytes + self._bulk_bytes

    def queue(self, payload: bytes, bulk: bool) -> None:
        """Queue a payload; `flush` writes."""
        frame = encode_frame(payload)
        self.dirty = True
        if bulk and (self._bulk or self._first_bytes > _QUICK_BYTES):
            self._bulk.append(frame)
            self._bulk_bytes += len(frame)
        else:
            self._first.append(frame)
            self._first_bytes += len(frame)

    def flush(self) -> bool:
        """Write what the socket takes; return True if it took anything. Raises OSError if the agent is gone."""
        written = False
        while self.backlog_bytes:
            if not self._first:
                frame = self._bulk.popleft()
                self._bulk_bytes -= len(frame)
                self._first.append(frame)
                self._first_bytes += len(frame)
            batch: list[bytes] = []
            size = 0
            for frame in self._first:
                batch.append(frame)
                size += len(frame)
                if size >= _SEND_BYTES:
                    break
            data = batch[0] if len(batch) == 1 else b"".join(batch)
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                break
            written = True
            for _ in batch:
                self._first.popleft()
            self._first_bytes -= sent
            if sent < size:
                self._first.appendleft(data[sent:])
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
