"""Merging what the nodes of a subtree say on its way up, so that the head's work does not grow with their number.

A kind of words, a `Merged`, says what its words are about, and how one more becomes one with those before. A relay
counts for each subject on how many nodes of its subtree it expects news. It passes on what was merged as soon as all of
them have come to the next milestone of that kind; otherwise a short while after the first news.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeAlias, TypeVar

from heorot.core.wire import tree as m
from heorot.core.wire.framing import MAX_FRAME_BYTES

LONGEST_WAIT_FACTOR = 16
CALM_MS = 1_000
"""After this time without news, the next waits as short as the first."""
MAX_MERGED_ENTRIES = 16_384
"""What was merged is sent on at this size, whatever is still missing."""
MAX_MERGED_BYTES = MAX_FRAME_BYTES // 4
"""No two words that take more than this together are merged: the bound of the buffer and of the frame."""

Subject: TypeAlias = str | int
"""What words that are merged are about: the id of a job, or of a question."""
WordT = TypeVar("WordT", bound=m.LinkMessage)


class Merged(ABC, Generic[WordT]):
    """The words of one kind on one subject, merged and not passed on yet."""

    __slots__ = ("size_bytes", "subject")
    max_subjects: ClassVar[int]
    """So many subjects of this kind have their words merged at once."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.size_bytes = 0
        """How much it takes in a frame at most."""

    @staticmethod
    @abstractmethod
    def called_for_by(command: m.HeadCommand) -> Subject:
        """Return on what subject the nodes that are given this command will say something."""

    @staticmethod
    @abstractmethod
    def subject_of(word: WordT) -> Subject:
        """Return what a word is about."""

    @staticmethod
    @abstractmethod
    def weigh(word: WordT) -> int:
        """Return how many bytes a word takes in a frame at most."""

    @abstractmethod
    def add(self, word: WordT) -> None:
        """Make one more word one with those before."""

    @abstractmethod
    def take(self) -> WordT:
        """Return what was merged since the last call, and forget it."""

    @property
    @abstractmethod
    def empty(self) -> bool:
        """Whether nothing waits to be passed on."""

    @property
    @abstractmethod
    def entries(self) -> int:
        """How many records wait to be passed on."""

    @property
    @abstractmethod
    def milestones(self) -> tuple[int, ...]:
        """How many nodes have come to each milestone, the last one being their last word."""

    def waits_for_no_one(self, word: WordT) -> bool:
        """Whether somebody is waiting for this word whatever the others say."""
        return False

    def patience_ms(self, expected_nodes: int) -> int:
        """Return how long news wait at least while not all of so many nodes have come to the first milestone."""
        return 0


class Accumulator(Generic[WordT]):
    """What waits here of one subject, until when, and for whom."""

    __slots__ = ("_first_wait_ms", "_sent_at_ms", "expected", "merged", "wait_ms")

    def __init__(self, merged: Merged[WordT], expected: int, wait_ms: int) -> None:
        self.merged = merged
        self.wait_ms = wait_ms
        """How long news may wait for more. Doubles each time that waiting did not complete it, within a bound: a launch
        that takes long on a busy machine must not reach the head in many small pieces."""
        self._first_wait_ms = wait_ms
        self._sent_at_ms = 0
        self.expected = expected
        """Mask of the nodes of this subtree whose words are waited for."""

    def add(self, word: WordT) -> bool:
        """Merge a word; return True if it is time to forward."""
        merged, expected_nodes = self.merged, self.expected.bit_count()
        before = merged.milestones
        merged.add(word)
        merged.size_bytes += merged.weigh(word)
        return (
            merged.waits_for_no_one(word)
            or any(was < expected_nodes <= now for was, now in zip(before, merged.milestones, strict=True))
            or merged.entries > MAX_MERGED_ENTRIES
        )

    def has_room_for(self, word: WordT) -> bool:
        """Say whether this word can be merged with what waits."""
        return self.merged.empty or self.merged.size_bytes + self.merged.weigh(word) <= MAX_MERGED_BYTES

    def take(self) -> WordT:
        """Return what was merged since the last call, and forget it."""
        self.merged.size_bytes = 0
        return self.merged.take()

    def due_ms(self, now_ms: int) -> int:
        """Return until when the first news since the last that was sent may wait."""
        if now_ms - self._sent_at_ms >= CALM_MS:
            self.wait_ms = self._first_wait_ms
        expected_nodes = self.expected.bit_count()
        if self.merged.milestones[0] < expected_nodes:
            return now_ms + max(self.wait_ms, self.merged.patience_ms(expected_nodes))
        return now_ms + self.wait_ms

    def waited(self, now_ms: int) -> None:
        """The time to wait is over, and there was more to come."""
        self._sent_at_ms = now_ms
        self.wait_ms = min(2 * self.wait_ms, LONGEST_WAIT_FACTOR * self._first_wait_ms)

    @property
    def empty(self) -> bool:
        """True if nothing waits to be forwarded."""
        return self.merged.empty

    @property
    def finished(self) -> bool:
        """True if every expected node has said its last word and nothing waits."""
        return self.merged.milestones[-1] >= self.expected.bit_count() and self.empty
