"""The head's part in sending a job's input to many nodes: keep what not all have taken, know the slowest."""

from __future__ import annotations

from heorot.core.errors import ProtocolError
from heorot.core.streams import TAKES_NO_MORE

WINDOW_BYTES = 1024 * 1024
"""How much a client may send beyond what all nodes have taken; also the bound of what the head keeps."""


class StdinFeed:
    """Chunks between what the slowest node has taken and what the client has sent."""

    __slots__ = ("_at_slowest", "_fed", "_opened_at", "_slowest", "chunks", "end", "offsets", "sent")

    def __init__(self) -> None:
        self._fed = False
        self._opened_at = 0
        self.sent = 0
        """Offset after the last byte that the client sent."""
        self.end = False
        self.chunks: list[tuple[int, bytes]] = []
        self.offsets: dict[int, int] = {}
        """How far each node has taken the input."""
        self._slowest = 0
        self._at_slowest = 0

    def open(self, nodes: list[int], offset: int = 0) -> None:
        """Wait for these nodes from now on; under an earlier head all of them have taken the input up to `offset`."""
        self.sent = self._slowest = self._opened_at = offset
        self.offsets = dict.fromkeys(nodes, offset)
        self._at_slowest = len(self.offsets)

    def reopen(self, offset: int) -> None:
        """A client of an earlier head goes on from `offset`, which all nodes have; some may be further."""
        if self._fed:
            return  # under this head already: what comes again is left out
        # Where all were taken to be is a guess for those that have not spoken: they hear again what they may have.
        reached = {node: taken for node, taken in self.offsets.items() if taken > self._opened_at}
        self.open(list(self.offsets), offset)
        for node, taken in reached.items():
            self.ack(node, taken)

    @property
    def slowest(self) -> int:
        """How far all nodes have taken the input; `TAKES_NO_MORE` if none takes any."""
        return self._slowest if self.offsets else TAKES_NO_MORE

    def take(self, offset: int, data: bytes, end: bool) -> bytes:
        """Accept a client's input; return what of it is new.

        Raises
        ------
        ProtocolError
            If the client leaves a gap, sends beyond the window, or after the end.
        """
        self._fed = True
        if offset > self.sent:
            raise ProtocolError(f"input at offset {offset}, but only {self.sent} bytes were sent before")
        fresh = data[self.sent - offset :]
        if fresh and self.end:
            raise ProtocolError("input after its end")
        if fresh and self.offsets:
            if self.sent + len(fresh) - self._slowest > WINDOW_BYTES:
                raise ProtocolError(f"more than {WINDOW_BYTES} bytes of input unacknowledged")
            self.chunks.append((self.sent, fresh))
        self.sent += len(fresh)
        self.end = self.end or end
        return fresh

    def ack(self, node: int, offset: int) -> bool:
        """Note how far a node is; return True if the slowest has moved."""
        before = self.offsets.get(node)
        if before is None or offset <= before:
            return False
        self.offsets[node] = offset
        return before == self._slowest and self._left_slowest()

    def drop(self, node: int) -> bool:
        """Wait for this node no longer; return True if the slowest has moved."""
        before = self.offsets.pop(node, None)
        return before == self._slowest and self._left_slowest()

    def _left_slowest(self) -> bool:
        self._at_slowest -= 1
        if self._at_slowest > 0:
            return False
        if self.offsets:
            self._slowest = min(self.offsets.values())
            self._at_slowest = sum(offset == self._slowest for offset in self.offsets.values())
        keep = self.slowest
        self.chunks = [chunk for chunk in self.chunks if chunk[0] + len(chunk[1]) > keep]
        return True

    def missing(self, offset: int) -> list[tuple[int, bytes, bool]]:
        """Return what a node that has taken `offset` bytes must be sent again: offset, data, end."""
        parts = [
            (max(start, offset), data[max(0, offset - start) :], False)
            for start, data in self.chunks
            if start + len(data) > offset
        ]
        if self.end and offset < TAKES_NO_MORE:
            parts.append((self.sent, b"", True))
        return parts
