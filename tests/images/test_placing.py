"""Copied files at their place: whole or not at all, nothing believed that a stranger says."""

from __future__ import annotations

import os
import stat
import subprocess
from errno import EOPNOTSUPP
from pathlib import Path

import pytest

from heorot.core.client import short_msgpack
from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images import copy_stream
from heorot.images.copy_stream import MAX_COMPLAINTS, Receiver, Sender
from heorot.images.new_file import Item, PlacingError, copy_from, write_all
from heorot.images.placing import Placer

NEW = b"new content"


@pytest.fixture(params=["without a name", "with a hidden name"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write a file that is not complete."""
    if request.param == "with a hidden name":
        real = os.open

        def refusing(path: bytes, flags: int, mode: int = 0o777, **options: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(EOPNOTSUPP, "")
            return real(path, flags, mode, **options)

        monkeypatch.setattr(os, "open", refusing)


def put(destination: Path, item: Item, content: bytes = NEW) -> None:
    placer = Placer(os.fsencode(destination), False)
    placer.place(item, lambda fd: write_all(fd, content))
    assert placer.finish() == []


def file(name: bytes = b"source", mode: int = 0o644) -> Item:
    return Item(name, FILE, mode, b"", [])


@pytest.mark.usefixtures("_way")
def test_a_file_is_new_or_takes_the_place_of_another(tmp_path: Path) -> None:
    put(tmp_path / "x", file(mode=0o755))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755 & ~umask
    (tmp_path / "x").chmod(0o640)
    before = (tmp_path / "x").stat().st_ino
    with open(tmp_path / "x", "rb") as reader:
        put(tmp_path / "x", file(mode=0o755), b"later")
        # Who has it open reads on in what it was.
        assert reader.read() == NEW
    after = (tmp_path / "x").stat()
    assert (tmp_path / "x").read_bytes() == b"later"
    assert after.st_ino != before
    assert stat.S_IMODE(after.st_mode) == 0o640
    put(tmp_path, file())
    assert sorted(os.listdir(tmp_path)) == ["source", "x"]


@pytest.mark.usefixtures("_way")
def test_after_a_failure_all_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def fail(fd: int) -> None:
        write_all(fd, b"half")
        raise OSError(28, "")

    for name in ("x", "y"):
        with pytest.raises(PlacingError, match=f"cannot write {tmp_path}/{name}: No space left on device"):
            Placer(os.fsencode(tmp_path / name), False).place(file(), fail)
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.skipif(os.getuid() != 0, reason="mounts")
def test_a_file_system_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", tmp_path / "x"], check=True)
    try:
        with pytest.raises(PlacingError, match=f"cannot write {tmp_path}/x/source: Read-only file system"):
            put(tmp_path / "x", file())
    finally:
        subprocess.run(["umount", tmp_path / "x"], check=True)


def test_a_link_is_followed_and_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    put(tmp_path / "link", file())
    assert (tmp_path / "file").read_bytes() == NEW
    assert os.readlink(tmp_path / "link") == "file"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PlacingError, match="it is no regular file"):
        put(tmp_path / "pipe", file())
    (tmp_path / "d" / "source").mkdir(parents=True)
    with pytest.raises(PlacingError, match="Is a directory"):
        put(tmp_path / "d", file())


@pytest.mark.parametrize(
    "items",
    [
        [Item(b"..", FILE, 0o644, b"", [])],
        [Item(b"a/../../x", FILE, 0o644, b"", [])],
        [Item(b"/x", FILE, 0o644, b"", [])],
        [Item(b"a/x", FILE, 0o644, b"", [])],
        [Item(b"a\0", FILE, 0o644, b"", [])],
        [file(b"a"), file(b"a")],
        [file(b"a"), Item(b"a/x", FILE, 0o644, b"", [])],
        # Through a link that came before, or was there.
        [
            Item(b"a", DIRECTORY, 0o755, b"", []),
            Item(b"a/l", SYMLINK, 0o777, b"/tmp", []),
            Item(b"a/l/x", FILE, 0o644, b"", []),
        ],
        [Item(b"t", DIRECTORY, 0o755, b"", []), Item(b"t/l", DIRECTORY, 0o755, b"", [])],
        [Item(b"a", 7, 0o644, b"", [])],
        [Item(b"a", SYMLINK, 0o777, b"", [])],
    ],
)
def test_nothing_gets_out_of_the_destination(tmp_path: Path, items: list[Item]) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "t").mkdir(parents=True)
    outside.mkdir()
    (inside / "t" / "l").symlink_to(outside)
    placer = Placer(os.fsencode(inside), True)
    for item in items[:-1]:
        placer.place(item, lambda fd: None)
    with pytest.raises(PlacingError):
        placer.place(items[-1], lambda fd: None)
    assert os.listdir(outside) == []
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]


def test_a_link_in_the_directory_is_replaced_and_one_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "d" / "source").symlink_to(tmp_path / "file")
    put(tmp_path / "d", file())
    assert not (tmp_path / "d" / "source").is_symlink()
    assert (tmp_path / "d" / "source").read_bytes() == NEW
    assert (tmp_path / "file").read_bytes() == b"old"
    (tmp_path / "link").symlink_to("missing")
    with pytest.raises(PlacingError, match=f"cannot write {tmp_path}/link: No such file or directory"):
        put(tmp_path / "link", file())
    assert sorted(os.listdir(tmp_path)) == ["d", "file", "link"]


def test_a_link_to_a_directory_in_the_directory_is_not_copied_into(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "d" / "a").symlink_to(tmp_path / "other")
    with pytest.raises(PlacingError, match=f"cannot write {tmp_path}/d/a: File exists"):
        Placer(os.fsencode(tmp_path / "d"), True).place(Item(b"a", DIRECTORY, 0o755, b"", []))


@pytest.mark.parametrize("attributes", [[], [0o777, os.getuid(), os.getgid(), 0]])
@pytest.mark.parametrize("other", ["link", "directory"])
def test_a_directory_that_was_exchanged_keeps_its_mode(tmp_path: Path, attributes: list[int], other: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir(mode=0o700)
    placer = Placer(os.fsencode(inside), True)
    placer.place(Item(b"a", DIRECTORY, 0o755, b"", attributes))
    (inside / "a").rename(inside / "moved")
    if other == "link":
        (inside / "a").symlink_to(outside)
    else:
        outside.rename(inside / "a")
    said = [str(failure) for failure in placer.finish()]
    assert said == [
        f"cannot write {inside}/a: Not a directory"
        if other == "link"
        else f"{inside}/a was exchanged while it was written: its mode is not set"
    ]
    assert stat.S_IMODE((inside / "a").stat().st_mode) == 0o700


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_nobody_leads_a_copy_elsewhere_by_an_exchange(tmp_path: Path, when: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    placer = Placer(os.fsencode(inside), True)
    placer.place(Item(b"a", DIRECTORY, 0o755, b"", []))

    def exchange() -> None:
        (inside / "a").rename(inside / "moved")
        (inside / "a").symlink_to(outside)

    if when == "before":
        exchange()
    with pytest.raises(PlacingError, match=f"cannot write {inside}/a/x: Not a directory"):
        placer.place(Item(b"a/x", FILE, 0o644, b"", []), lambda fd: exchange() if when == "meanwhile" else None)
    if when == "before":
        for item in Item(b"a/d", DIRECTORY, 0o755, b"", []), Item(b"a/l", SYMLINK, 0o777, b"x", []):
            with pytest.raises(PlacingError, match="Not a directory"):
                placer.place(item)
    assert os.listdir(outside) == []


def test_a_time_that_no_clock_shows_is_said(tmp_path: Path) -> None:
    item = Item(b"x", FILE, 0o644, b"", [0o644, os.getuid(), os.getgid(), 1 << 100])
    with pytest.raises(PlacingError, match=r"cannot write .*: Numerical result out of range"):
        put(tmp_path, item)
    assert os.listdir(tmp_path) == []


def test_an_owner_that_cannot_be_is_not_given_and_no_set_id_bit_either(tmp_path: Path) -> None:
    put(tmp_path, Item(b"x", FILE, 0o644, b"", [0o6755, 1 << 60, 1 << 60, 0]))
    status = (tmp_path / "x").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.getuid(), 0o755)


def test_what_the_kernel_cannot_copy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(18, "")

    (tmp_path / "a").write_bytes(NEW * 100_000)
    with open(tmp_path / "a", "rb") as source:
        fill = copy_from(source.fileno(), len(NEW) * 100_000)
        Placer(os.fsencode(tmp_path / "b"), False).place(file(), fill)
        monkeypatch.setattr(os, "copy_file_range", refuse)
        Placer(os.fsencode(tmp_path / "c"), False).place(file(), fill)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


# ------------------------------------------------------------------ the stream


def stream(tmp_path: Path, said: list[str]) -> bytes:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "file").write_bytes(NEW * 50_000)
    (tree / "link").symlink_to("d")
    (tree / "d").chmod(0o500)
    os.mkfifo(tree / "pipe")
    with open(tmp_path / "stream", "wb") as out:
        sender = Sender(out.fileno(), said.append)
        sender.send(os.fsencode(tree), b"0", True)
        sender.send(b"/no/such", b"1", True)
        sender.end()
    return (tmp_path / "stream").read_bytes()


def receiver(destination: Path, said: list[str]) -> Receiver:
    return Receiver(Placer(os.fsencode(destination), False), lambda first: b"copy", True, said.append)


@pytest.mark.parametrize("step", [1 << 20, 1000, 7])
def test_a_stream_comes_in_pieces_of_any_size(tmp_path: Path, step: int) -> None:
    said: list[str] = []
    data = stream(tmp_path, said)
    assert said == [
        f"{tmp_path}/tree/pipe is not a regular file: left out",
        "cannot read /no/such: No such file or directory",
    ]
    taken = receiver(tmp_path / "back", said)
    for at in range(0, len(data), step):
        taken.feed(data[at : at + step])
    assert taken.ended
    assert (tmp_path / "back" / "d" / "file").read_bytes() == NEW * 50_000
    assert os.readlink(tmp_path / "back" / "link") == "d"
    assert stat.S_IMODE((tmp_path / "back" / "d").stat().st_mode) == 0o500
    for name in ("tree", "back"):
        (tmp_path / name / "d").chmod(0o700)


def test_a_stream_that_breaks_off_leaves_no_half_file(tmp_path: Path) -> None:
    data = stream(tmp_path, [])
    taken = receiver(tmp_path / "back", [])
    taken.feed(data[: len(data) // 2])
    taken.close()
    assert not taken.ended
    assert os.listdir(tmp_path / "back" / "d") == []
    (tmp_path / "tree" / "d").chmod(0o700)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\x90", b"\0\0\0\2\x91\x01", b"\0\0\0\4\x97\0\0\0"]
)
def test_what_is_no_stream_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        receiver(tmp_path / "back", []).feed(data)
    assert os.listdir(tmp_path) == []


def header(*fields: object) -> bytes:
    data = short_msgpack.packb(fields)
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\x10\0" + b"\x91" * 0x1000,
        header(FILE, 1 << 60, 0o644, 0, 0, 0, b""),
        header(FILE, "0", 0o644, 0, 0, 0, b""),
        header(SYMLINK, b"0", 0o777, 0, 0, 0, 1 << 60),
        header(FILE, b"0", 0o644, 1 << 32, 0, 0, b""),
        header(FILE, b"0", 0o644, 0, (1 << 32) - 1, 0, b""),
        header(FILE, b"0", 0o644, -1, 0, 0, b""),
        header(FILE, b"0", 1 << 32, 0, 0, 0, b""),
        header(FILE, b"0", 0o644, 0, 0, float("inf"), b""),
        header(FILE, b"0", 0o644, 0, 0, b"0", b""),
        header(float("inf"), b"0", 0o644, 0, 0, 0, b""),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="the node sent a header that cannot be read"):
        receiver(tmp_path / "back", []).feed(data)
    assert os.listdir(tmp_path) == []


def test_nothing_is_kept_of_what_follows_the_end(tmp_path: Path) -> None:
    at_once, later = receiver(tmp_path / "a", []), receiver(tmp_path / "b", [])
    with pytest.raises(ProtocolError, match="the node sent more after the end"):
        at_once.feed(bytes(4) + b"x")
    later.feed(bytes(4))
    assert later.ended
    with pytest.raises(ProtocolError, match="the node sent more after the end"):
        later.feed(b"x")


def test_what_is_said_of_one_stream_is_bounded(tmp_path: Path) -> None:
    said: list[str] = []
    taken = receiver(tmp_path / "back", said)
    for number in range(MAX_COMPLAINTS + 80):
        taken.feed(header(SYMLINK, b"0/%d" % number, 0o777, 0, 0, 0, b"x"))
    assert len(said) == MAX_COMPLAINTS
    taken.feed(bytes(4))
    taken.close()
    taken.close()
    assert len(said) == MAX_COMPLAINTS + 1
    assert said[-1] == "... and 80 more"


@pytest.mark.parametrize(("bound", "value"), [("MAX_ENTRIES", 2), ("MAX_NAMES_BYTES", 5)])
def test_a_stream_has_so_many_files_and_no_more(
    tmp_path: Path, bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_stream, bound, value)
    taken = receiver(tmp_path / "back", [])
    taken.feed(header(DIRECTORY, b"0", 0o755, os.getuid(), os.getgid(), 0, b""))
    taken.feed(header(SYMLINK, b"0/a", 0o777, 0, 0, 0, b"x"))
    with pytest.raises(ProtocolError, match=r"the node sent more than .*: copy fewer, or one archive of them"):
        taken.feed(header(SYMLINK, b"0/b", 0o777, 0, 0, 0, b"x"))
    assert os.listdir(tmp_path / "back") == ["a"]


def send(path: Path, out: Path, said: list[str]) -> bytes:
    with open(out, "wb") as stream:
        sender = Sender(stream.fileno(), said.append)
        sender.send(os.fsencode(path), b"0", True)
        sender.end()
    return out.read_bytes()


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x").write_bytes(b"mine")
    real = os.lstat

    def exchanging(path: str | bytes, *, dir_fd: int | None = None) -> os.stat_result:
        status = real(path, dir_fd=dir_fd)
        # This file alone: whoever reports a failure asks for those of Python's own library.
        if path == b"x":
            os.unlink(tmp_path / "tree" / "x")
            os.symlink(tmp_path / "secret", tmp_path / "tree" / "x")
        return status

    said: list[str] = []
    monkeypatch.setattr(os, "lstat", exchanging)
    data = send(tmp_path / "tree", tmp_path / "stream", said)
    monkeypatch.undo()
    assert b"secret" not in data
    assert said == [f"cannot read {tmp_path}/tree/x: Too many levels of symbolic links"]
    # One that is named itself is.
    assert b"secret" in send(tmp_path / "tree" / "x", tmp_path / "stream", said)


@pytest.mark.parametrize("size", [0, 100])
def test_a_file_that_grows_is_read_to_the_size_that_it_had(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_stream, "MAX_UNSIZED_BYTES", 100)
    (tmp_path / "x").write_bytes(bytes(size))
    real = os.read
    reads: list[int] = []

    def growing(fd: int, length: int) -> bytes:
        reads.append(length)
        assert len(reads) < 100
        with open(tmp_path / "x", "ab") as file:
            file.write(bytes(length))
        return real(fd, length)

    said: list[str] = []
    monkeypatch.setattr(os, "read", growing)
    data = send(tmp_path / "x", tmp_path / "stream", said)
    monkeypatch.undo()
    # And one byte more, which shows that it has grown.
    assert reads == ([size, 1] if size else [1])
    assert said == [f"{tmp_path}/x has changed while it was read"]
    back = receiver(tmp_path / "back", said)
    back.feed(data)
    assert back.ended
    assert not (tmp_path / "back").exists()


def test_a_file_that_has_no_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_stream, "MAX_UNSIZED_BYTES", 1000)
    (tmp_path / "x").write_bytes(bytes(100))
    said: list[str] = []
    monkeypatch.setattr(os, "read", lambda fd, length: bytes(min(length, 300)))
    data = send(tmp_path / "x", tmp_path / "stream", said)
    monkeypatch.undo()
    assert said == [f"{tmp_path}/x says that it has 100 bytes, and has 1301 or more"]
    back = receiver(tmp_path / "back", said)
    back.feed(data)
    assert back.ended
    assert not (tmp_path / "back").exists()


def test_a_file_that_says_it_is_empty_is_read(tmp_path: Path) -> None:
    said: list[str] = []
    taken = receiver(tmp_path / "back", said)
    taken.feed(send(Path("/proc/version"), tmp_path / "stream", said))
    assert said == []
    assert (tmp_path / "back").read_bytes() == Path("/proc/version").read_bytes()


def test_a_time_that_no_header_can_hold_costs_this_file_only(tmp_path: Path) -> None:
    disk, said = tmp_path / "disk", list[str]()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        (disk / "file").write_text("text")
        os.utime(disk / "file", (1 << 40, 1 << 40))
        assert send(disk / "file", tmp_path / "out", said) == bytes(4)
        assert said == [f"cannot read {disk}/file: Value too large for defined data type"]
    finally:
        subprocess.run(["umount", disk], check=True)
