"""What the administration commands share: where the cluster is, durations, and how to fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from heorot.cli.arguments import USAGE_STATUS, Command, Option, Parsed, UsageError, parse
from heorot.cli.request import show_help
from heorot.config.files import DEFAULT_DIRECTORY, DEFAULT_HEAD_PATH, DEFAULT_SOCKET, load_head
from heorot.config.host_role import require_head_host
from heorot.core.errors import HeorotError, no_directory
from heorot.linux.trusted_path import check_directory, make_directory

CLUSTER_DIRECTORY_MODE = 0o711
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Read ``30s``, ``15m``, ``1h`` or ``2d`` as milliseconds. Raises UsageError."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_MS or not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) == 0:
        raise UsageError(f"{text!r} is not a duration: write 30s, 15m, 1h or 2d")
    return int(number) * UNITS_MS[unit]


CLUSTER = Option(
    "--dir",
    f"the cluster directory (default: HEOROT_DIR, else the one named in {DEFAULT_HEAD_PATH}, else {DEFAULT_DIRECTORY})",
    "DIR",
)
PLACE = Option("--dir", f"where keys and state go (default: HEOROT_DIR, else {DEFAULT_DIRECTORY})", "DIR")
SOCKET = Option("--socket", f"where commands connect to (default: {DEFAULT_SOCKET})", "PATH")
JSON_LIST = Option("--json", "print a JSON list")
MAX_NUMBER = 2**31 - 1
"""No option of these commands is a number above this; what is too much for it is for the command to say."""


def configuration(does: str, default: Path) -> Option:
    """Return ``--config``, which `does` something with a file."""
    return Option("--config", f"the configuration {does} (default: {default})", "PATH")


def place(parsed: Parsed) -> Path:
    """Return the directory that `PLACE` names."""
    return Path(parsed.get("dir") or os.environ.get("HEOROT_DIR") or DEFAULT_DIRECTORY).absolute()


class Subcommand(NamedTuple):
    """One command of a group."""

    command: Command
    run: Callable[[Parsed], int]
    operands: tuple[str, ...] = ()
    """What it takes, one word each."""
    optional: bool = False
    """They may be left out."""


def run_group(group: str, subcommands: dict[str, Subcommand], words: list[str]) -> int:
    """Run the command of a group that the first word names; return the exit status."""
    name = words[0] if words else ""
    if name not in subcommands:
        lines = [f"  {name:<8}  {each.command.summary.splitlines()[0]}" for name, each in subcommands.items()]
        text = f"usage: heorot {group} COMMAND [OPTION]...\n\n" + "\n".join(lines) + "\n"
        asked = name in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(text)
        return 0 if asked else USAGE_STATUS
    return run_subcommand(subcommands[name], words[1:])


def run_subcommand(subcommand: Subcommand, words: list[str]) -> int:
    """Run one command with these words behind its name; return the exit status."""
    command, run, operands, optional = subcommand
    try:
        parsed = parse(command, words)
        if parsed.has("help") or parsed.has("version"):
            return show_help(command, parsed)
        if len(parsed.operands) > len(operands):
            raise UsageError(f"unexpected operand {parsed.operands[len(operands)]!r}")
        if len(parsed.operands) < len(operands) and not optional:
            raise UsageError(f"{operands[len(parsed.operands)]} is missing")
        return run_reporting(run, parsed)
    except UsageError as error:
        print(f"{command.name}: {error}; try '{command.name} --help'", file=sys.stderr)
        return USAGE_STATUS


def heads_directory(parsed: Parsed) -> Path:
    """Return the cluster directory that a command on the head's host is about; `CLUSTER` names it.

    Raises
    ------
    HeorotError
        If somebody else could change what is in it, or the configuration that names it cannot be read, or if this host
        is a node alone.
    """
    directory = _named(parsed.get("dir"))
    if directory.exists():
        check_directory(directory)
    return directory


def _named(given: str) -> Path:
    if given:
        return Path(given).absolute()
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


def run_reporting(command: Callable[[Parsed], int], parsed: Parsed) -> int:
    """Run a command; print an error as one line, and return the exit status."""
    try:
        return command(parsed)
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
