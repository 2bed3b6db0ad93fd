"""How long what a copy has brought stays in a hop's cache."""

from __future__ import annotations

from random import Random

import pytest

from heorot.core.images.copies import KEEP_MS, LOOK_MS, MAX_KEPT, Copies
from heorot.core.machine import CopiesDropped, CopiesFound, DropCopies, Instruction, SetTimer
from heorot.core.wire import images as i
from tests.core.images.hops import Hop, Sample, Tree, make

ONE, TWO = b"1" * 32, b"2" * 32


class Rig:
    def __init__(self) -> None:
        self.now_ms = 0
        self.way_up = True
        self.out: list[Instruction] = []
        self.copies = Copies(self.out.append, lambda: self.now_ms, lambda: self.way_up)

    def take(self) -> list[Instruction]:
        taken = list(self.out)
        self.out.clear()
        return taken

    def fire(self, used: bool = False) -> list[bytes] | None:
        """Let the timer fire when it is due; return what the cache was told to keep, None: nothing was dropped."""
        (timer,) = self.take()
        assert isinstance(timer, SetTimer)
        self.now_ms = timer.at_ms
        self.copies.look()
        if self.out and isinstance(self.out[0], DropCopies):
            (drop,) = self.take()
            assert isinstance(drop, DropCopies)
            self.copies.dropped(CopiesDropped(used))
            return drop.keep
        return None


def test_an_idle_copy_stays_for_a_while_and_goes() -> None:
    rig = Rig()
    rig.copies.idle(ONE)
    rig.now_ms = 4_000
    rig.copies.idle(TWO)
    assert rig.fire() == [TWO]
    assert rig.now_ms == KEEP_MS
    assert rig.fire() == []
    assert rig.now_ms == KEEP_MS + 4_000
    assert rig.take() == []


def test_a_copy_that_is_needed_again_is_not_dropped_by_this_module() -> None:
    rig = Rig()
    rig.copies.idle(ONE)
    rig.copies.needed(ONE)
    # The transfer keeps it now. When that is over, the time begins anew.
    assert rig.fire() == []
    rig.copies.idle(ONE)
    assert rig.fire() == []
    assert rig.now_ms == 2 * KEEP_MS


def test_what_a_process_reads_is_asked_for_again() -> None:
    rig = Rig()
    rig.copies.idle(ONE)
    for _ in range(3):
        assert rig.fire(used=True) == []
    assert rig.now_ms == KEEP_MS + 2 * LOOK_MS
    assert rig.fire() == []
    assert rig.take() == []


def test_nothing_goes_while_the_way_up_is_lost_and_the_time_begins_anew_with_it() -> None:
    rig = Rig()
    rig.copies.idle(ONE)
    rig.way_up = False
    assert rig.fire() is None
    rig.way_up = True
    rig.copies.way_up_found()
    assert rig.fire() == []
    assert rig.now_ms == 2 * KEEP_MS
    rig.copies.idle(TWO)
    rig.now_ms += KEEP_MS - 1
    rig.copies.way_up_found()
    assert rig.fire() == [TWO]


def test_what_a_former_daemon_has_left_goes_too() -> None:
    rig = Rig()
    rig.copies.found(CopiesFound())
    rig.copies.found(CopiesFound())
    assert rig.fire() == []
    assert rig.take() == []


def test_so_many_are_kept_and_no_more() -> None:
    rig = Rig()
    for number in range(MAX_KEPT + 5):
        rig.copies.idle(b"%032d" % number)
    assert len(rig.copies) == MAX_KEPT
    assert next(iter(rig.copies.idle_until_ms)) == b"%032d" % 5


# ------------------------------------------------------------------ with transfers


def finish(tree: Tree) -> None:
    """Let virtual time pass until nobody waits for anything."""
    tree.run()
    tree.assert_idle()


def test_every_hop_drops_a_copy_when_nobody_needs_it() -> None:
    tree = make(1, program=b"")
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    finish(tree)
    assert all(hop.completed == 1 for hop in tree.hops[1:])
    assert tree.now_ms >= KEEP_MS
    for hop in tree.hops:
        assert not hop.chunks, f"hop {hop.name} keeps it"
        assert not hop.manifest


def test_a_program_stays() -> None:
    tree = Tree(Random(2), Sample(Random(2), [300_000], b"/f0"), 4, 2)
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    finish(tree)
    assert all(len(hop.chunks) == tree.sample.layout.chunks for hop in tree.hops)


@pytest.mark.parametrize("late_ms", [KEEP_MS - 1, KEEP_MS + 1])
def test_who_asks_late_has_it_from_the_hop_above_or_from_further_up(late_ms: int) -> None:
    tree = make(3, hops=2, fanout=1, program=b"")
    size = tree.sample.layout.size
    tree.has_clock = False
    source, middle, last = tree.hops
    middle.transfers.need(tree.sample.image)
    tree.run()
    assert (source.sent_bytes, middle.completed) == (size, 1)
    # The source itself is a client here, in whose cache nothing is dropped.
    content = dict(source.chunks)
    pass_time(middle, late_ms)
    assert bool(middle.chunks) == (late_ms < KEEP_MS)
    source.chunks, source.manifest = content, tree.sample.encoded
    last.transfers.need(tree.sample.image)
    tree.run()
    assert last.completed == 1
    assert source.sent_bytes == (size if late_ms < KEEP_MS else 2 * size)
    tree.assert_idle()


def test_a_neighbour_that_still_asks_keeps_it() -> None:
    tree = make(4, hops=2, fanout=1, program=b"")
    tree.has_clock = False
    middle, last = tree.hops[1:]
    middle.transfers.need(tree.sample.image)
    last.transfers.need(tree.sample.image)
    # It has asked, and takes nothing for as long as it likes.
    while not (last.manifest and middle.completed):
        assert tree.step()
    middle.transfers.want(last.name, i.Want(tree.sample.image, False, [0, 1]))
    pass_time(middle, 100 * KEEP_MS)
    assert middle.chunks
    tree.run()
    assert last.completed == 1


def pass_time(hop: Hop, until_ms: int) -> None:
    """Let the timer for copies fire as often as it is due until then."""
    while hop.copies_due_ms is not None and hop.copies_due_ms <= until_ms:
        hop.tree.now_ms, hop.copies_due_ms = hop.copies_due_ms, None
        hop.transfers.copies.look()
    hop.tree.now_ms = until_ms
