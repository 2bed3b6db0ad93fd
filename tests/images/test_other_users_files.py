"""What root does with files where another user can write: it opens and writes nothing that he has put there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from heorot.cli.foreground.held import Held
from heorot.core.client.job import STDOUT
from heorot.core.client.read_stream import ReadStream
from heorot.images import offer as offers
from heorot.images.files import open_file
from heorot.images.identity import ImageError
from heorot.images.offer import Offer
from tests.support.other_user import OTHER, as_other, open_to_all


def test_nothing_but_a_regular_file_is_opened_to_be_compared(tmp_path: Path) -> None:
    flags: list[int] = []

    def opener(path: bytes, wanted: int) -> int:
        flags.append(wanted)
        return os.open(path, wanted)

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (b"/dev/null", os.fsencode(fifo), os.fsencode(tmp_path)):
        with pytest.raises(ImageError, match="is not a regular file"):
            open_file(path, opener)
    # To open some devices is to use them: only what a path leads to was looked at.
    assert [flag & os.O_PATH for flag in flags] == [os.O_PATH] * 3
    (tmp_path / "file").write_bytes(b"content")
    fd, status = open_file(os.fsencode(tmp_path / "file"), opener)
    assert os.read(fd, 10) == b"content"
    assert status.st_size == 7
    os.close(fd)


def test_a_file_that_one_may_not_read_is_still_said_to_be_that(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "secret").chmod(0o600)

    def opened() -> str:
        try:
            open_file(os.fsencode(tmp_path / "secret"))
        except ImageError as error:
            return str(error)
        return ""

    assert as_other(opened) == f"cannot read {tmp_path}/secret: Permission denied"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other user's home, which root's environment names as after `su` or `sudo` that keep it."""
    open_to_all(tmp_path)
    place = tmp_path / "home"
    place.mkdir()
    os.chown(place, OTHER, OTHER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(place))
    return place


def save(program: Path) -> None:
    path = offers._saved_path(b"x")
    offers._save(path, [b"key"], Offer(b"image", os.fsencode(program), b"id", b"manifest"), [b"/bin/sh"])


def test_root_saves_nothing_where_another_user_could_lead_it_elsewhere(home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "cron.d"
    victim.mkdir()

    def plant() -> None:
        (home / ".cache" / "heorot").mkdir(parents=True)
        (home / ".cache" / "heorot" / "images").symlink_to(victim)

    as_other(plant)
    save(Path("/bin/sh"))
    assert os.listdir(victim) == []
    # In a home of its own it does.
    own = tmp_path / "own"
    own.mkdir()
    os.environ["HOME"] = str(own)
    save(Path("/bin/sh"))
    assert len(os.listdir(own / ".cache" / "heorot" / "images")) == 1
    assert (own / ".cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["fifo", "link", "file"])
def test_root_neither_waits_for_nor_believes_what_another_user_has_saved(home: Path, tmp_path: Path, kind: str) -> None:
    path = offers._saved_path(b"x")
    assert path is not None

    def plant() -> None:
        os.makedirs(os.path.dirname(path))
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            os.symlink("/etc/hostname", path)
        else:
            Path(os.fsdecode(path)).write_bytes(b"anything")

    as_other(plant)
    opened: list[str] = []
    real = os.open

    def noting(name: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        try:
            return real(name, flags, mode, dir_fd=dir_fd)
        except OSError as error:
            opened.append(errno.errorcode[error.errno or 0])
            raise

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", noting)
        assert offers._recall(path, b"/bin/sh", [b"key"]) is None
    assert opened == (["ELOOP"] if kind == "link" else [])


def test_what_root_puts_aside_in_a_directory_of_another_user_cannot_be_had_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all(tmp_path)
    place = tmp_path / "tmp"
    place.mkdir()
    os.chown(place, OTHER, OTHER)
    monkeypatch.setenv("TMPDIR", str(place))
    held = Held(lambda stream, count: None, max_memory_bytes=0)
    held.add(ReadStream(0, STDOUT), b"secret")
    try:
        # No name, so neither a link planted beforehand nor one made afterwards matters; and nobody else may open it.
        assert as_other(lambda: os.listdir(place)) == []
        (fd,) = (int(name) for name in os.listdir("/proc/self/fd") if _is_in(place, name))
        assert os.fstat(fd).st_nlink == 0
        assert as_other(lambda: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))) == ["OSError", errno.EACCES]
    finally:
        held.close()


def _is_in(place: Path, fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(str(place))
    except OSError:
        return False
