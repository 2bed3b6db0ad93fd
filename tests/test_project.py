"""What installs the project: pinned packages with hashes, and a clear word when something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = re.compile(r"([a-z0-9-]+)==[^\s]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n")


def name_of(requirement: str) -> str:
    """Return a requirement's name as package indexes normalise it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_package_is_pinned_with_hashes_and_nothing_else_is_in_the_file() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    pinned = {match[1] for match in PINNED.finditer(text)}
    assert PINNED.sub("", text) == ""
    wanted = list(PROJECT["project"]["dependencies"]) + list(PROJECT["build-system"]["requires"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    assert {name_of(requirement) for requirement in wanted} <= pinned


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "there is no '{python}' here.*apt-get install python3 python3-venv"),
        (
            'case "$*" in *version_info*) exit 1;; *) echo Python 3.9.2;; esac',
            "Python 3.9.2 is too old.*needs Python 3.11",
        ),
        (
            'case "$*" in *ensurepip*) exit 1;; *) exec {real} "$@";; esac',
            "ensurepip are missing.*apt-get install python3-venv",
        ),
    ],
    ids=["no Python", "too old", "no ensurepip"],
)
def test_what_is_missing_is_said_and_nothing_is_touched(script: str | None, says: str, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    if script is not None:
        python.write_text("#!/bin/sh\n" + script.replace("{real}", sys.executable) + "\n")
        python.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "venv.sh", tmp_path / "venv"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(says.replace("{python}", re.escape(str(python))), done.stderr, re.DOTALL), done.stderr
    assert not (tmp_path / "venv").exists()


def test_commands_manual_pages_and_completions_are_all_installed() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert sorted(setuptools["script-files"]) == sorted(f"bin/{name}" for name in os.listdir(ROOT / "bin"))
    for patterns in setuptools["data-files"].values():
        for pattern in patterns:
            assert list(ROOT.glob(pattern)), pattern
    sections = {page.suffix for page in (ROOT / "man").iterdir()}
    assert sections == {
        Path(pattern).suffix for patterns in setuptools["data-files"].values() for pattern in patterns
    } & {f".{section}" for section in range(1, 9)}
