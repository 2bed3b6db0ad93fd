"""Which directories a daemon may use: those that nobody but root and itself can change or exchange."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest

from heorot.linux.trusted_path import UntrustedPath, check_directory, check_file, make_directory, open_directory
from tests.support.other_user import OTHER, as_other, open_to_all


def test_ones_own_directory_is_trusted_and_opened(tmp_path: Path) -> None:
    fd = open_directory(tmp_path)
    try:
        assert os.path.samestat(os.fstat(fd), tmp_path.stat())
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "d"
    place.mkdir()
    os.chown(place, 0, OTHER)
    place.chmod(mode)
    with pytest.raises(UntrustedPath, match="may write into"):
        check_directory(place)


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    os.chown(place, OTHER, OTHER)
    with pytest.raises(UntrustedPath, match=f"belongs to uid {OTHER}"):
        check_directory(place)


@pytest.mark.parametrize("spoil", ["owner", "mode"])
def test_an_ancestor_that_others_could_exchange_is_refused(tmp_path: Path, spoil: str) -> None:
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    if spoil == "owner":
        os.chown(tmp_path / "a", OTHER, OTHER)
    else:
        (tmp_path / "a").chmod(0o777)
    with pytest.raises(UntrustedPath, match=f"{tmp_path}/a[ ,]"):
        check_directory(place)
    with pytest.raises(UntrustedPath):
        make_directory(place / "new", 0o755)
    assert os.listdir(place) == []


def test_a_sticky_ancestor_will_do_because_others_cannot_exchange_what_is_ours(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert make_directory(shared / "mine", 0o755)
    check_directory(shared / "mine")
    # The other user tries what the check relies on.
    open_to_all(tmp_path)
    assert as_other(lambda: os.mkdir(shared / "theirs")) is None
    assert as_other(lambda: os.rename(shared / "mine", shared / "theirs" / "old")) == ["OSError", errno.EPERM]


def test_a_link_is_followed_if_its_target_and_its_owner_can_be_trusted(tmp_path: Path) -> None:
    (tmp_path / "real" / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/../real")
    check_directory(tmp_path / "link" / "d")
    os.chown(tmp_path / "link", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(UntrustedPath, match="link belongs to"):
        check_directory(tmp_path / "link" / "d")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UntrustedPath, match="too many"):
        check_directory(tmp_path / "a")
    with pytest.raises(UntrustedPath, match="too many"):
        check_file(tmp_path / "a")


def test_the_private_group_of_the_owner_may_write_but_not_beside_an_access_list(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    place.chmod(0o775)  # root's group is root, which has no other member
    check_directory(place)
    # user::rwx user:OTHER:rwx group::r-x mask::rwx other::r-x, as acl(5) has it in its attribute
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, OTHER), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(place, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    with pytest.raises(UntrustedPath, match="may write into"):
        check_directory(place)


def test_another_user_trusts_what_is_roots(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    assert as_other(lambda: check_directory(tmp_path)) is None


def test_a_file_is_held_to_the_same(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("")
    (tmp_path / "link").symlink_to("f")
    check_file(file)
    check_file(tmp_path / "link")
    os.chown(file, OTHER, OTHER)
    for path in (file, tmp_path / "link"):
        with pytest.raises(UntrustedPath, match=f"belongs to uid {OTHER}"):
            check_file(path)
    with pytest.raises(FileNotFoundError):
        check_file(tmp_path / "nothing")


def test_a_directory_is_made_with_its_parents_and_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    script = "import os, sys; from heorot.linux.trusted_path import *; os.umask(0o077); "
    script += "print(make_directory(sys.argv[1], 0o711, parents=True), make_directory(sys.argv[1], 0o700))"
    done = subprocess.run(
        ["python3", "-c", script, tmp_path / "a" / "b"],
        capture_output=True,
        text=True,
        check=True,
        timeout=150,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    )
    assert done.stdout == "True False\n"
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in ("a", "a/b")] == [0o755, 0o711]
