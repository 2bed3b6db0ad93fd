"""The cache on the disk: what it keeps, what it doubts, what it evicts, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.bpinit.own_commands import open_view
from heorot.images import content as content_module
from heorot.images import disk as disk_module
from heorot.images.cache import Cache
from heorot.images.identity import ImageError
from tests.images.samples import Sample
from tests.support.disks import fill as fill_disk
from tests.support.disks import small_disk

LIMIT = 4_000_000


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    made = Cache(str(tmp_path / "images"), LIMIT, "n7")
    yield made
    made.close()


def again(cache: Cache) -> Cache:
    """Return the cache of an agent that was started anew."""
    cache.close()
    return Cache(cache.directory, cache.limit_bytes, cache.owner)


def fill(cache: Cache, sample: Sample, chunks: range | None = None) -> None:
    have = cache.keep_manifest(sample.image, sample.encoded)[1]
    assert not have or chunks is None
    for number in chunks if chunks is not None else range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])


def content(number: int, size: int) -> bytes:
    return bytes([number]) * size


def test_what_is_kept_is_read_and_found_again(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, 150_000), b"/b": b"", b"/c": content(3, 10)})
    assert cache.examine(sample.image) == (b"", [])
    fill(cache, sample)
    assert cache.read_manifest(sample.image) == sample.encoded
    expected = [sample.chunk(number) for number in range(sample.layout.chunks)]
    assert cache.read_chunks(sample.image, 0, sample.layout.chunks, check=True) == expected
    cache.forget(sample.image)
    later = again(cache)
    assert later.examine(sample.image) == (sample.encoded, [0, sample.layout.chunks])
    assert later.used_bytes == 150_010
    later.close()


def test_an_agent_that_was_killed_goes_on_with_the_chunks_that_are_right(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, 500_000)})
    fill(cache, sample, range(2, 5))
    partial = next((Path(cache.directory) / "partial").iterdir())
    with partial.open("r+b") as file:
        file.seek(3 * 65_536)
        file.write(b"torn")
    later = again(cache)
    assert later.examine(sample.image)[1] == [2, 1, 4, 1]
    for number in (0, 1, 3, 5, 6, 7):
        later.keep_chunks(sample.image, number, [sample.chunk(number)])
    assert later.read_chunks(sample.image, 0, 8, check=True) == [sample.chunk(number) for number in range(8)]
    later.close()


def test_a_file_that_two_images_hold_is_there_once(cache: Cache) -> None:
    shared = content(7, 200_000)
    one, two = Sample({b"/a": shared}), Sample({b"/b": shared, b"/c": b"more"})
    fill(cache, one)
    assert cache.keep_manifest(two.image, two.encoded)[1] == [0, one.layout.chunks]
    assert cache.used_bytes == 200_000


def test_two_images_that_come_at_the_same_time_share_a_file(cache: Cache) -> None:
    shared = content(7, 200_000)
    one, two = Sample({b"/a": shared}), Sample({b"/b": shared, b"/c": b"more"})
    cache.keep_manifest(one.image, one.encoded)
    cache.keep_manifest(two.image, two.encoded)
    for number in range(one.layout.chunks):
        cache.keep_chunks(one.image, number, [one.chunk(number)])
        cache.keep_chunks(two.image, number, [two.chunk(number)])
    cache.keep_chunks(two.image, one.layout.chunks, [b"more"])
    for sample in (one, two):
        assert os.path.isdir(cache.make_view(sample.image))
    assert cache.used_bytes == 200_004


def test_a_run_of_chunks_may_span_files_and_hold_what_is_here_already(cache: Cache) -> None:
    shared = content(7, 200_000)
    one, two = Sample({b"/a": shared}), Sample({b"/0": b"first", b"/b": shared, b"/c": b"more"})
    cache.keep_manifest(one.image, one.encoded)
    cache.keep_manifest(two.image, two.encoded)
    cache.keep_chunks(one.image, 1, [one.chunk(1)])
    everything = [two.chunk(number) for number in range(two.layout.chunks)]
    cache.keep_chunks(two.image, 0, everything)
    cache.keep_chunks(one.image, 0, [one.chunk(number) for number in range(one.layout.chunks)])
    assert cache.used_bytes == 200_009
    assert cache.read_chunks(two.image, 0, two.layout.chunks, check=True) == everything
    for sample in (one, two):
        assert os.path.isdir(cache.make_view(sample.image))


def test_a_view_holds_every_file_and_grants_no_more_than_reading_and_executing(cache: Cache) -> None:
    sample = Sample(
        {b"/bin/prog": (content(1, 70_000), 0o700), b"/etc/secret": (b"x", 0o600), b"/empty": (b"", 0o755)}
    ).with_others([b"/opt"], {b"/opt/link": b"/bin/prog"})
    fill(cache, sample)
    view = Path(cache.make_view(sample.image))
    assert sorted(item.name for item in view.iterdir()) == ["0", "1", "2", "manifest"]
    assert (view / "0").read_bytes() == sample.contents[0]
    assert [oct((view / name).stat().st_mode & 0o7777) for name in "012"] == ["0o555", "0o444", "0o555"]
    assert (view / "manifest").read_bytes() == sample.encoded
    assert cache.make_view(sample.image) == str(view)


def test_an_image_that_is_not_complete_has_no_view(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, 500_000)})
    fill(cache, sample, range(3))
    with pytest.raises(ImageError, match="not complete"):
        cache.make_view(sample.image)


def test_a_manifest_that_was_changed_is_not_there(cache: Cache) -> None:
    sample = Sample({b"/a": b"x"})
    fill(cache, sample)
    cache.forget(sample.image)
    (Path(cache.directory) / "manifests" / sample.image.hex()).write_bytes(b"other")
    assert cache.examine(sample.image) == (b"", [])


def test_a_damaged_file_is_noticed_and_fetched_anew(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, 200_000), b"/b": content(2, 200_000)})
    fill(cache, sample)
    path = Path(cache.directory) / "files" / sample.layout.id_of(0).hex()
    path.chmod(0o600)
    path.write_bytes(b"rotten" + path.read_bytes()[6:])
    assert cache.read_chunks(sample.image, 0, 1, check=False)
    with pytest.raises(ImageError, match="is damaged"):
        cache.read_chunks(sample.image, 0, 1, check=True)
    assert cache.lose_chunks(sample.image, 0, 1) == [0, 4]
    for number in range(4):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    assert cache.read_chunks(sample.image, 0, 1, check=True) == [sample.chunk(0)]


def test_after_another_boot_everything_is_looked_at_again(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample({b"/a": content(1, 200_000), b"/b": content(2, 100_000)})
    fill(cache, sample)
    cache.make_view(sample.image)
    path = Path(cache.directory) / "files" / sample.layout.id_of(1).hex()
    path.chmod(0o600)
    # What a power cut leaves of a file that was not flushed: its size, and zeros.
    path.write_bytes(bytes(100_000))
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(disk_module, "BOOT_ID", str(boot))
    later = again(cache)
    assert later.examine(sample.image)[1] == [0, 4]
    assert not list((Path(cache.directory) / "views").iterdir())
    later.close()


def test_the_image_that_was_used_longest_ago_makes_room(cache: Cache) -> None:
    samples = [Sample({b"/a": content(number, 1_500_000)}) for number in range(3)]
    for number, sample in enumerate(samples):
        fill(cache, sample)
        if number == 0:
            cache.make_view(sample.image)
        cache.forget(sample.image)
        os.utime(Path(cache.directory) / "manifests" / sample.image.hex(), (number, number))
    assert cache.examine(samples[0].image)[0] == b""
    assert cache.examine(samples[1].image)[1] == [0, samples[1].layout.chunks]
    assert cache.examine(samples[2].image)[1] == [0, samples[2].layout.chunks]
    assert cache.used_bytes == 3_000_000
    assert not list((Path(cache.directory) / "views").iterdir())


def test_what_is_in_use_is_not_evicted(cache: Cache) -> None:
    first, second = (Sample({b"/a": content(number, 2_500_000)}) for number in range(2))
    fill(cache, first)
    with pytest.raises(ImageError, match="is full"):
        fill(cache, second)
    assert cache.read_chunks(first.image, 0, 1, check=True)


def test_an_image_that_is_larger_than_the_cache_is_refused_at_once(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, LIMIT + 1)})
    told = f"has {LIMIT + 1} bytes; the image cache of n7 .* holds at most {LIMIT}: .*cache_bytes there"
    with pytest.raises(ImageError, match=told):
        cache.keep_manifest(sample.image, sample.encoded)


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(str(tmp_path / "file" / "images"), LIMIT, "n7")
    with pytest.raises(ImageError, match="the image cache of n7 fails at"):
        cache.examine(bytes(32))


def test_no_more_files_are_open_than_the_bound(cache: Cache) -> None:
    sample = Sample({b"/%d" % number: content(number, 10) for number in range(100)})
    before = len(os.listdir("/proc/self/fd"))
    fill(cache, sample)
    cache.read_chunks(sample.image, 0, 100, check=True)
    # And one that holds the image against others who need room.
    assert len(os.listdir("/proc/self/fd")) - before <= content_module.MAX_OPEN_FILES + 1


def test_a_view_does_not_outlive_a_file_that_was_damaged(cache: Cache) -> None:
    sample, other = Sample({b"/a": content(1, 200_000)}), Sample({b"/b": content(2, 1_000)})
    for one in (sample, other):
        fill(cache, one)
    view, untouched = Path(cache.make_view(sample.image)), Path(cache.make_view(other.image))
    with (view / "0").open("r+b") as file:
        file.write(b"damage")
    assert cache.lose_chunks(sample.image, 0, 1) == [0, sample.layout.chunks]
    assert untouched.exists()
    for number in range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    assert (Path(cache.make_view(sample.image)) / "0").read_bytes() == content(1, 200_000)


@pytest.mark.parametrize("size", [199_999, 200_000, 200_001])
def test_a_file_that_somebody_has_written_to_is_fetched_anew(cache: Cache, size: int) -> None:
    log: list[str] = []
    cache = Cache(cache.directory, LIMIT, "n7", lambda level, text: log.append(text))
    sample = Sample({b"/a": content(1, 200_000), b"/b": content(2, 1_000)})
    fill(cache, sample)
    view = Path(cache.make_view(sample.image))
    used_bytes = cache.used_bytes
    cache.forget(sample.image)
    assert cache.examine(sample.image)[1] == [0, sample.layout.chunks]
    cache.forget(sample.image)
    with (view / "0").open("r+b") as file:
        file.truncate(size)
        file.write(b"damage")
    have = cache.examine(sample.image)[1]
    assert have == [sample.layout.chunks - 1, 1]
    assert not view.exists()
    assert [line for line in log if "was changed by somebody: it is fetched anew" in line]
    for number in range(sample.layout.chunks - 1):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    assert (Path(cache.make_view(sample.image)) / "0").read_bytes() == content(1, 200_000)
    assert abs(cache.used_bytes - used_bytes) < 4096
    cache.close()


def test_a_file_that_only_looks_written_to_is_looked_at_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    fill(cache, sample)
    view = cache.make_view(sample.image)
    cache.forget(sample.image)
    os.utime(view + "/0")
    # Also by a cache of a release that did not set the time.
    assert cache.examine(sample.image)[1] == [0, sample.layout.chunks]
    cache.forget(sample.image)
    monkeypatch.setattr(cache._content, "_check", lambda *arguments: pytest.fail("it is looked at again"))
    assert cache.examine(sample.image)[1] == [0, sample.layout.chunks]
    assert os.path.isdir(view)


def test_a_cache_that_was_removed_is_made_anew(cache: Cache) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    fill(cache, sample)
    shutil.rmtree(cache.directory)
    assert cache.examine(sample.image) == (b"", [])
    assert cache.used_bytes == 0
    fill(cache, sample)
    assert (Path(cache.make_view(sample.image)) / "0").read_bytes() == content(1, 200_000)


def arrive(cache: Cache, sample: Sample) -> Path:
    """Do what a launch does, and return the view."""
    encoded, have = cache.examine(sample.image)
    if not encoded:
        encoded, have = cache.keep_manifest(sample.image, sample.encoded)
    here = {chunk for first, count in zip(have[::2], have[1::2], strict=True) for chunk in range(first, first + count)}
    for number in range(sample.layout.chunks):
        if number not in here:
            cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    return Path(cache.make_view(sample.image))


def assert_right(view: Path, sample: Sample) -> None:
    assert {item.name for item in view.iterdir()} == {"manifest", *map(str, range(len(sample.contents)))}
    assert (view / "manifest").read_bytes() == sample.encoded
    for number, expected in enumerate(sample.contents):
        assert (view / str(number)).read_bytes() == expected
        assert (view / str(number)).stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("held", [False, True], ids=["at rest", "in use"])
@pytest.mark.parametrize("folder", ["manifests", "files", "partial", "views", "stage"])
def test_each_directory_of_a_cache_may_be_removed(cache: Cache, folder: str, held: bool) -> None:
    log: list[str] = []
    cache = Cache(cache.directory, LIMIT, "n7", lambda level, text: log.append(text))
    sample, new = Sample({b"/a": content(1, 200_000), b"/b": b""}), Sample({b"/c": content(3, 100_000)})
    arrive(cache, sample)
    if not held:
        cache.forget(sample.image)
    shutil.rmtree(Path(cache.directory) / folder)
    for one in (sample, new):
        assert_right(arrive(cache, one), one)
    assert (Path(cache.directory) / folder).is_dir()
    assert [line for line in log if line.startswith(f"{cache.directory} has lost {folder}: ")]
    assert cache.used_bytes == 300_000
    cache.close()


@pytest.mark.parametrize("folder", ["manifests", "files", "partial", "views"])
def test_a_directory_that_goes_in_the_middle_costs_one_transfer(cache: Cache, folder: str) -> None:
    sample = Sample({b"/a": content(1, 200_000), b"/b": content(2, 200_000)})
    fill(cache, sample, range(6))
    shutil.rmtree(Path(cache.directory) / folder)
    # Whatever becomes of it, it is said in words.
    with contextlib.suppress(ImageError):
        for number in range(6, sample.layout.chunks):
            cache.keep_chunks(sample.image, number, [sample.chunk(number)])
        cache.make_view(sample.image)
    cache.lose_chunks(sample.image, 0, 1)
    cache.forget(sample.image)
    assert_right(arrive(cache, sample), sample)


def junk(path: Path) -> None:
    """Write into a file as a shell does."""
    path.write_bytes(b"junk")


def exchange(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"junk")


def to_directory(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text("")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to("../moved")


@pytest.mark.parametrize("damage", [junk, exchange, Path.unlink, to_directory, to_pipe, to_link])
@pytest.mark.parametrize("place", ["manifests/{image}", "files/{file}", "views/{image}/manifest", "views/{image}/0"])
def test_what_people_put_in_the_place_of_a_file_is_removed(
    cache: Cache, place: str, damage: Callable[[Path], None]
) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    arrive(cache, sample)
    cache.forget(sample.image)
    damage(Path(cache.directory) / place.format(image=sample.image.hex(), file=sample.layout.id_of(0).hex()))
    assert_right(arrive(cache, sample), sample)
    for _ in range(2):
        # And it stays so, without that anything is made once more.
        cache.forget(sample.image)
        before = (Path(cache.directory) / "views" / sample.image.hex()).stat().st_ino
        view = arrive(cache, sample)
        assert view.stat().st_ino == before
        assert_right(view, sample)


@pytest.mark.parametrize("damage", [to_directory, to_pipe, to_link])
def test_what_is_put_in_the_place_of_an_incomplete_file_is_removed(
    cache: Cache, damage: Callable[[Path], None]
) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    fill(cache, sample, range(2))
    cache.forget(sample.image)
    cache.close()
    damage(next((Path(cache.directory) / "partial").iterdir()))
    assert_right(arrive(cache, sample), sample)


@pytest.mark.parametrize("mode", [0o000, 0o644, 0o4755])
def test_a_file_whose_mode_was_changed_gets_its_own_again(cache: Cache, mode: int) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    view = arrive(cache, sample)
    cache.forget(sample.image)
    (view / "0").chmod(mode)
    # Its content is what it was: nothing comes anew.
    assert cache.examine(sample.image)[1] == [0, sample.layout.chunks]
    assert (view / "0").stat().st_mode & 0o7777 == 0o444
    assert arrive(cache, sample) == view


@pytest.mark.parametrize("damage", [to_directory, to_link])
def test_another_boot_passes_over_what_is_no_file(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    sample = Sample({b"/a": content(1, 200_000)})
    arrive(cache, sample)
    for name in ("boot", f"files/{sample.layout.id_of(0).hex()}"):
        damage(Path(cache.directory) / name)
    monkeypatch.setattr(disk_module, "BOOT_ID", str(tmp_path / "boot"))
    (tmp_path / "boot").write_text("another\n")
    later = again(cache)
    assert_right(arrive(later, sample), sample)
    later.close()


def test_on_a_disk_that_is_full_what_nobody_uses_goes_first(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "1m") as disk,
        contextlib.closing(Cache(str(disk / "images"), LIMIT, "n7")) as cache,
    ):
        for number in range(1, 4):
            sample = Sample({b"/a": content(number, 600_000)})
            fill(cache, sample)
            assert cache.examine(sample.image)[1] == [0, sample.layout.chunks]
            cache.forget(sample.image)
        with pytest.raises(ImageError, match=r"holds at most \d+: send less, or free some room there"):
            fill(cache, Sample({b"/a": content(9, 2_000_000)}))
        sample = Sample({b"/a": content(9, 600_000)})
        fill(cache, sample, range(1))
        fill_disk(disk)
        # First in the place of an image that nobody uses.
        cache.keep_chunks(sample.image, 1, [sample.chunk(1)])
        fill_disk(disk)
        with pytest.raises(ImageError, match=r"is full: all \d+ bytes .* free some room there"):
            cache.keep_chunks(sample.image, 2, [sample.chunk(2)])
        cache.forget(sample.image)
        (disk / "filler").unlink()
        # What has come of it is gone: whoever else writes to this disk, such as a new head, finds room.
        assert shutil.disk_usage(disk).used < 100_000
        assert cache.used_bytes == 0


# ------------------------------------------------------------------ copies


def names(cache: Cache, folder: str) -> list[str]:
    return sorted(os.listdir(os.path.join(cache.directory, folder)))


def test_a_copy_goes_when_nobody_uses_it_and_a_program_stays(cache: Cache) -> None:
    program = Sample({b"/a": content(1, 200_000), b"/both": content(2, 70_000)})
    copy = Sample({b"/copy/x": content(3, 300_000), b"/copy/both": content(2, 70_000)})
    for sample in (program, copy):
        fill(cache, sample)
        cache.make_view(sample.image)
    assert names(cache, "copies") == [copy.image.hex()]
    # Used by a transfer; kept by the core; and read by a process.
    assert not cache.drop_copies(())
    cache.forget(copy.image)
    cache.forget(program.image)
    assert not cache.drop_copies([copy.image])
    given = open_view(os.fsencode(os.path.join(cache.directory, "views", copy.image.hex())))
    try:
        assert cache.drop_copies(())
        assert cache.used_bytes == 570_000
    finally:
        for fd in given:
            os.close(fd)
    assert not cache.drop_copies(())
    assert cache.used_bytes == 270_000
    assert names(cache, "views") == names(cache, "manifests") == [program.image.hex()]
    assert cache.examine(copy.image) == (b"", [])
    # What both had is still right.
    assert cache.examine(program.image)[1] == [0, program.layout.chunks]
    assert_right(Path(cache.make_view(program.image)), program)


def test_a_part_of_a_copy_that_an_agent_has_left_goes(cache: Cache) -> None:
    copy = Sample({b"/copy/x": content(3, 300_000)})
    fill(cache, copy, range(2))
    later = again(cache)
    assert not later.drop_copies(())
    assert names(later, "copies") == names(later, "partial") == names(later, "files") == []
    assert later.used_bytes == 0
    later.close()


def test_copies_go_before_programs_when_room_is_needed(cache: Cache) -> None:
    program, copy, other = (
        Sample({b"/a": content(1, 1_500_000)}),
        Sample({b"/copy/a": content(2, 1_500_000)}),
        Sample({b"/b": content(3, 1_500_000)}),
    )
    for sample in (program, copy, other):
        fill(cache, sample)
        cache.forget(sample.image)
    os.utime(os.path.join(cache.directory, "manifests", program.image.hex()), (1, 1))
    assert names(cache, "copies") == []
    assert len(names(cache, "manifests")) == 2


def test_a_cache_that_was_never_used_has_no_copies_to_drop(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "none" / "images"), LIMIT, "n7")
    assert not cache.drop_copies(())
    assert not (tmp_path / "none").exists()


def test_what_is_no_copy_among_the_copies_is_removed(cache: Cache) -> None:
    fill(cache, Sample({b"/copy/x": content(3, 10)}))
    folder = Path(cache.directory) / "copies"
    (folder / "no name").write_text("x")
    (folder / ("00" * 32)).write_text("no manifest")
    later = again(cache)
    assert not later.drop_copies(())
    assert not list(folder.iterdir())
    later.close()
