"""What a subtree says at a barrier: merged, and no more than its sender may say."""

from __future__ import annotations

from heorot.core.tree.accumulator import Accumulator
from heorot.core.tree.merged_gathered import MergedGathered, barrier_of, gathered_for
from heorot.core.wire import tree as m


def word(nodes: list[int], *entries: bytes, generation: int = 2) -> m.Gathered:
    """Return what nodes (flat ranges) say."""
    return m.Gathered("1.1", generation, nodes, list(entries))


def test_a_launch_and_each_barrier_call_for_the_next() -> None:
    assert MergedGathered.called_for_by(m.Launch(b"", b"", "1.1", gathers=True)) == barrier_of("1.1", 0)
    assert MergedGathered.called_for_by(m.Scattered("1.1", 1, 0, 1, [])) == barrier_of("1.1", 2)
    assert MergedGathered.subject_of(word([0, 0])) == barrier_of("1.1", 2)


def test_the_last_word_completes_it_and_two_that_say_the_same_are_one() -> None:
    accumulator = Accumulator(MergedGathered(barrier_of("1.1", 2)), 0b111, 2)
    assert not accumulator.add(word([0, 0], b"a", b"1"))
    assert not accumulator.add(word([0, 0], b"a", b"1"))
    assert accumulator.add(word([1, 2], b"b", b"2", b"a", b"0"))
    assert accumulator.take() == word([0, 2], b"a", b"0", b"b", b"2")
    assert accumulator.empty
    assert accumulator.finished


def test_what_some_say_waits_for_the_others_because_nothing_opens_before() -> None:
    accumulator = Accumulator(MergedGathered(barrier_of("1.1", 2)), 0b11, 2)
    accumulator.add(word([0, 0]))
    assert accumulator.due_ms(10_000) >= 11_000


def test_nobody_speaks_for_nodes_that_he_does_not_reach() -> None:
    said = word([0, 3], b"a", b"1")
    assert gathered_for(0b1111, said) == said
    assert gathered_for(0b0110, said) == word([1, 2], b"a", b"1")
    assert gathered_for(0b10000, said) is None
