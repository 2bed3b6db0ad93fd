"""Values that are written in place: on a full disk, with torn writes, beside readers, and from earlier releases."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.linux.slot_file import BLOCK_BYTES, DamagedFile, SlotFile, with_room
from tests.support.disks import fill, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "64k") as made:
        yield made


def test_a_value_is_replaced_on_a_disk_that_has_become_full(disk: Path) -> None:
    file = SlotFile(disk / "epoch", durable=True)
    file.reserve()
    assert file.read() is None
    fill(disk)
    for epoch in range(1, 20):
        file.write(b"%d" % epoch)
        assert SlotFile(disk / "epoch").read() == b"%d" % epoch
    # One that owns nothing yet cannot be made, and leaves nothing behind.
    with pytest.raises(OSError, match="No space left"):
        SlotFile(disk / "other", durable=True).write(b"1")
    assert sorted(os.listdir(disk)) == ["epoch", "filler"]


def test_a_write_that_is_torn_at_any_byte_leaves_the_former_value_or_gives_the_new_one(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "epoch")
    for value in (b"1", b"22", b"333"):
        file.write(value)
    before = (tmp_path / "epoch").read_bytes()
    file.write(b"4444")
    after = (tmp_path / "epoch").read_bytes()
    changed = [index for index in range(len(before)) if before[index] != after[index]]
    # All of what was written is in one slot, and so in blocks of its own.
    assert len({index // BLOCK_BYTES for index in changed}) == 1
    seen = set()
    for cut in range(changed[0], changed[-1] + 2):
        (tmp_path / "epoch").write_bytes(after[:cut] + before[cut:])
        seen.add(file.read())
    assert seen == {b"333", b"4444"}
    # What is read from a torn file goes on: the next value does not go over the one that counts.
    (tmp_path / "epoch").write_bytes(after[: changed[-1]] + before[changed[-1] :])
    assert file.read() == b"333"
    file.write(b"5")
    assert file.read() == b"5"


def test_what_could_not_be_flushed_is_not_the_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SlotFile(tmp_path / "epoch", durable=True)
    file.write(b"7")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        for epoch in (b"8", b"9"):
            with pytest.raises(OSError, match="Input/output"):
                file.write(epoch)
            assert SlotFile(tmp_path / "epoch").read() == b"7"
    file.write(b"10")
    assert file.read() == b"10"


@pytest.mark.parametrize("former", [b"7\n", b"7", b""])
def test_a_value_of_an_earlier_release_is_read_and_gets_its_slots(tmp_path: Path, former: bytes) -> None:
    path = tmp_path / "epoch"
    path.write_bytes(former)
    file = SlotFile(path, durable=True)
    assert file.read() == former
    file.reserve()
    assert path.read_bytes() == former
    file.convert()
    assert path.stat().st_size == 2 * BLOCK_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert file.read() == former
    file.write(b"8")
    assert file.read() == b"8"
    assert os.listdir(tmp_path) == ["epoch"]
    # Written by hand, as the manual says, it counts as well.
    path.write_bytes(b"17\n")
    assert file.read() == b"17\n"


def test_a_file_of_which_nothing_is_right_is_not_guessed(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "epoch")
    file.write(b"7")
    data = bytearray((tmp_path / "epoch").read_bytes())
    data[data.index(b"\n7") + 1] = ord("9")
    (tmp_path / "epoch").write_bytes(data)
    with pytest.raises(DamagedFile, match="damaged"):
        file.read()


def test_a_value_that_outgrows_its_slots_gets_larger_ones(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "placement")
    for size in (10, 4000, 5000, 100_000, 3):
        file.write(b"x" * size)
        assert file.read() == b"x" * size


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"7")
    (tmp_path / "epoch").symlink_to("target")
    file = SlotFile(tmp_path / "epoch")
    for action in (file.read, lambda: file.write(b"8"), file.convert):
        with pytest.raises(OSError, match="symbolic links"):
            action()
    assert (tmp_path / "target").read_bytes() == b"7"


def test_readers_beside_a_writer_see_only_whole_values_that_grow(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "leader")
    file.write(b"0" * 2000)
    over = threading.Event()

    def write() -> None:
        for number in range(1, 3000):
            file.write(b"%d" % (number % 10) * 2000)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not over.is_set() or not reads:
        value = SlotFile(tmp_path / "leader").read()
        assert value is not None
        assert value == value[:1] * 2000
        reads += 1
    writer.join()


def test_room_is_asked_for_until_there_is_none(disk: Path) -> None:
    spare = [disk / f"spare{number}" for number in range(4)]
    for path in spare:
        path.write_bytes(bytes(BLOCK_BYTES))
    fill(disk)

    def make_room() -> bool:
        if spare:
            spare.pop().unlink()
            return True
        return False

    with_room(lambda: SlotFile(disk / "epoch").write(b"1"), make_room)
    # Its two blocks, and no more than it needs: the others stay.
    assert len(spare) == 2
    with pytest.raises(OSError, match="No space left"):
        with_room(lambda: (disk / "large").write_bytes(bytes(10 * BLOCK_BYTES)), make_room)
    assert spare == []
