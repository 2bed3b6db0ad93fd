"""Hops whose caches share a store: they are told what is there, look for themselves, and else have the bytes sent."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.images.sender import WINDOW_BYTES
from heorot.core.machine import TakeShared
from heorot.core.wire import images as i
from tests.core.images.hops import Hop, Tree, assert_all_have_it, make

STORE, OTHER = b"a store", b"another"


def share(hops: list[Hop], store: bytes = STORE) -> None:
    for hop in hops:
        hop.store = store


def all_need_it(tree: Tree) -> None:
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, tree.hops[1:])
    tree.assert_idle()


@pytest.mark.parametrize("seed", range(5))
def test_those_who_share_a_store_are_sent_no_bytes_and_woken_once(seed: int) -> None:
    tree = make(seed)
    share(tree.hops)
    all_need_it(tree)
    assert [hop.sent_bytes for hop in tree.hops] == [0] * len(tree.hops)
    assert [hop.told for hop in tree.hops[1:]] == [1] * (len(tree.hops) - 1)


def test_others_are_sent_the_bytes() -> None:
    tree = make(1, hops=3, fanout=3)
    share(tree.hops[:2])
    share([tree.hops[2]], OTHER)
    all_need_it(tree)
    assert [hop.told for hop in tree.hops[1:]] == [1, 0, 0]
    assert tree.hops[0].sent_bytes == 2 * tree.sample.layout.size


def test_a_hop_to_which_bytes_come_tells_those_below_when_all_is_there() -> None:
    tree = make(2, hops=2, fanout=1, sizes=[8_000_000])
    share(tree.hops[1:])
    middle, last = tree.hops[1:]
    last.transfers.need(tree.sample.image)
    while not last.told:
        assert len(last.chunks) == 0
        assert tree.step()
    assert len(middle.chunks) == tree.sample.layout.chunks
    tree.run()
    assert_all_have_it(tree, [last])
    assert (tree.hops[0].sent_bytes, middle.sent_bytes) == (tree.sample.layout.size, 0)
    tree.assert_idle()


def test_what_is_not_found_in_the_store_is_sent_and_the_rest_is_not() -> None:
    tree = make(3, hops=1)
    share(tree.hops)
    tree.unseen = {0, 5, 6}
    all_need_it(tree)
    assert tree.hops[0].sent_bytes == sum(len(tree.sample.chunk(number)) for number in tree.unseen)
    assert tree.hops[1].told == 1


def test_a_word_is_not_held_up_by_what_was_not_acknowledged() -> None:
    tree = make(4, hops=1, sizes=[8 * WINDOW_BYTES])
    share(tree.hops)
    hop = tree.hops[1]
    hop.transfers.need(tree.sample.image)
    while not hop.told:
        assert tree.step()
    assert hop.in_flight == {}
    tree.run()
    assert_all_have_it(tree, [hop])


def test_damage_that_is_in_the_store_is_found_by_who_takes_it_and_mended() -> None:
    tree = make(5, hops=2, fanout=1)
    share(tree.hops)
    tree.hops[0].store = b""
    middle, last = tree.hops[1:]
    middle.transfers.need(tree.sample.image)
    tree.run()
    middle.chunks[3] = b"rot" + middle.chunks[3][3:]
    last.transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, [middle, last])
    assert middle.chunks[3] == last.chunks[3] == tree.sample.chunk(3)
    tree.assert_idle()


def test_what_was_not_asked_for_is_not_looked_for() -> None:
    tree = make(6, hops=1)
    share(tree.hops)
    hop, image = tree.hops[1], tree.sample.image
    hop.looks = False
    hop.received(0, i.Stored(image, [0, 1]))
    hop.transfers.need(image)
    hop.received(0, i.Stored(image, [0, 1]))
    while hop.transfers.transfers[image].layout is None:
        assert tree.step()
    everything = [0, tree.sample.layout.chunks]
    hop.received(7, i.Stored(image, everything))
    assert hop.taking == []
    for _ in range(2):
        # The second time, all of it is being taken already.
        hop.received(0, i.Stored(image, everything))
        assert hop.taking == [TakeShared(image, everything)]
    with pytest.raises(ProtocolError):
        hop.received(0, i.Stored(image, [0, tree.sample.layout.chunks + 1]))


def test_a_source_that_is_lost_while_the_store_is_looked_at_is_not_replaced_for_that() -> None:
    tree = make(7, hops=2, fanout=2)
    share(tree.hops)
    hop, image = tree.hops[2], tree.sample.image
    hop.looks = False
    hop.transfers.need(image)
    while not hop.taking:
        assert tree.step()
    tree.move(hop, tree.hops[1])
    tree.run()
    assert hop.transfers.transfers[image].asked.get(1, 0) == 0
    hop.look_into_store(hop.taking[0])
    tree.run()
    assert_all_have_it(tree, [hop])


@pytest.mark.parametrize("seed", range(40))
def test_hops_with_and_without_a_store_are_moved_in_the_middle(seed: int) -> None:
    tree = make(seed, hops=12)
    chance = tree.random
    for hop in tree.hops:
        hop.store = chance.choice((b"", STORE, STORE, OTHER))
    tree.unseen = {number for number in range(tree.sample.layout.chunks) if chance.random() < 0.02}
    needing = [hop for hop in tree.hops[1:] if chance.random() < 0.7]
    for hop in needing:
        hop.transfers.need(tree.sample.image)
    for _ in range(chance.randrange(1, 12)):
        for _ in range(chance.randrange(60)):
            tree.step()
        hop = chance.choice(tree.hops[1:])
        tree.move(hop, None)
        for _ in range(chance.randrange(50)):
            tree.step()
        # Only to an earlier one: so there is no circle.
        tree.move(hop, chance.choice(tree.hops[: hop.name]))
    tree.run()
    assert_all_have_it(tree, needing)
    tree.assert_idle()
