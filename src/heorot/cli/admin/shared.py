"""What the administration commands share: where the cluster is, durations, and how to fail."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from heorot.config.files import DEFAULT_DIRECTORY, DEFAULT_HEAD_PATH, load_head
from heorot.config.host_role import require_head_host
from heorot.core.errors import HeorotError, no_directory
from heorot.linux.trusted_path import check_directory, make_directory

CLUSTER_DIRECTORY_MODE = 0o711
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Read ``30s``, ``15m``, ``1h`` or ``2d`` as milliseconds, for argparse."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_MS or not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 30s, 15m, 1h or 2d")
    return int(number) * UNITS_MS[unit]


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add ``--dir``."""
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help=f"the cluster directory (default: $HEOROT_DIR, else the one named in {DEFAULT_HEAD_PATH}, "
        f"else {DEFAULT_DIRECTORY})",
    )


def heads_directory(given: Path | None) -> Path:
    """Return the cluster directory that a command on the head's host is about.

    Raises
    ------
    HeorotError
        If somebody else could change what is in it, or the configuration that names it cannot be read, or if this host
        is a node alone.
    """
    directory = _named(given)
    if directory.exists():
        check_directory(directory)
    return directory


def _named(given: Path | None) -> Path:
    if given is not None:
        return given.absolute()
    if os.environ.get("HEOROT_DIR"):
        return Path(os.environ["HEOROT_DIR"]).absolute()
    if DEFAULT_HEAD_PATH.exists():
        return Path(load_head(DEFAULT_HEAD_PATH).cluster.directory)
    require_head_host()
    return Path(DEFAULT_DIRECTORY)


def make_places(config: Path, directory: Path) -> None:
    """Make where a configuration, and where keys and state go, if they are not there.

    Raises
    ------
    HeorotError
        If somebody else could change what is there.
    OSError
        If they cannot be made.
    """
    make_directory(config.parent, 0o755, parents=True)
    # Users must get through to head.sock if it is in here; what is private has its own 0700 below.
    if not make_directory(directory, CLUSTER_DIRECTORY_MODE, parents=True):
        directory.chmod(CLUSTER_DIRECTORY_MODE)


def run_reporting(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command; print an error as one line, and return the exit status."""
    try:
        return command(arguments)
    except HeorotError as error:
        print(f"heorot: {error}", file=sys.stderr)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not error.filename:
            error = FileNotFoundError(str(no_directory()))  # what getcwd(2) says
        name = f" {error.filename}" if error.filename else ""
        hint = "; administration needs root" if isinstance(error, PermissionError) and os.geteuid() else ""
        print(f"heorot: {error.strerror or error}{name}{hint}", file=sys.stderr)
    return 1


def plural(count: int, noun: str) -> str:
    """Return ``1 use`` or ``2 uses``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
