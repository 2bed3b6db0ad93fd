"""Images through a tree of hops whose links are cut, whose caches rot and whose messages are damaged."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import CHUNK_BYTES
from heorot.core.images.hop import MAX_IMAGES
from heorot.core.images.manifest import mask_of
from heorot.core.images.sender import WINDOW_BYTES
from heorot.core.images.swarms import FIRST_BYTES, PATIENCE_MS
from heorot.core.wire import images as i
from tests.core.images.hops import Tree, assert_all_have_it, make


@pytest.mark.parametrize("seed", range(5))
def test_every_hop_gets_it_and_every_link_carries_it_once(seed: int) -> None:
    tree = make(seed)
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, tree.hops[1:])
    tree.assert_idle()
    for hop in tree.hops:
        children = sum(other.parent is hop for other in tree.hops)
        assert hop.sent_bytes == children * tree.sample.layout.size


def test_a_hop_that_needs_it_not_passes_it_on_to_one_that_does() -> None:
    tree = make(1, hops=3, fanout=1)
    tree.hops[3].transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, [tree.hops[3]])
    tree.assert_idle()
    assert tree.hops[1].completed == 0


def test_a_chunk_is_passed_on_before_the_next_one_has_come() -> None:
    tree = make(2, hops=2, fanout=1, sizes=[8_000_000])
    tree.hops[2].transfers.need(tree.sample.image)
    while not tree.hops[2].chunks:
        assert tree.step()
    assert len(tree.hops[1].chunks) < tree.sample.layout.chunks / 2


def test_only_what_lacks_travels() -> None:
    tree = make(3, hops=1)
    hop = tree.hops[1]
    hop.manifest = tree.sample.encoded
    hop.chunks = {number: tree.sample.chunk(number) for number in range(tree.sample.layout.chunks) if number % 5}
    present = sum(map(len, hop.chunks.values()))
    hop.transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, [hop])
    assert tree.hops[0].sent_bytes == tree.sample.layout.size - present


def test_what_is_here_already_is_asked_of_nobody() -> None:
    tree = make(3, hops=1)
    hop = tree.hops[1]
    hop.manifest, hop.chunks = tree.sample.encoded, dict(tree.hops[0].chunks)
    tree.move(hop, None)
    hop.transfers.need(tree.sample.image)
    tree.run()
    assert hop.completed == 1
    tree.assert_idle()


@pytest.mark.parametrize("seed", range(40))
def test_hops_are_moved_in_the_middle_and_nothing_is_fetched_twice(seed: int) -> None:
    tree = make(seed, hops=12)
    needing = [hop for hop in tree.hops[1:] if tree.random.random() < 0.7]
    for hop in needing:
        hop.transfers.need(tree.sample.image)
    for _ in range(tree.random.randrange(1, 12)):
        for _ in range(tree.random.randrange(400)):
            tree.step()
        hop = tree.random.choice(tree.hops[1:])
        tree.move(hop, None)
        for _ in range(tree.random.randrange(50)):
            tree.step()
        # Only to an earlier one: so there is no circle.
        tree.move(hop, tree.random.choice(tree.hops[: hop.name]))
    tree.run()
    assert_all_have_it(tree, needing)
    tree.assert_idle()


@pytest.mark.parametrize("seed", range(10))
def test_damaged_chunks_are_never_kept_and_are_sent_again(seed: int) -> None:
    tree = make(seed, hops=6)
    tree.damage = 0.03
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, tree.hops[1:])
    tree.assert_idle()


def test_a_link_that_damages_everything_ends_in_an_error() -> None:
    tree = make(1, hops=2, fanout=1)
    tree.damage = 1.0
    tree.hops[2].transfers.need(tree.sample.image)
    tree.run()
    assert tree.hops[2].failures == ["the image came damaged again and again"]
    tree.assert_idle()


def test_a_cache_that_has_rotted_is_fetched_anew() -> None:
    tree = make(4, hops=3, fanout=1)
    tree.hops[1].transfers.need(tree.sample.image)
    tree.run()
    tree.hops[1].chunks[3] = b"rot" + tree.hops[1].chunks[3][3:]
    tree.hops[3].transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, [tree.hops[1], tree.hops[3]])
    assert tree.hops[1].chunks[3] == tree.sample.chunk(3)
    tree.assert_idle()


def test_a_full_disk_on_the_way_is_said_to_all_below() -> None:
    tree = make(5, hops=3, fanout=1)
    tree.hops[1].broken = True
    for hop in tree.hops[2:]:
        hop.transfers.need(tree.sample.image)
    tree.run()
    assert [hop.failures for hop in tree.hops[2:]] == [["no space left"], ["no space left"]]
    tree.assert_idle()


def test_an_image_that_nobody_has_fails_and_may_come_later() -> None:
    tree = make(6, hops=2, fanout=1)
    root = tree.hops[0]
    manifest, chunks = root.manifest, root.chunks
    root.manifest, root.chunks = b"", {}
    tree.hops[2].transfers.need(tree.sample.image)
    tree.run()
    assert tree.hops[2].failures == ["nobody has this image"]
    tree.assert_idle()
    root.manifest, root.chunks = manifest, chunks
    tree.hops[2].transfers.need(tree.sample.image)
    tree.run()
    assert_all_have_it(tree, [tree.hops[2]])


def test_whoever_needs_it_no_longer_calls_it_off() -> None:
    tree = make(7, hops=2, fanout=1, sizes=[20_000_000])
    hop = tree.hops[2]
    hop.transfers.need(tree.sample.image)
    while not hop.chunks:
        tree.step()
    hop.transfers.dismiss(tree.sample.image)
    tree.run()
    assert hop.completed == 0
    assert len(hop.chunks) < tree.sample.layout.chunks / 2
    tree.assert_idle()


def test_a_neighbour_that_takes_nothing_gets_a_window_and_holds_up_nobody() -> None:
    tree = make(8, hops=2, fanout=2, sizes=[20_000_000])
    silent, other = tree.hops[1:]
    root = tree.hops[0]
    root.transfers.want(silent.name, i.Want(tree.sample.image, False, [0, tree.sample.layout.chunks]))
    other.transfers.need(tree.sample.image)
    silent.received = lambda sender, message: None  # type: ignore[method-assign]
    tree.run()
    assert_all_have_it(tree, [other])
    assert root.in_flight[silent.name] <= WINDOW_BYTES + 2 * CHUNK_BYTES
    root.transfers.neighbour_lost(silent.name)
    tree.assert_idle()


def test_a_wrong_manifest_is_a_breach_of_the_protocol() -> None:
    tree = make(9, hops=1)
    hop = tree.hops[1]
    hop.transfers.need(tree.sample.image)
    while hop.transfers.transfers[tree.sample.image].manifest_asked_of is None:
        tree.step()
    with pytest.raises(ProtocolError, match="not the image's"):
        hop.transfers.manifest(0, i.ImageManifest(tree.sample.image, b"x"))


def test_asking_for_what_the_image_does_not_have_is_refused() -> None:
    tree = make(9, hops=1)
    root = tree.hops[0]
    chunks = tree.sample.layout.chunks
    root.transfers.want(1, i.Want(tree.sample.image, False, [0, chunks + 1]))
    tree.run()
    assert tree.hops[0].sent_bytes == 0
    assert mask_of([0, chunks], chunks) == (1 << chunks) - 1


def test_there_is_a_bound_on_images_under_way() -> None:
    tree = make(10, hops=1)
    hop = tree.hops[1]
    for number in range(MAX_IMAGES + 1):
        hop.transfers.need(number.to_bytes(32, "big"))
    assert len(hop.transfers.transfers) == MAX_IMAGES
    assert hop.failures == [f"{MAX_IMAGES} images are on their way already"]


def first_sent(tree: Tree) -> list[int]:
    """Return to whom the root has sent chunks that were not taken yet."""
    return [link for link, size in tree.hops[0].in_flight.items() if size]


def wait_for_chunks(tree: Tree) -> None:
    while not any(tree.hops[0].in_flight.values()):
        assert tree.step()


def test_at_first_one_neighbour_is_sent_one_chunk_and_all_are_served_in_the_end() -> None:
    tree = make(1, hops=8, fanout=8)
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    most = 0
    while tree.step():
        if tree.hops[0].sent_bytes <= CHUNK_BYTES:
            most = max(most, len(first_sent(tree)))
    assert most == 1
    assert_all_have_it(tree, tree.hops[1:])
    tree.assert_idle()


def test_another_image_is_served_too_once_the_pace_is_known() -> None:
    tree = make(2, hops=2, fanout=2)
    root, (one, two) = tree.hops[0], tree.hops[1:]
    tree.has_clock = False
    root.transfers.sender.pace.sent(FIRST_BYTES, 0)  # of another image, to another neighbour
    for hop in (one, two):
        hop.transfers.need(tree.sample.image)
    tree.run()
    assert not root.sent_bytes
    assert root.timers == [PATIENCE_MS], "whoever has to wait is not forgotten"
    tree.has_clock = True
    tree.run()
    assert_all_have_it(tree, [one, two])


def test_a_neighbour_that_takes_nothing_does_not_stop_the_others() -> None:
    tree = make(3, hops=3, fanout=3)
    for hop in tree.hops[1:]:
        hop.transfers.need(tree.sample.image)
    wait_for_chunks(tree)
    (silent,) = first_sent(tree)
    tree.links[0, silent].clear()
    tree.run()
    assert_all_have_it(tree, [hop for hop in tree.hops[1:] if hop.name != silent])


def test_a_neighbour_that_is_lost_at_first_makes_room_for_the_others() -> None:
    tree = make(4, hops=2, fanout=2)
    root = tree.hops[0]
    for link in (1, 2):
        root.transfers.want(link, i.Want(tree.sample.image, False, [0, tree.sample.layout.chunks]))
    root.examined()
    assert first_sent(tree) == [1]
    root.transfers.neighbour_lost(1)
    assert first_sent(tree) == [1, 2]
