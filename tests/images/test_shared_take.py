"""What a cache takes from the store that it shares: all that is right there, step by step, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from heorot.core.images.manifest import Entry, ranges_of
from heorot.images import content as content_module
from heorot.images.cache import Cache
from heorot.images.content import SEALED_NS
from heorot.images.identity import ImageError
from heorot.images.shared_take import STEP_BYTES, SharedTake
from tests.images.samples import Sample

LIMIT_BYTES = 16_000_000
ALL_BYTES = 1 << 30
LARGE_BYTES = 4 * STEP_BYTES + 1
DATA = Sample({b"/copy/large": os.urandom(LARGE_BYTES), b"/copy/empty": b"", b"/copy/small": b"small"})
PROGRAM = Sample({b"/bin/program": (os.urandom(700_000), 0o755), b"/lib/data": os.urandom(100_000)})
Give = Callable[[str], Cache]


@pytest.fixture
def give(tmp_path: Path) -> Iterator[Give]:
    """Return a function that gives a cache of this host."""
    with ExitStack() as stack:

        def make(name: str) -> Cache:
            made = Cache(str(tmp_path / name), LIMIT_BYTES, name, shared=str(tmp_path / "content"))
            stack.callback(made.close)
            return made

        yield make


def keep(cache: Cache, sample: Sample, numbers: range | None = None) -> Cache:
    """Let these chunks come, or all."""
    cache.keep_manifest(sample.image, sample.encoded)
    for number in numbers if numbers is not None else range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    return cache


def await_content(cache: Cache, sample: Sample) -> Cache:
    """Let a cache begin to need an image of which nothing is in the store."""
    assert cache.keep_manifest(sample.image, sample.encoded)[1] == []
    return cache


def take(cache: Cache, sample: Sample) -> SharedTake:
    return cache.take_shared(sample.image, [0, sample.layout.chunks])


def take_all(cache: Cache, sample: Sample) -> list[int]:
    """Take what is there, and return the chunks that were."""
    taking = take(cache, sample)
    assert taking.advance(ALL_BYTES)
    return ranges_of(taking.found)


def content_of(cache: Cache, sample: Sample) -> list[bytes]:
    view = Path(cache.make_view(sample.image))
    return [(view / str(number)).read_bytes() for number in range(len(sample.contents))]


def stored(tmp_path: Path) -> Path:
    """The largest file in the store."""
    return max((tmp_path / "content").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("sample", [DATA, PROGRAM], ids=["data", "program"])
def test_what_is_there_is_taken_and_takes_no_room_of_its_own(give: Give, tmp_path: Path, sample: Sample) -> None:
    second = await_content(give("n1"), sample)
    first = keep(give("n0"), sample)
    assert take_all(second, sample) == [0, sample.layout.chunks]
    assert content_of(second, sample) == sample.contents
    assert second.used_bytes == sample.layout.size
    names = sorted(path.name for path in (tmp_path / "content").iterdir())
    for cache in (first, second):
        assert sorted(os.listdir(f"{cache.directory}/files")) == names
        assert os.listdir(f"{cache.directory}/partial") == []
        for name in names:
            assert os.path.samefile(f"{cache.directory}/files/{name}", tmp_path / "content" / name)


def test_a_large_file_is_looked_at_step_by_step_and_none_is_open_between(give: Give) -> None:
    second = await_content(give("n1"), DATA)
    keep(give("n0"), DATA)
    before = os.listdir("/proc/self/fd")
    taking = take(second, DATA)
    steps = 1
    while not taking.advance(STEP_BYTES):
        steps += 1
        assert os.listdir("/proc/self/fd") == before
    assert steps >= LARGE_BYTES // STEP_BYTES
    assert ranges_of(taking.found) == [0, DATA.layout.chunks]


def test_what_has_been_looked_at_is_not_looked_at_again(give: Give, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep(give("n0"), DATA, range(10))
    second = give("n1")
    assert second.keep_manifest(DATA.image, DATA.encoded)[1] == [0, 10]
    keep(first, DATA)
    looked: list[int] = []
    honest = content_module.right_chunks

    def noted(fd: int, entry: Entry, begin: int, limit_bytes: int) -> int:
        looked.append(begin)
        return honest(fd, entry, begin, limit_bytes)

    monkeypatch.setattr(content_module, "right_chunks", noted)
    assert take_all(second, DATA) == [0, DATA.layout.chunks]
    assert looked[0] == 10
    assert content_of(second, DATA) == DATA.contents


@pytest.mark.parametrize("damage", ["unseen", "seen", "too short", "absent", "another file"])
def test_what_is_not_right_is_not_taken_and_the_rest_is(give: Give, tmp_path: Path, damage: str) -> None:
    second = await_content(give("n1"), DATA)
    keep(give("n0"), DATA)
    there = stored(tmp_path)
    if damage in ("absent", "another file"):
        there.unlink()
    if damage == "another file":
        there.symlink_to("/etc/passwd")
    if damage in ("unseen", "seen"):
        with open(there, "r+b") as file:
            file.seek(LARGE_BYTES - 10)
            file.write(b"?")
    if damage == "unseen":
        os.utime(there, ns=(SEALED_NS, SEALED_NS))
    if damage == "too short":
        os.truncate(there, LARGE_BYTES - 1)
        os.utime(there, ns=(SEALED_NS, SEALED_NS))
    assert take_all(second, DATA) == [DATA.layout.chunks - 1, 1]
    assert os.listdir(f"{second.directory}/partial") == []
    assert os.listdir(f"{second.directory}/files") == [DATA.layout.id_of(1).hex()]


def test_what_is_written_to_while_it_is_looked_at_is_not_taken(give: Give, tmp_path: Path) -> None:
    second = await_content(give("n1"), DATA)
    keep(give("n0"), DATA)
    taking = take(second, DATA)
    assert not taking.advance(2 * STEP_BYTES)
    with open(stored(tmp_path), "r+b") as file:
        file.write(b"?")
    assert taking.advance(ALL_BYTES)
    assert ranges_of(taking.found) == [DATA.layout.chunks - 1, 1]


def test_what_is_not_whole_there_yet_is_not_taken(give: Give) -> None:
    second = await_content(give("n1"), DATA)
    keep(give("n0"), DATA, range(DATA.layout.chunks - 2))
    assert take_all(second, DATA) == []


def test_bytes_that_come_first_are_not_undone(give: Give) -> None:
    second = await_content(give("n1"), PROGRAM)
    keep(give("n0"), PROGRAM)
    taking = take(second, PROGRAM)
    assert not taking.advance(1)
    keep(second, PROGRAM)
    assert taking.advance(ALL_BYTES)
    assert ranges_of(taking.found) == [0, PROGRAM.layout.chunks]
    assert content_of(second, PROGRAM) == PROGRAM.contents


def test_what_nobody_needs_any_more_is_not_taken(give: Give) -> None:
    second = await_content(give("n1"), DATA)
    keep(give("n0"), DATA)
    taking = take(second, DATA)
    assert not taking.advance(STEP_BYTES)
    second.forget(DATA.image)
    assert taking.advance(ALL_BYTES)
    assert taking.found == 0
    assert os.listdir(f"{second.directory}/files") == os.listdir(f"{second.directory}/partial") == []
    assert take_all(second, DATA) == []


def test_two_images_with_the_same_file_take_it_at_the_same_time(give: Give) -> None:
    other = Sample({b"/copy/elsewhere": DATA.contents[0]})
    second = give("n1")
    for sample in (DATA, other):
        await_content(second, sample)
    keep(give("n0"), DATA)
    takings = [take(second, DATA), take(second, other)]
    going = takings
    while going:
        going = [taking for taking in going if not taking.advance(STEP_BYTES)]
    assert [ranges_of(taking.found) for taking in takings] == [[0, DATA.layout.chunks], [0, other.layout.chunks]]
    assert content_of(second, other) == other.contents


def test_what_is_taken_is_counted_and_bounded(give: Give) -> None:
    second = give("n1")
    for number in range(LIMIT_BYTES // LARGE_BYTES):
        keep(second, Sample({b"/copy/%d" % number: os.urandom(LARGE_BYTES)}))
    await_content(second, DATA)
    keep(give("n0"), DATA)
    with pytest.raises(ImageError, match=r"the image cache of n1 .* is full"):
        take(second, DATA).advance(ALL_BYTES)
    assert second.used_bytes <= LIMIT_BYTES


def test_only_caches_that_share_a_store_have_one_of_the_same_name(give: Give, tmp_path: Path) -> None:
    first, second = give("n0"), give("n1")
    alone = Cache(str(tmp_path / "n2"), LIMIT_BYTES, "n2")
    elsewhere = Cache(str(tmp_path / "n3"), LIMIT_BYTES, "n3", shared=str(tmp_path / "other"))
    for cache in (first, second, alone, elsewhere):
        cache.examine(DATA.image)
        cache.close()
    assert first.store == second.store != b""
    assert alone.store == b""
    assert elsewhere.store not in (b"", first.store)
    assert first.store != os.fsencode(str(tmp_path / "content"))
