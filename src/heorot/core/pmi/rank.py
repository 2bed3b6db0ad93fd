"""One rank of a node, as PMI knows it."""

from __future__ import annotations

from heorot.core.pmi.states import SILENT, PmiState


class PmiRank:
    """What is known of it."""

    __slots__ = ("group", "heard", "looks", "number", "over", "second", "spawning", "state", "story", "thread")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: PmiState = SILENT
        self.story = 0
        self.heard = bytearray()
        """The beginning of a line, or of a message."""
        self.group = b""
        """As it has called the barrier in which it waits; empty: not at all."""
        self.spawning = False
        """Lines that say what it wants to be started are under way."""
        self.over = False
        """Its process has ended."""
        self.second = False
        """It speaks PMI-2."""
        self.thread = b""
        """Which of its threads waits in the barrier, in PMI-2."""
        self.looks: list[tuple[bytes, bytes]] = []
        """What its threads wait for that another rank of this node is to put, in PMI-2: key and thread."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"rank {self.number}"
