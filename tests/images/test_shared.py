"""One store of content for the caches of a host: what they share, what they believe, and what is left when they go."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.images.cache import Cache
from heorot.images.content import SEALED_NS
from tests.images.samples import Sample
from tests.support.other_user import NOBODY, become

LIMIT = 64_000_000
DATA = Sample({b"/copy/large": os.urandom(1_000_000), b"/copy/small": b"small"})
PROGRAM = Sample({b"/bin/program": (os.urandom(700_000), 0o755), b"/lib/data": os.urandom(100_000)})
Give = Callable[[str], Cache]


@pytest.fixture
def give(tmp_path: Path) -> Iterator[Give]:
    """Return a function that gives a cache of this host."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Cache:
            made = Cache(str(tmp_path / name), LIMIT, name, said.append2, shared=str(tmp_path / "content"))
            stack.callback(made.close)
            return made

        said = _Said()
        make.said = said  # type: ignore[attr-defined]
        yield make


class _Said(list[str]):
    def append2(self, level: str, text: str) -> None:
        self.append(text)


def arrive(cache: Cache, sample: Sample, numbers: range | None = None) -> None:
    have = cache.examine(sample.image)[1]
    if not have:
        cache.keep_manifest(sample.image, sample.encoded)
    for number in numbers if numbers is not None else range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])


def blocks(root: Path) -> int:
    """What all of this takes on the disk."""
    seen = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def content_of(cache: Cache, sample: Sample) -> list[bytes]:
    view = Path(cache.make_view(sample.image))
    return [(view / str(number)).read_bytes() for number in range(len(sample.contents))]


@pytest.mark.parametrize("sample", [DATA, PROGRAM], ids=["data", "program"])
def test_caches_that_get_the_same_at_the_same_time_hold_it_once(give: Give, tmp_path: Path, sample: Sample) -> None:
    caches = [give(f"n{number}") for number in range(4)]
    for cache in caches:
        assert cache.examine(sample.image) == (b"", [])
        cache.keep_manifest(sample.image, sample.encoded)
    for number in range(sample.layout.chunks):
        for cache in caches:
            cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    for cache in caches:
        assert content_of(cache, sample) == sample.contents
        assert cache.read_chunks(sample.image, 0, sample.layout.chunks, check=True)
        assert cache.used_bytes == sample.layout.size
    assert blocks(tmp_path) < 1.3 * sample.layout.size
    for path in (tmp_path / "content").iterdir():
        assert path.stat().st_mtime_ns == SEALED_NS
        assert path.stat().st_nlink == 1 + 2 * len(caches)


def test_what_another_cache_has_need_not_come_and_is_checked(give: Give, tmp_path: Path) -> None:
    first, second, third = give("n0"), give("n1"), give("n2")
    arrive(first, PROGRAM)
    second.keep_manifest(PROGRAM.image, PROGRAM.encoded)
    assert second.examine(PROGRAM.image)[1] == [0, PROGRAM.layout.chunks]
    assert content_of(second, PROGRAM) == PROGRAM.contents
    # A disk that has changed, without that any time shows it.
    damaged = max((tmp_path / "content").iterdir(), key=lambda path: path.stat().st_size)
    with open(damaged, "r+b") as file:
        file.seek(70_000)
        file.write(b"?")
    os.utime(damaged, ns=(SEALED_NS, SEALED_NS))
    assert third.keep_manifest(PROGRAM.image, PROGRAM.encoded)[1] != [0, PROGRAM.layout.chunks]
    arrive(third, PROGRAM)
    assert content_of(third, PROGRAM) == PROGRAM.contents


def test_a_part_that_another_cache_has_need_not_come(give: Give) -> None:
    first, second = give("n0"), give("n1")
    arrive(first, DATA, range(3, 7))
    assert second.keep_manifest(DATA.image, DATA.encoded)[1] == [3, 4]
    arrive(second, DATA)
    assert content_of(second, DATA) == DATA.contents
    # The first one has not seen what the other has put there, and gets it itself.
    arrive(first, DATA)
    assert content_of(first, DATA) == DATA.contents


