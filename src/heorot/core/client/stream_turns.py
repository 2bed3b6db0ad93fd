"""Which streams of a job may send more than their windows allow: they do so by turns.

With many ranks a window is small, and a rank that writes much would be woken for each half of one. So a part of what a
job may have on its way is no stream's own. A stream that has used its window is not acknowledged at once: it stands in
a line until some of that part is free, and may then send a good deal at once. Its turn is over when that has come, or
its node says that there is no more (`heorot.core.wire.tree.Output`).

What is on its way and what its reader has not taken yet counts. If nothing is on its way and the reader still holds too
much, nobody knows when that changes: then those in the line are acknowledged as if there were no turns.
"""

from __future__ import annotations

from collections import deque

TURNS_AT_ONCE = 4
"""So many turns go on at the same time."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.core.client.read_stream import ReadStream


class StreamTurns:
    """The turns of one job's streams. Methods return whom to acknowledge now, each with the limit to tell (0: none)."""

    __slots__ = ("_going_on", "_held_bytes", "_line", "_spare_bytes", "_turn_bytes", "_window_bytes")

    def __init__(self, window_bytes: int, spare_bytes: int) -> None:
        self._held_bytes = 0
        """Of the spare bytes, so many are on their way or not consumed."""
        self._going_on = 0
        self._line: deque[ReadStream] = deque()
        self.begin_anew(window_bytes, spare_bytes, [])

    def begin_anew(self, window_bytes: int, spare_bytes: int, streams: list[ReadStream]) -> None:
        """A head says what there is; nobody has a turn from it yet, or stands in the line."""
        self._window_bytes = window_bytes
        self._spare_bytes = spare_bytes
        self._turn_bytes = spare_bytes // TURNS_AT_ONCE
        for stream in streams:
            self.end(stream)
            stream.is_dry = False
            self._weigh(stream)

    def arrived(self, stream: ReadStream, in_turn: bool) -> None:
        """Something has come of a stream; with `in_turn` more of its turn may follow."""
        if stream.turn_end and (not in_turn or stream.received >= stream.turn_end or stream.whole):
            self.end(stream)

    def end(self, stream: ReadStream) -> None:
        """A stream's turn is over, if it had one, or will have none."""
        self.leave(stream)
        if stream.turn_end:
            stream.is_dry = stream.received < stream.turn_end
            stream.turn_end = 0
            self._going_on -= 1
            self._weigh(stream)

    def leave(self, stream: ReadStream) -> None:
        """A stream does not stand in the line any more."""
        if stream.in_line:
            stream.in_line = False
            self._line.remove(stream)

    def look(self, stream: ReadStream, acknowledge_bytes: int) -> list[tuple[ReadStream, int]]:
        """Bytes of a stream were consumed, or its turn is over."""
        if stream.held_bytes or stream.turn_end:
            self._weigh(stream)
        has_much = stream.consumed - stream.acknowledged >= acknowledge_bytes
        if not has_much or stream.turn_end or stream.in_line:
            return self.go_on()
        is_at_its_end = stream.received - stream.acknowledged >= self._window_bytes
        if is_at_its_end and not stream.is_dry and not stream.whole:
            stream.in_line = True
            self._line.append(stream)
            return self.go_on()
        stream.is_dry = False
        return [(stream, 0), *self.go_on()]

    def go_on(self) -> list[tuple[ReadStream, int]]:
        """Let those who come next have their turns, if there is room."""
        told = []
        line = self._line
        while line:
            fits = 0 < self._turn_bytes <= self._spare_bytes - self._held_bytes
            if not fits and self._going_on:
                break
            stream = line.popleft()
            stream.in_line = False
            if fits:
                self._going_on += 1
                stream.turn_end = stream.consumed + self._window_bytes + self._turn_bytes
                self._weigh(stream)
            told.append((stream, stream.turn_end))
        return told

    def _weigh(self, stream: ReadStream) -> None:
        held_bytes = max(0, max(stream.turn_end, stream.received) - stream.consumed - self._window_bytes)
        self._held_bytes += held_bytes - stream.held_bytes
        stream.held_bytes = held_bytes
