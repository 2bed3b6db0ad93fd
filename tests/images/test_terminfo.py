"""Where the description of a terminal is found."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from heorot.core.images.manifest import decode_manifest
from heorot.images.offer import offer_command
from heorot.images.terminfo import FOLDERS, MAX_BYTES, entry


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def described(folder: Path, initial: str = "o") -> bytes:
    path = folder / initial / "odd-terminal"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"description")
    return os.fsencode(path)


@pytest.mark.parametrize("initial", ["o", "6f"])
def test_it_is_found_where_ncurses_looks(tmp_path: Path, initial: str) -> None:
    variables = {"TERMINFO": tmp_path / "own", "HOME": tmp_path, "TERMINFO_DIRS": f":/none:{tmp_path / 'listed'}"}
    environment = [b"TERM=odd-terminal", *(os.fsencode(f"{name}={value}") for name, value in variables.items())]
    assert entry(environment) is None
    for folder in ("listed", ".terminfo", "own"):
        path = described(tmp_path / folder, initial)
        assert entry(environment) == path


@pytest.mark.parametrize("term", [b"", b"../x", b".", b"no-such-terminal"])
def test_a_name_that_is_none_is_found_nowhere(term: bytes) -> None:
    assert entry([b"TERM=" + term]) is None
    assert entry([]) is None


def test_a_terminal_that_every_system_has_is_found_there() -> None:
    path = entry([b"TERM=xterm"])
    assert path is not None
    assert path.startswith(FOLDERS)


@pytest.mark.parametrize(
    "variable", ["HOME={0}/", "TERMINFO_DIRS={0}/elsewhere/../.terminfo", "TERMINFO=/{0}/./.terminfo//"]
)
def test_a_path_that_an_image_cannot_hold_as_it_is_written_is_straightened(tmp_path: Path, variable: str) -> None:
    path = described(tmp_path / ".terminfo")
    (tmp_path / "elsewhere").mkdir()
    environment = [b"PATH=/bin:/usr/bin", b"TERM=odd-terminal", os.fsencode(variable.format(tmp_path))]
    assert entry(environment) == path
    offer = offer_command(b"true", environment, b"/", terminal=True)
    assert offer is not None
    assert path in [held.path for held in decode_manifest(offer.manifest).entries]


@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_what_cannot_be_a_description_is_passed_over(tmp_path: Path, kind: str) -> None:
    path = Path(os.fsdecode(described(tmp_path / "own")))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        # It takes no room on the disk; to send it would take hours.
        with path.open("wb") as file:
            file.truncate(3 << 30)
    environment = [b"PATH=/bin:/usr/bin", b"TERM=odd-terminal", os.fsencode(f"TERMINFO={tmp_path / 'own'}")]
    assert entry(environment) is None
    assert offer_command(b"true", environment, b"/", terminal=True) is not None
    later = described(tmp_path / "later")
    os.truncate(later, MAX_BYTES)
    assert entry([*environment, os.fsencode(f"TERMINFO_DIRS={tmp_path / 'later'}")]) == later


def test_a_link_to_a_folder_is_followed_before_what_leads_out_of_it(tmp_path: Path) -> None:
    path = described(tmp_path / "real" / "terminfo")
    (tmp_path / "real" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    assert entry([b"TERM=odd-terminal", os.fsencode(f"TERMINFO={tmp_path}/link/../terminfo")]) == path


def test_what_each_node_has_of_its_own_is_not_sent(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        described(Path(folder))
        environment = [b"PATH=/bin:/usr/bin", b"TERM=odd-terminal", os.fsencode(f"TERMINFO={folder}")]
        assert entry(environment) is None
        assert offer_command(b"true", environment, b"/", terminal=True) is not None
        # One that comes later in the search can be sent.
        path = described(tmp_path)
        environment.append(os.fsencode(f"TERMINFO_DIRS={tmp_path}"))
        assert entry(environment) == path


def test_an_image_for_a_terminal_is_another_one_and_both_are_remembered(tmp_path: Path) -> None:
    path = described(tmp_path / "own")
    os.utime(path, ns=(10**18, 10**18))
    environment = [b"PATH=/bin:/usr/bin", b"TERM=odd-terminal", b"TERMINFO=" + os.fsencode(tmp_path / "own")]
    with_it = offer_command(b"true", environment, b"/", terminal=True)
    without = offer_command(b"true", environment, b"/")
    assert with_it is not None
    assert without is not None
    assert path in with_it.manifest
    assert path not in without.manifest
    again = offer_command(b"true", environment, b"/", terminal=True)
    assert again is not None
    assert again.image == with_it.image
    os.unlink(path)
    gone = offer_command(b"true", environment, b"/", terminal=True)
    assert gone is not None
    assert gone.image == without.image
