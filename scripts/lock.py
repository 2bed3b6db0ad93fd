"""Write constraints.txt: every package that Heorot is built, run and tested with, pinned and with its hashes.

Resolves pyproject.toml's dependencies, all extras and the build tools once for the oldest Python, then asks pip for the
wheels of the same releases on every other platform listed here. Standard library and pip only, so it runs anywhere:

    python3 scripts/lock.py            # the newest releases
    python3 scripts/lock.py --keep     # keep what is pinned, add what is new
    python3 scripts/lock.py --peers    # what `python -m bench peers` compares Heorot with: bench/peers/constraints.txt
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
PEERS = ("mitogen", "distributed", "mpich")
PEERS_TARGET = ROOT / "bench" / "peers" / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = ("2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
"""Newest first: Debian 12 has 2.36."""
HEADER = """\
# Every package that Heorot is built, run and tested with. Made by scripts/lock.py; do not edit.
# Install with: pip install --require-hashes --only-binary :all: -r constraints.txt
"""
PEERS_HEADER = """\
# What `python -m bench peers` compares Heorot with, and what that needs. Made by scripts/lock.py --peers; do not edit.
"""


def resolve(requirements: list[str], python: str, machine: str, dependencies: bool) -> dict[str, tuple[str, str]]:
    """Return name -> (version, sha256) as pip resolves it for one platform; nothing is installed."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--target", scratch, "--only-binary", ":all:", "--python-version", python]
        command += ["--implementation", "cp"]
        for glibc in GLIBC:
            command += ["--platform", f"manylinux_{glibc}_{machine}"]
        command += ["--platform", f"manylinux2014_{machine}"]
        if not dependencies:
            command.append("--no-deps")
        subprocess.run([*command, *requirements], check=True)
        entries = json.loads(report.read_text())["install"]
    found: dict[str, tuple[str, str]] = {}
    for entry in entries:
        metadata = entry["metadata"]
        sha256 = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        found[metadata["name"].lower().replace("_", "-").replace(".", "-")] = (metadata["version"], sha256)
    return found


def wanted() -> list[str]:
    """Return all requirements of pyproject.toml: run time, every extra, build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    for extra in project["project"]["optional-dependencies"].values():
        requirements += extra
    return requirements


def pinned(target: Path) -> list[str]:
    """Return the ``name==version`` lines of what was written before."""
    return [line.split()[0] for line in target.read_text().splitlines() if "==" in line and not line.startswith("#")]


def main() -> int:
    """Resolve and write."""
    peers = "--peers" in sys.argv[1:]
    target, header = (PEERS_TARGET, PEERS_HEADER) if peers else (TARGET, HEADER)
    requirements = list(PEERS) if peers else wanted()
    if "--keep" in sys.argv[1:]:
        requirements += pinned(target)
    first = resolve(requirements, PYTHONS[0], MACHINES[0], dependencies=True)
    pins = [f"{name}=={version}" for name, (version, _) in sorted(first.items())]
    hashes = {name: {sha256} for name, (_, sha256) in first.items()}
    for python in PYTHONS:
        for machine in MACHINES:
            for name, (_, sha256) in resolve(pins, python, machine, dependencies=False).items():
                hashes[name].add(sha256)
    blocks = []
    for pin in pins:
        lines = [pin] + [f"    --hash=sha256:{sha256}" for sha256 in sorted(hashes[pin.split("==")[0]])]
        blocks.append(" \\\n".join(lines) + "\n")
    target.write_text(header + "".join(blocks))
    print(f"{target.relative_to(ROOT)}: {len(pins)} packages, {sum(map(len, hashes.values()))} hashes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
