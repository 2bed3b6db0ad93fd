"""Put Python's options back into the first lines of the installed commands: PREFIX/bin/python3 -m heorot.first_lines

pip writes the interpreter's path there and drops the options, with which a command starts faster and does not depend on
PYTHONPATH and PYTHONHOME; and what it writes does not work if the path has a space or is very long. See
docs/decisions/command-start.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

COMMANDS = (
    "bpcp", "bpctl", "bphead", "bpinit", "bpjob", "bpkill", "bpnode", "bpps", "bprsh", "bpsh", "bpsrun", "bpstat",
    "heorot", "mpprun",
)  # fmt: skip
OPTIONS = "-IS"
MAX_LINE_BYTES = 255
"""What Linux reads of a first line; before Linux 5.1 half of it."""
_OLD_MAX_LINE_BYTES = 127


def first_lines(python: str, max_line_bytes: int = MAX_LINE_BYTES) -> bytes:
    """Return the beginning of a Python script that this interpreter shall run: a line, or several.

    Raises
    ------
    ValueError
        If the path cannot stand in a script at all.
    """
    if any(character in python for character in "\n\r\0"):
        raise ValueError(f"{python!r} has a line break in its path")
    lines = [f"#!{python} {OPTIONS}"]
    if any(character.isspace() for character in python):
        # The kernel ends the path at a space. env(1) does not, and leaves the environment alone.
        quoted = "".join("\\" + character if character in '\\"$' else character for character in python)
        lines = [f'#!/usr/bin/env -S "{quoted}" {OPTIONS}']
    if len(os.fsencode(lines[0])) + 1 > max_line_bytes:
        # Only a shell is left. It drops variables whose names are no identifiers; Python takes its line for a string.
        quoted = python.replace("'", "'\\''")
        if "'''" in quoted:
            raise ValueError(f"{python!r} has quotes in its path")
        lines = ["#!/bin/sh", f"'''exec' '{quoted}' {OPTIONS} \"$0\" \"$@\"", "' '''"]
    return os.fsencode("".join(f"{line}\n" for line in lines))


def is_complete(script: str) -> bool:
    """Say whether the first line of a script gives Python its options."""
    with open(script, "rb") as file:
        line = file.readline(4096).strip()
        return line.endswith(f" {OPTIONS}".encode()) or line == b"#!/bin/sh"


def rewrite(script: str, python: str, max_line_bytes: int = MAX_LINE_BYTES) -> bool:
    """Give an installed command its first line; return whether it had another one.

    Raises
    ------
    OSError
        If the file cannot be read or replaced.
    """
    with open(script, "rb") as file:
        old = file.read()
        mode = os.fstat(file.fileno()).st_mode & 0o7777
    body = old[old.index(b"\n# Every command") + 1 :]
    new = first_lines(python, max_line_bytes) + body
    if new == old:
        return False
    # By another name first: somebody may start it meanwhile. None that others could know, nor what is there already.
    temporary = f"{script}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(new)
            os.fchmod(file.fileno(), mode)
        os.rename(temporary, script)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def _closed_to_others(path: str) -> str:
    """Return the first directory on the way to a file that others may not enter, or the file; empty: there is none."""
    at = "/"
    for name in os.path.realpath(path).split("/")[1:]:
        if not os.stat(at).st_mode & 0o001:
            return at
        at = os.path.join(at, name)
    return "" if os.stat(at).st_mode & 0o005 == 0o005 else at


def unreachable(python: str) -> str:
    """Return what other users would be told about this interpreter; empty: they can run it."""
    where = _closed_to_others(python) or _closed_to_others(os.path.dirname(python))
    if not where:
        return ""
    real = os.path.realpath(python)
    return (
        f"other users cannot run {python} ({real}): {where} is closed to them. That is all right if you alone use it;"
        " if others shall, build the virtual environment from a Python, and in a directory, that all may read"
    )


def _max_line_bytes() -> int:
    release = os.uname().release.split(".")
    return MAX_LINE_BYTES if (int(release[0]), int(release[1])) >= (5, 1) else _OLD_MAX_LINE_BYTES


def is_virtual(directory: str) -> bool:
    """Say whether this is the directory of commands of a virtual environment."""
    return os.path.isfile(os.path.join(os.path.dirname(directory), "pyvenv.cfg"))


def scripts(directory: str) -> Iterable[str]:
    """Yield the paths of the commands that are installed in a directory."""
    for name in COMMANDS:
        if os.path.isfile(f"{directory}/{name}"):
            yield f"{directory}/{name}"


def main() -> int:
    """Do it for the commands beside this interpreter; return the status to exit with."""
    directory, name = os.path.split(sys.executable)
    python = os.path.join(directory, "python3" if os.path.exists(os.path.join(directory, "python3")) else name)
    found = list(scripts(directory))
    if not is_virtual(directory) or not found:
        # Python's options leave out what the system's own installation needs to find its packages.
        print(f"heorot.first_lines: {directory} is no virtual environment with Heorot's commands", file=sys.stderr)
        return 1
    for script in found:
        rewrite(script, python, _max_line_bytes())
    warning = unreachable(python)
    if warning and os.geteuid() == 0:
        print(f"heorot: {warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
