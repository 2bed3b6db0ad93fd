"""What of the caller goes along with a command: environment, working directory, file mode mask, resource limits."""

from __future__ import annotations

import os
import resource

from heorot import LC_CTYPE_AT_IMPORT
from heorot.core.errors import RequestError, no_directory

_LIMITS = tuple(sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}))


_COERCED = (b"C.UTF-8", b"C.utf8", b"UTF-8")
"""What Python itself puts into LC_CTYPE where the locale is C (PEP 538): programs that it starts shall see UTF-8."""


def environment_at_start() -> list[bytes]:
    """Return ``NAME=value`` for each variable with which this process was started, byte for byte.

    Only for a program that does not change its environment, and shows no title over it in ps(1).
    """
    started = _at_start()
    return environment() if started is None else started


def environment() -> list[bytes]:
    """Return ``NAME=value`` for each variable as this program has it now, without what Python itself has added."""
    variables = dict(os.environb)
    value = variables.get(b"LC_CTYPE")
    # A value that was not set since is the same object still; nothing else tells Python's from the program's own.
    if value in _COERCED and value is LC_CTYPE_AT_IMPORT and not variables.get(b"LC_ALL"):
        started = _at_start()
        if started is not None:
            before = dict(entry.split(b"=", 1) for entry in started).get(b"LC_CTYPE")
            if before is None:
                del variables[b"LC_CTYPE"]
            else:
                variables[b"LC_CTYPE"] = before
    return [name + b"=" + value for name, value in variables.items()]


def _at_start() -> list[bytes] | None:
    """Return the variables that the kernel holds; None: it cannot be asked, or somebody has written over them."""
    try:
        with open("/proc/self/environ", "rb") as file:
            text = file.read()
    except OSError:
        return None  # no /proc, or a Python that may be executed and not read
    if not text:
        return []
    variables = text.removesuffix(b"\0").split(b"\0")
    # Whoever writes over them, as setproctitle does, leaves no list of variables.
    return variables if all(b"=" in variable for variable in variables) else None


def directory() -> bytes:
    """Return the working directory.

    Raises
    ------
    RequestError
        If it does not exist any more.
    """
    try:
        return os.getcwdb()
    except OSError as error:
        raise no_directory() from error


def umask() -> int:
    """Return the file mode mask without changing it, which only /proc can do; other threads may be creating files."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line[6:], 8)
    raise RequestError("no-proc", "/proc/self/status has no Umask line: is /proc mounted?")


def limits(without: int | None = None) -> list[int]:
    """Return all resource limits but the one left out, flat: number, soft, hard; -1 is unlimited."""
    flat: list[int] = []
    for number in _LIMITS:
        if number != without:
            flat += (number, *resource.getrlimit(number))
    return flat
