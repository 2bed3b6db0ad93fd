"""Copied files at their place: whole or not at all, nothing believed that a stranger says."""

from __future__ import annotations

import os
import stat
import subprocess
from errno import EOPNOTSUPP
from pathlib import Path

import pytest

from heorot.core.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.errors import ProtocolError
from heorot.images.copy_stream import Receiver, Sender
from heorot.images.placing import Item, Placer, PlacingError, copy_from, write_all

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
