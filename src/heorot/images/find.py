"""Where a command is, as execvp(3) finds it. Short commands import this."""

from __future__ import annotations

import errno
import os
import stat

DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_FORBIDDEN_ROOTS = (b"/proc", b"/sys", b"/dev")


def find_command(command: bytes, search: bytes, directory: bytes) -> bytes | None:
    """Return the absolute path of a command as execvp(3) finds it, None if it is not there.

    `search` is the value of PATH, `directory` the working directory.
    """
    for path in _candidates(command, search, directory):
        try:
            if stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK):
                return plain(path)
        except (OSError, ValueError):
            continue
    return None


def obstacle(command: bytes, search: bytes, directory: bytes) -> tuple[bytes, str] | None:
    """Return the path of a command that is here although `find_command` does not find it, and why it cannot be
    executed.

    None: it is not here, or only the file system that it lies on does not allow it; a node's may.
    """
    for path in _candidates(command, search, directory):
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISREG(mode):
                if os.access(path, os.X_OK) or os.statvfs(path).f_flag & os.ST_NOEXEC:
                    continue
            elif b"/" not in command:
                continue
            return plain(path), why_not_executable(mode)
        except PermissionError:
            # In a directory of PATH that we may not search, it need not be.
            if b"/" in command:
                return path, os.strerror(errno.EACCES)
        except (OSError, ValueError):
            continue
    return None


def why_not_executable(mode: int) -> str:
    """Return why execve(2) refuses a file of this mode, in words that tell what the file is."""
    if stat.S_ISREG(mode):
        return f"{os.strerror(errno.EACCES)} (chmod +x makes a file executable)"
    if stat.S_ISDIR(mode):
        return os.strerror(errno.EISDIR)
    kind = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
    return f"{os.strerror(errno.EACCES)}: it is a {kind}"


def interpreter_line(head: bytes) -> list[bytes] | None:
    """Return the words of a script's first line after ``#!``, as execve(2) parts them; None: there is no such line.

    `head` is how the file begins.
    """
    if not head.startswith(b"#!"):
        return None
    # To the kernel only these two part words: a carriage return belongs to the interpreter's name.
    return [word for word in head[2:].partition(b"\n")[0].replace(b"\t", b" ").split(b" ") if word]


def line_ends_of(word: bytes) -> str:
    """Return what people should know of a script in whose first line a program of this name was not found."""
    return " (the script has the line ends of Windows: sed -i 's/\\r$//' removes them)" if word.endswith(b"\r") else ""


def _candidates(command: bytes, search: bytes, directory: bytes) -> list[bytes]:
    if not command:
        return []
    if b"/" in command:
        return [os.path.join(directory, command)]
    return [os.path.join(directory, part or b".", command) for part in search.split(b":")]


def may_be_sent(path: bytes) -> bool:
    """Say whether an image may hold this path: each node has devices and states of the kernel of its own."""
    return b"/" + path.split(b"/")[1] not in _FORBIDDEN_ROOTS


def plain(path: bytes) -> bytes:
    """Return an absolute path without ``.`` and ``..`` that leads to the same file."""
    normal = os.path.normpath(path)
    # POSIX keeps two leading slashes.
    normal = b"/" + normal.lstrip(b"/")
    if b".." in path.split(b"/") and os.path.realpath(normal) != os.path.realpath(path):
        # It leads through a symbolic link to a directory.
        return os.path.realpath(os.path.dirname(path)) + b"/" + os.path.basename(path)
    return normal
