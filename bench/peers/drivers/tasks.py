"""What a node does for a peer that is a library of Python: run a command."""

from __future__ import annotations

import subprocess


def run(argv: list[str]) -> int:
    """Run a command and return its status."""
    return subprocess.call(argv, stdin=subprocess.DEVNULL)


def output(argv: list[str]) -> tuple[int, bytes]:
    """Run a command and return its status and what it has written."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    return done.returncode, done.stdout


def writes(argv: list[str]) -> bool:
    """Say whether a command of the benchmark has output: all but one have."""
    return argv != ["/bin/true"]
