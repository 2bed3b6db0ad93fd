"""Puts peers where they can be run: wheels into an environment of their own, Debian's packages if that is wished."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.peers.peer import ROOT, Peer, path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
PIP_LIMIT_S = 1800
APT_LIMIT_S = 3600
Say = Callable[[str], None]


def cache() -> Path:
    """Return where this user keeps what can be had again (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heorot-peers"


class Wheels:
    """A virtual environment that holds the wheels of `constraints.txt`, each with its hash checked."""

    def __init__(self, directory: Path, constraints: Path = CONSTRAINTS) -> None:
        self.directory = directory
        self.python = str(directory / "bin" / "python")
        self._constraints = constraints
        self._stamp = directory / ".complete"

    def install(self, say: Say) -> None:
        """Install them unless they are; what cannot be is said and left out, and missed by `has` later."""
        wanted = f"{sys.version} {hashlib.sha256(self._constraints.read_bytes()).hexdigest()}"
        if self._stamp.exists() and self._stamp.read_text() == wanted:
            return
        if self.directory.exists():
            shutil.rmtree(self.directory)
        say(f"installing the peers' wheels into {self.directory}")
        if not self._run(say, sys.executable, "-m", "venv", str(self.directory)):
            return
        if self._pip(say, str(self._constraints)):
            self._stamp.write_text(wanted)
            return
        # One that is not to be had must not take the others along.
        with tempfile.TemporaryDirectory() as scratch:
            for pin in pins(self._constraints):
                single = Path(scratch) / f"{pin.partition('==')[0]}.txt"
                single.write_text(f"{pin}\n")
                self._pip(say, str(single), "--no-deps")

    def has(self, module_or_file: str) -> bool:
        """Say whether a module can be found there, or a file below the environment."""
        if "/" in module_or_file:
            return (self.directory / module_or_file).exists()
        return any(self.directory.glob(f"lib/python3*/site-packages/{module_or_file}/__init__.py"))

    def version(self, name: str) -> str:
        """Return which release of a wheel is there."""
        found = sorted(self.directory.glob(f"lib/python3*/site-packages/{name}-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else ""

    def _pip(self, say: Say, *arguments: str) -> bool:
        options = ["-qq", "--no-input", "--disable-pip-version-check"]
        fixed = ["install", "--require-hashes", "--only-binary", ":all:", "-r"]
        return self._run(say, self.python, "-m", "pip", *options, *fixed, *arguments)

    def _run(self, say: Say, *argv: str) -> bool:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=PIP_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"{' '.join(argv[1:])}: {type(error).__name__}")
            return False
        if done.returncode:
            say(f"{' '.join(argv[1:])} failed: {(done.stderr or done.stdout).strip()}")
        return done.returncode == 0


def pins(constraints: Path) -> list[str]:
    """Return each pinned release with its hashes, one a line."""
    lines = constraints.read_text().replace("\\\n", "").splitlines()
    return [" ".join(line.split()) for line in lines if not line.startswith("#")]


def lacking_packages(peers: Iterable[Peer]) -> list[str]:
    """Return the packages of Debian of which a command is not here, each once."""
    return list(dict.fromkeys(package for peer in peers for package in _packages(peer)))


def _packages(peer: Peer) -> list[str]:
    lacking = [package for name, package in peer.commands if shutil.which(name, path=path()) is None]
    return list(dict.fromkeys(lacking))


def install_packages(peers: Sequence[Peer], setup: Path = ROOT / "scripts" / "setup.sh") -> None:
    """Let the set-up script install what is lacking; all at once, or else what each peer needs by itself."""
    if not (lacking := lacking_packages(peers)) or _set_up(setup, lacking):
        return
    for peer in peers:
        if (its := _packages(peer)) and its != lacking:
            _set_up(setup, its)


def _set_up(setup: Path, packages: list[str]) -> bool:
    with subprocess.Popen([setup, "packages", *packages], stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait(APT_LIMIT_S) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            # It takes back what it has put in the way of daemons, and lets no package be unpacked by half.
            process.terminate()


def absent(peer: Peer, wheels: Wheels) -> str:
    """Return why a peer cannot be run here, in words for its row; nothing if it can."""
    if packages := _packages(peer):
        return f"not installed: Debian's {', '.join(packages)}"
    if missing := [name for name, shown_by in peer.wheels if not wheels.has(shown_by)]:
        return f"not installed: the wheel {', '.join(missing)}"
    return ""
