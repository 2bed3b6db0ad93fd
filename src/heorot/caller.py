"""What of the caller goes along with a command: environment, working directory, file mode mask, resource limits."""

from __future__ import annotations

import os
import resource

from heorot.core.errors import RequestError

_LIMITS = tuple(sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}))


def environment() -> list[bytes]:
    """Return ``NAME=value`` for each variable."""
    return [name + b"=" + value for name, value in os.environb.items()]


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
        raise RequestError(
            "no-directory", "the working directory does not exist any more: change to another one"
        ) from error


def umask() -> int:
    """Return the file mode mask without changing it, which only /proc can do; other threads may be creating files."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line[6:], 8)
    raise RequestError("no-proc", "/proc/self/status has no Umask line: is /proc mounted?")


def limits() -> list[int]:
    """Return all resource limits, flat: number, soft, hard; -1 is unlimited."""
    flat: list[int] = []
    for number in _LIMITS:
        flat += (number, *resource.getrlimit(number))
    return flat
