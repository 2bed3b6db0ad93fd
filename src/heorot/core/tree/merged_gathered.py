"""What nodes say at a barrier of one job, merged on its way up; and which part of it somebody may say."""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core.tree.accumulator import Merged
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.tree import Gathered, HeadCommand, Launch, Scattered

ENTRY_BYTES = 10
"""What two lengths take in a frame at most."""
RANGE_BYTES = 10
WAIT_MS = 1_000
"""A barrier opens when all nodes have spoken and not before: what some of a subtree say waits for the others."""


class MergedGathered(Merged[Gathered]):
    """The words of nodes on one barrier. Milestone: a node has said all. The subject is a job and a generation."""

    __slots__ = ("_all", "_entries", "_generation", "_job", "_pending")
    max_subjects = 1_024

    def __init__(self, subject: str | int) -> None:
        super().__init__(subject)
        job, _, generation = str(subject).partition("/")
        self._job, self._generation = job, int(generation)
        self._all = 0
        """Mask of the nodes that have spoken."""
        self._pending = 0
        self._entries: dict[bytes, bytes] = {}

    @staticmethod
    def called_for_by(command: HeadCommand) -> str:
        """See `Merged`: a launch, and what opens the barrier before."""
        if isinstance(command, Launch):
            return barrier_of(command.job, 0)
        assert isinstance(command, Scattered)
        return barrier_of(command.job, command.generation + 1)

    @staticmethod
    def subject_of(word: Gathered) -> str:
        """See `Merged`."""
        return barrier_of(word.job, word.generation)

    @staticmethod
    def weigh(word: Gathered) -> int:
        """See `Merged`."""
        return sum(len(item) for item in word.entries) + ENTRY_BYTES * len(word.entries) + RANGE_BYTES * len(word.nodes)

    def add(self, word: Gathered) -> None:
        """See `Merged`."""
        nodes = NodeSet.from_ranges(word.nodes).mask
        self._all |= nodes
        self._pending |= nodes
        for key, value in zip(word.entries[0::2], word.entries[1::2], strict=False):
            self._entries[key] = min(value, self._entries.get(key, value))

    def take(self) -> Gathered:
        """See `Merged`."""
        entries = [item for entry in self._entries.items() for item in entry]
        word = Gathered(self._job, self._generation, NodeSet(self._pending).ranges(), entries)
        self._pending, self._entries = 0, {}
        return word

    @property
    def empty(self) -> bool:
        """See `Merged`."""
        return not self._pending

    @property
    def entries(self) -> int:
        """See `Merged`."""
        return len(self._entries)

    @property
    def milestones(self) -> tuple[int, ...]:
        """See `Merged`."""
        return (self._all.bit_count(),)

    def patience_ms(self, expected_nodes: int) -> int:
        """See `WAIT_MS`."""
        return WAIT_MS


def barrier_of(job: str, generation: int) -> str:
    """Return what names one barrier of a job."""
    return f"{job}/{generation}"


def gathered_for(mask: int, word: Gathered) -> Gathered | None:
    """Return what of a word somebody may say who speaks for these nodes; None if that is nothing.

    Raises
    ------
    ProtocolError
        If it names nodes that no cluster can have.
    """
    nodes = NodeSet.from_ranges(word.nodes).mask
    if not nodes & mask:
        return None
    return word if not nodes & ~mask else replace(word, nodes=NodeSet(nodes & mask).ranges())
