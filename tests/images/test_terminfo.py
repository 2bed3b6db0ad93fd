"""Where the description of a terminal is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heorot.images.offer import offer_command
from heorot.images.terminfo import FOLDERS, entry


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


def test_an_image_for_a_terminal_is_another_one_and_both_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
