"""The unix socket between bpinit and its agent: where it is, and how to bind and reach it however long its path is."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_MAX_PATH_BYTES = 107


def listen(path: str) -> socket.socket:
    """Return a listening socket at `path` (mode 0600), replacing one that is left there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Made accessible to nobody before it listens: a connection cannot slip in between.
    with _short(path) as short:
        listener.bind(short)
    os.chmod(path, 0o600)
    listener.listen(8)
    return listener


def connect_space(path: str) -> socket.socket:
    """Return a socket connected to the bpinit at `path`. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _short(path) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Give a path that fits into a socket address: through a descriptor of its directory if need be."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
