"""One stream of output as its reader sees it: how far it has come, and whose turn it is."""

from __future__ import annotations


class ReadStream:
    """One output stream of one rank, as its reader sees it; all fields count bytes from the stream's beginning."""

    __slots__ = (
        "acknowledged", "consumed", "held_bytes", "in_line", "is_dry", "joined_late", "prepaid", "rank", "received",
        "stream", "total", "turn_end",
    )  # fmt: skip

    def __init__(self, rank: int, stream: int) -> None:
        self.rank = rank
        self.stream = stream
        self.received = 0
        self.consumed = 0
        self.acknowledged = 0
        self.prepaid = 0
        """So many of the next bytes to be consumed were counted ahead."""
        self.total = -1
        """How many bytes there will be; -1 until the rank is over."""
        self.joined_late = False
        """We begin where those who read this before us have stopped."""
        self.turn_end = 0
        """Up to this offset it may send beyond its window (`heorot.core.client.stream_turns`); 0: it may not."""
        self.is_dry = False
        """Its last turn ended because there was no more."""
        self.in_line = False
        self.held_bytes = 0

    def accept(self, offset: int, data: bytes, kept_from: int = 0) -> bytes:
        """Return what is new of `data` at `offset`; a former reader has acknowledged all before `kept_from`.

        A gap means that what lies in it was lost on a way that is no more. All of it, and these bytes, will be sent
        again from the acknowledged offset: they are of no use now.
        """
        if self.joined_late:
            self.joined_late = False
            self.received = self.consumed = self.acknowledged = kept_from
        received = self.received
        if offset != received:
            if offset > received:
                return b""
            data = data[received - offset :]
        self.received = received + len(data)
        return data

    @property
    def missing(self) -> bool:
        """Whether the rank is over and bytes of it are still to come."""
        return self.received < self.total

    @property
    def whole(self) -> bool:
        """Whether nothing more will come."""
        return 0 <= self.total <= self.received
