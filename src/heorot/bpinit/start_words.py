"""Why a process could not be started, in words. Called with the rights of the user whose process it would be."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from heorot.images.find import interpreter_line, line_ends_of, why_not_executable
from heorot.images.identity import shown

_HEAD_BYTES = 256
"""So much of a file the kernel looks at."""


class StartError(Exception):
    """A process could not be started. `error` is an errno, or 0 if the text says it all."""

    def __init__(self, error: int, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


class LateError(StartError):
    """So long was waited for it that the next one of the same job shall not keep all others waiting again."""


def shown_name(name: bytes) -> str:
    """Return a name of any bytes as text that can be sent: UTF-8 has no surrogates."""
    return name.decode("utf-8", "backslashreplace")


def reason_not_started(error: Exception) -> str:
    """Return what went wrong, without the name that Python adds."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def not_that_user(user: str, number: int) -> StartError:
    """Return why a child could not become the user."""
    return StartError(errno.EPERM, f"cannot become user {user}: {os.strerror(number)}")


def is_binary(path: bytes) -> bool:
    """Say whether this is an ELF file: then it is for another architecture, and nothing for a shell."""
    return _head(path).startswith(b"\x7fELF")


def not_executed(path: bytes, directory: bytes, number: int) -> tuple[int, str]:
    """Return the errno and the words for a program that execve(2) refused.

    Parameters
    ----------
    path:
        As it was given, perhaps relative to `directory`.
    """
    name = shown_name(path)
    path = os.path.join(directory, path)
    if number == errno.ENOENT:
        if os.path.exists(path):
            return number, f"cannot execute {name}: {_no_interpreter(path)}"
        return number, f"no such command: {name}"
    if number == errno.EACCES:
        with contextlib.suppress(OSError):
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) or not mode & 0o111:
                return number, f"cannot execute {name}: {why_not_executable(mode)}"
    if number == errno.ENOEXEC:
        return number, f"cannot execute {name}: it is for another kind of machine than this node"
    if number == errno.E2BIG:
        return number, f"cannot execute {name}: the arguments and environment are too long for this node"
    if number == errno.EAGAIN:
        return number, f"cannot start {name}: the limit on processes is reached"
    return number, f"cannot execute {name}: {os.strerror(number)}"


def unanswered(path: bytes, number: int) -> str:
    """Return the words for a program that execve(2) refused, and why cannot be found out."""
    return (
        f"cannot execute {shown_name(path)}: {os.strerror(number)} (a file system does not answer, so that no more is"
        " known)"
    )


def not_found(command: bytes, search: bytes, directory: bytes, tried: list[tuple[bytes, int]]) -> tuple[int, str]:
    """Return the errno and the words for a command that no directory of PATH has.

    Parameters
    ----------
    search:
        The value of PATH.
    tried:
        What was to be executed, and what execve(2) said.
    """
    denied: bytes | None = None
    for candidate, number in tried:
        path = os.path.join(directory, candidate)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                continue
        except PermissionError:
            denied = denied or candidate
            continue
        except (OSError, ValueError):
            continue
        # Unlike the real ones, the effective ids are the user's.
        if os.access(path, os.X_OK, effective_ids=True):
            return not_executed(candidate, directory, number)
        denied = denied or candidate
    if denied is not None:
        return errno.EACCES, f"cannot execute {shown_name(denied)}: Permission denied"
    name = shown_name(command)
    if b" " in command:  # as one gives it to ssh(1)
        return errno.ENOENT, f"no such command: {name} (a line for a shell needs one: sh -c '...')"
    return errno.ENOENT, f"no such command: {name} (PATH is {shown_name(search)})"


def _head(path: bytes) -> bytes:
    """Return how a regular file begins, if it can be read; neither a FIFO nor whoever has a lease is waited for."""
    fds: list[int] = []
    try:
        fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        if not stat.S_ISREG(os.fstat(fds[0]).st_mode):
            return b""
        fds.append(os.open(b"/proc/self/fd/%d" % fds[0], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return os.read(fds[1], _HEAD_BYTES)
    except OSError:
        return b""
    finally:
        for fd in fds:
            os.close(fd)


def _no_interpreter(path: bytes) -> str:
    """Return what execve(2) did not find of what this program needs, in words."""
    words = interpreter_line(_head(path))
    if not words:
        return "its interpreter does not exist"
    return f"its interpreter {shown(words[0])} does not exist{line_ends_of(words[0])}"
