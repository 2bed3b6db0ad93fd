"""Room on a full disk: what goes from the caches of all daemons on it, and what stays because somebody uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.images import reclaim
from heorot.images.cache import Cache
from heorot.images.identity import ImageError
from heorot.images.reclaim import Reclaimer, drop_unused
from heorot.security.head_registry import HeadRecord, HeadRegistry
from heorot.security.registry import NodeRecord, Registry, RegistryContent
from heorot.security.tokens import TokenStore
from tests.images.samples import Sample
from tests.support.disks import fill, small_disk

LIMIT = 64_000_000
SIZE = 400_000
Give = Callable[..., Cache]


def sample(number: int, size: int = SIZE) -> Sample:
    return Sample({b"/a": bytes([number]) * size})


def keep(cache: Cache, image: Sample, used_at_s: int, *, forget: bool = True) -> None:
    """Have an image in a cache, as if it were used last at this time."""
    cache.keep_manifest(image.image, image.encoded)
    for number in range(image.layout.chunks):
        cache.keep_chunks(image.image, number, [image.chunk(number)])
    os.utime(f"{cache.directory}/manifests/{image.image.hex()}", (used_at_s, used_at_s))
    if forget:
        cache.forget(image.image)


def kept(cache: Cache, *images: Sample) -> list[bool]:
    """Say which of these images a cache has, whole."""
    found = []
    for image in images:
        found.append(cache.examine(image.image) == (image.encoded, [0, image.layout.chunks]))
        cache.forget(image.image)
    return found


@pytest.fixture
def give(tmp_path: Path) -> Iterator[Give]:
    """Return a function that gives the cache of a daemon of the cluster in `tmp_path`."""
    with contextlib.ExitStack() as stack:

        def make(daemon: str, root: Path = tmp_path, make_room: Callable[[], bool] = lambda: False) -> Cache:
            (root / daemon).mkdir(parents=True)
            made = Cache(str(root / daemon / "images"), LIMIT, daemon, make_room=make_room)
            stack.callback(made.close)
            return made

        yield make


def test_what_was_used_longest_ago_goes_first_whosever_it_is_and_no_more_than_is_needed(
    give: Give, tmp_path: Path
) -> None:
    head, node = give("heads/h0"), give("nodes/n0")
    first, second, third, fourth = (sample(number) for number in range(1, 5))
    keep(head, first, 100)
    keep(node, second, 200)
    keep(head, third, 300)
    keep(node, fourth, 400)
    count, freed = drop_unused(str(tmp_path), 2 * SIZE)
    assert (count, freed >= 2 * SIZE) == (2, True)
    assert kept(head, first, third) == [False, True]
    assert kept(node, second, fourth) == [False, True]
    # What has gone comes again, and the cache counts right.
    keep(head, first, 500)
    assert kept(head, first) == [True]
    assert drop_unused(str(tmp_path), LIMIT)[0] == 3
    assert drop_unused(str(tmp_path), LIMIT) == (0, 0)
    assert list(tmp_path.rglob("files/*")) == []


def test_what_a_transfer_or_a_copy_uses_stays_with_all_that_it_shares(give: Give, tmp_path: Path) -> None:
    cache = give("nodes/n0")
    shared = b"\7" * SIZE
    used, copied, free = (Sample({b"/a": shared, b"/%d" % number: bytes([number]) * SIZE}) for number in range(3))
    keep(cache, used, 100, forget=False)
    keep(cache, copied, 200, forget=False)
    view = cache.make_view(copied.image)
    cache.forget(copied.image)
    keep(cache, free, 300)
    # As bpinit holds it while a copy reads (`heorot.bpinit.own_commands.open_view`).
    with open(f"{view}/manifest", "rb") as manifest:
        fcntl.flock(manifest, fcntl.LOCK_SH)
        assert drop_unused(str(tmp_path), LIMIT)[0] == 1
    assert cache.read_chunks(used.image, 0, used.layout.chunks, check=True)
    assert kept(cache, copied, free) == [True, False]
    assert drop_unused(str(tmp_path), LIMIT)[0] == 1
    assert kept(cache, copied) == [False]
    assert cache.read_chunks(used.image, 0, used.layout.chunks, check=True)


def test_an_image_that_is_taken_up_is_waited_for_but_not_for_ever(
    give: Give, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = give("nodes/n0")
    keep(cache, sample(1), 100)
    with reclaim.undisturbed(cache.directory):
        assert drop_unused(str(tmp_path), LIMIT) == (0, 0)
    monkeypatch.setattr(reclaim, "LOCK_WAIT_S", 0.05)
    # Whoever frees room was stopped while it was at this cache.
    folder = os.open(f"{cache.directory}/manifests", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert kept(cache, sample(1)) == [True]
    finally:
        os.close(folder)


def test_a_cache_on_another_disk_stays(give: Give, tmp_path: Path) -> None:
    (tmp_path / "nodes" / "n1").mkdir(parents=True)
    with small_disk(tmp_path / "nodes" / "n1" / "images", "2m"):
        cache = Cache(str(tmp_path / "nodes" / "n1" / "images"), LIMIT, "n1")
        keep(cache, sample(1), 100)
        assert drop_unused(str(tmp_path), LIMIT) == (0, 0)
        assert kept(cache, sample(1)) == [True]
        cache.close()


def test_a_cache_takes_room_from_the_others_and_whoever_finds_none_does_not_look_all_the_time(
    give: Give, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reclaim, "PAUSE_S", 3_600)
    with small_disk(tmp_path / "disk", "2m") as disk:
        make_room = Reclaimer(disk, lambda level, text: said.append(text))
        idle = give("nodes/n0", disk)
        busy = give("nodes/n1", disk, make_room)
        for number in range(1, 4):
            keep(idle, sample(number), 100 * number)
        fill(disk)
        keep(busy, sample(9), 400)
        assert kept(busy, sample(9)) == [True]
        assert kept(idle, sample(1), sample(2), sample(3)) == [False, False, False]
        assert said[0].startswith(f"the disk of {disk} is full: dropped 3 images that nobody used (")
        # Nothing is left that could go: the writer is told, and the caches are left alone for a while.
        with pytest.raises(ImageError, match="free some room there"):
            keep(busy, sample(10, 4_000_000), 500, forget=False)
        busy.forget(sample(10, 4_000_000).image)
        keep(idle, sample(1), 600)
        assert not make_room()
        assert kept(idle, sample(1)) == [True]
        for cache in (idle, busy):
            cache.close()


def test_tokens_and_the_registries_take_room_from_the_caches(give: Give, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        tokens, nodes, heads = TokenStore(disk), Registry(disk), HeadRegistry(disk)
        cache = give("heads/h0", disk)
        actions: list[Callable[[], object]] = [
            lambda: tokens.create(bytes(32), 0, ttl_ms=1000, uses=1, node=-1),
            lambda: nodes.take(RegistryContent({7: NodeRecord(7, "host", "00", "id", 1)}, {})),
            lambda: heads.take({"10.0.0.1:7733": HeadRecord("10.0.0.1:7733", "h0", 0)}),
        ]
        for number, action in enumerate(actions, 1):
            keep(cache, sample(number), 100)
            fill(disk)
            action()
            assert kept(cache, sample(number)) == [False]
            (disk / "filler").unlink()
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            actions[1]()
        # What was there is there still.
        assert list(nodes.nodes()) == [7]
        cache.close()
