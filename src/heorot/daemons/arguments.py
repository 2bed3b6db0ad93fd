"""What bphead and bpnode have in common as commands: their arguments, and how they fail."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from heorot import __version__


def configuration_path(name: str, default: Path, arguments: list[str]) -> Path:
    """Return the configuration file that the arguments of a daemon name."""
    about = {"bphead": "Run the head of a cluster, under a service manager.", "bpnode": "Run the agent of a node."}
    parser = argparse.ArgumentParser(prog=name, description=about[name])
    parser.add_argument("-v", "-V", "--version", action="version", version=f"{name} (Heorot) {__version__}")
    parser.add_argument(
        "--config", type=Path, default=default, metavar="PATH", help=f"the configuration (default: {default})"
    )
    parsed = parser.parse_args(arguments)
    return Path(parsed.config)


def tell_failure(name: str, error: Exception) -> int:
    """Say on stderr why a daemon does not start; return its exit status."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"{name}: {text}", file=sys.stderr)
    return 1
