"""Where a command is, as execvp(3) finds it. Short commands import this."""

from __future__ import annotations

import os
import stat

DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


def find(command: bytes, search: bytes, directory: bytes) -> bytes | None:
    """Return the absolute path of a command as execvp(3) finds it, None if it is not there.

    `search` is the value of PATH, `directory` the working directory.
    """
    if not command:
        return None
    if b"/" in command:
        candidates = [command]
    else:
        candidates = [os.path.join(part or b".", command) for part in search.split(b":")]
    for candidate in candidates:
        path = os.path.join(directory, candidate)
        try:
            if stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK):
                return plain(path)
        except (OSError, ValueError):
            continue
    return None


def plain(path: bytes) -> bytes:
    """Return an absolute path without ``.`` and ``..`` that leads to the same file."""
    normal = os.path.normpath(path)
    # POSIX keeps two leading slashes.
    normal = b"/" + normal.lstrip(b"/")
    if b".." in path.split(b"/") and os.path.realpath(normal) != os.path.realpath(path):
        # It leads through a symbolic link to a directory.
        return os.path.realpath(os.path.dirname(path)) + b"/" + os.path.basename(path)
    return normal