def test_each_cache_drops_its_own_and_the_last_one_the_content(give: Give, tmp_path: Path) -> None:
    first, second = give("n0"), give("n1")
    for cache in (first, second):
        arrive(cache, DATA)
        cache.forget(DATA.image)
    assert not first.drop_copies(())
    assert second.examine(DATA.image)[1] == [0, DATA.layout.chunks]
    assert len(list((tmp_path / "content").iterdir())) == 2
    second.forget(DATA.image)
    assert not second.drop_copies(())
    assert list((tmp_path / "content").iterdir()) == []


def test_what_a_cache_leaves_that_is_gone_is_removed_by_another(give: Give, tmp_path: Path) -> None:
    first, second = give("n0"), give("n1")
    arrive(first, PROGRAM)
    arrive(second, DATA)
    first.close()
    shutil.rmtree(first.directory)
    second.forget(DATA.image)
    second.drop_copies(())
    assert list((tmp_path / "content").iterdir()) == []


def test_a_file_that_was_changed_is_lost_to_all_and_comes_anew(give: Give, tmp_path: Path) -> None:
    first, second = give("n0"), give("n1")
    for cache in (first, second):
        arrive(cache, PROGRAM)
        cache.forget(PROGRAM.image)
    damaged = max((tmp_path / "content").iterdir(), key=lambda path: path.stat().st_size)
    damaged.chmod(0o755)
    damaged.write_bytes(b"x")
    assert first.examine(PROGRAM.image)[1] != [0, PROGRAM.layout.chunks]
    arrive(first, PROGRAM)
    # And the other one has it from there.
    assert second.examine(PROGRAM.image)[1] == [0, PROGRAM.layout.chunks]
    for cache in (first, second):
        assert content_of(cache, PROGRAM) == PROGRAM.contents


def test_a_slower_cache_without_root_goes_on_when_another_one_has_sealed_the_file() -> None:
    with tempfile.TemporaryDirectory(prefix="shared.", dir="/tmp") as root:
        os.chown(root, NOBODY, NOBODY)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                become(NOBODY)
                _two_without_root(root)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def _two_without_root(root: str) -> None:
    first, second = (Cache(f"{root}/{name}", LIMIT, name, shared=f"{root}/content") for name in ("a", "b"))
    arrive(second, DATA, range(3))
    arrive(first, DATA)
    second._content.close_all()
    arrive(second, DATA)
    assert content_of(second, DATA) == content_of(first, DATA) == DATA.contents


def test_a_program_can_be_executed_while_another_cache_still_gets_it(give: Give) -> None:
    # Whoever has a file open for writing keeps everybody from executing it.
    with open("/bin/true", "rb") as file:
        sample = Sample({b"/bin/true": (file.read(), 0o755)})
    first, second = give("n0"), give("n1")
    second.keep_manifest(sample.image, sample.encoded)
    second.keep_chunks(sample.image, 0, [sample.chunk(0)])
    arrive(first, sample)
    assert os.spawnv(os.P_WAIT, f"{first.make_view(sample.image)}/0", ["true"]) == 0


@pytest.mark.parametrize("wrong", ["others may write", "a link", "of another user"])
def test_a_store_that_is_not_ours_alone_is_not_used(give: Give, tmp_path: Path, wrong: str) -> None:
    store = tmp_path / "content"
    if wrong == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        store.symlink_to("elsewhere")
    else:
        store.mkdir(mode=0o700)
        if wrong == "of another user":
            os.chown(store, NOBODY, NOBODY)
        else:
            store.chmod(0o770)
    cache = give("n0")
    arrive(cache, DATA)
    assert content_of(cache, DATA) == DATA.contents
    assert list(store.iterdir()) == []
    (said,) = give.said  # type: ignore[attr-defined]
    assert said.startswith("this cache shares no content with others of this host")


def test_what_another_user_has_put_there_is_not_taken(give: Give, tmp_path: Path) -> None:
    cache = give("n0")
    cache.examine(DATA.image)
    name = DATA.layout.id_of(0).hex()
    (tmp_path / "content" / name).write_bytes(DATA.contents[0])
    os.chown(tmp_path / "content" / name, NOBODY, NOBODY)
    assert cache.keep_manifest(DATA.image, DATA.encoded)[1] == []
    (tmp_path / "content" / name).symlink_to("/etc/passwd")
    arrive(cache, DATA)
    assert content_of(cache, DATA) == DATA.contents
