"""What installs the project: pinned packages with hashes, and a clear word when something is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.other_user import open_to_all, setpriv

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
        timeout=150,
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


def test_the_clones_virtual_environment_has_manual_pages_and_completions(tmp_path: Path) -> None:
    """As a copy that is installed has them; a second time mends what has changed, and nothing else."""
    stale = tmp_path / "share" / "man" / "man1" / "former.1"
    for _ in range(2):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.symlink_to(tmp_path / "gone")
        subprocess.run([sys.executable, ROOT / "scripts" / "share.py", tmp_path], check=True, timeout=150)
        found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        wanted = {
            f"{folder}/{file.name}": file.read_bytes()
            for folder, patterns in PROJECT["tool"]["setuptools"]["data-files"].items()
            for pattern in patterns
            for file in ROOT.glob(pattern)
        }
        assert found == wanted
        assert not stale.is_symlink()


def scratch_project(directory: Path, path: dict[str, str]) -> Path:
    """Lay out what the set-up reads, with a complete environment, and a PATH with these scripts and few programs."""
    (directory / "scripts").mkdir()
    for name in ("scripts/setup.sh", "scripts/venv.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, directory / name)
    (directory / ".venv").mkdir()
    (directory / "sbin").mkdir()
    (directory / ".venv" / ".complete").touch()
    programs = directory / "bin"
    programs.mkdir()
    for name in ("sh", "id", "mktemp", "rm", "chmod", "cat", "find", "dirname", "make", "git"):
        (programs / name).symlink_to(shutil.which(name) or name)
    for name, script in path.items():
        (programs / name).write_text("#!/bin/sh\n" + script)
        (programs / name).chmod(0o755)
    return programs


def set_up(
    directory: Path, purpose: str, *wrapper: str, packages: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the set-up as somebody whose PATH has these programs alone."""
    command = [*wrapper, "/bin/sh", str(directory / "scripts" / "setup.sh"), purpose, *packages]
    environment = {"PATH": str(directory / "bin"), "HEOROT_SETUP_SBIN": str(directory / "sbin")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


PYTHON_WITHOUT_VENV = """
case "$*" in *ensurepip*) [ -e {marker} ]; exit;; esac
"""
APT = """
echo "$@" >>{log}
case "$*" in *install*) [ ! -e {fail} ] && [ -x {policy} ] && : >{marker}; exit;; esac
"""


def scripts(directory: Path) -> dict[str, str]:
    """Stand-ins that record what they are asked for."""
    names = {name: directory / name for name in ("marker", "log", "fail")}
    names["policy"] = directory / "sbin" / "policy-rc.d"
    return {"python3": PYTHON_WITHOUT_VENV.format(**names), "apt-get": APT.format(**names)}


def test_what_the_tests_need_is_installed_by_root_and_said_in_a_line(tmp_path: Path) -> None:
    scratch_project(tmp_path, scripts(tmp_path))
    packages = "python3-venv iproute2 procps etcd-server rsync openssh-client parallel pdsh"
    line = f"apt-get install --yes --no-install-recommends {packages}"
    done = set_up(tmp_path, "test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"heorot: installing what is missing: {line}\n")
    assert f"install --yes --no-install-recommends {packages}" in (tmp_path / "log").read_text()
    done = set_up(tmp_path, "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_missing_is_said_to_somebody_who_may_not_install_it(tmp_path: Path) -> None:
    scratch_project(tmp_path, scripts(tmp_path))
    open_to_all(tmp_path)
    done = set_up(tmp_path, "run", *setpriv())
    line = "apt-get install --yes --no-install-recommends python3-venv"
    assert (done.returncode, done.stderr) == (1, f"heorot: something is missing; as root, please run: {line}\n")
    assert not (tmp_path / "log").exists()


def test_whoever_is_not_root_is_told_that_some_tests_need_it(tmp_path: Path) -> None:
    programs = scratch_project(tmp_path, scripts(tmp_path))
    (tmp_path / "marker").touch()
    for name in ("ip", "ps", "etcd", "rsync", "scp", "parallel", "pdsh"):
        (programs / name).symlink_to("/bin/true")
    open_to_all(tmp_path)
    done = set_up(tmp_path, "test", *setpriv())
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "heorot: the tests of other users, mounts and networks need root, and fail without it\n"


def test_the_package_manager_is_quoted_when_it_fails(tmp_path: Path) -> None:
    scratch_project(tmp_path, scripts(tmp_path))
    (tmp_path / "fail").touch()
    done = set_up(tmp_path, "run")
    assert done.returncode == 1
    assert done.stderr.endswith("heorot: apt-get says above why it could not install: python3-venv\n")
    assert not any((tmp_path / "sbin").iterdir())


def test_without_a_package_manager_the_packages_are_named(tmp_path: Path) -> None:
    programs = scratch_project(tmp_path, scripts(tmp_path))
    (programs / "apt-get").unlink()
    done = set_up(tmp_path, "run")
    assert (done.returncode, done.stderr) == (1, "heorot: please install what Debian calls: python3-venv\n")


def test_packages_that_are_named_are_installed_and_nothing_else(tmp_path: Path) -> None:
    scratch_project(tmp_path, scripts(tmp_path))
    (tmp_path / ".venv" / ".complete").unlink()
    done = set_up(tmp_path, "packages", packages=("pdsh", "munge"))
    line = "apt-get install --yes --no-install-recommends pdsh munge"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"heorot: installing what is missing: {line}\n")
    assert "install --yes --no-install-recommends pdsh munge" in (tmp_path / "log").read_text()
    assert not any((tmp_path / "sbin").iterdir())
