"""Listening and connecting sockets of the daemons."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from heorot.core.errors import HeorotError
from heorot.runtime.loop import Loop
from heorot.runtime.vanished import is_remote, probe_when_idle

_ACCEPT_AT_ONCE = 64
_UNIX_PATH_BYTES = 107


def tune_tcp(sock: socket.socket) -> bool:
    """Send small messages at once; between two hosts, notice while the connection is idle that the other one is gone.

    Return whether the other end is on another host: then the caller also tells a `Vanished` of what it sends. Raises
    OSError.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    remote = is_remote(sock)
    if remote:
        probe_when_idle(sock)
    return remote


def bind_tcp(host: str, port: int) -> socket.socket:
    """Return a bound TCP socket that does not listen yet: connections are refused until then.

    Raises
    ------
    HeorotError
        If the address is taken or not this host's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise HeorotError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another port or address, or end what uses it"
        ) from error
    return sock


@contextlib.contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """Give an address for a unix socket's path, however long the path is."""
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen_unix(path: Path, mode: int, backlog: int = 1024) -> socket.socket:
    """Return a listening unix socket at `path`; one that is there is replaced, without a moment in which none is.

    Raises
    ------
    HeorotError
        If it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # What a killed process leaves is known by this name to whoever cleans up (``Layout.remove``).
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.unlink(missing_ok=True)
        with unix_address(new) as address:
            # Nobody may connect before the mode is set.
            former = os.umask(0o777)
            try:
                sock.bind(address)
            finally:
                os.umask(former)
        new.chmod(mode)
        sock.listen(backlog)
        new.rename(path)
    except OSError as error:
        sock.close()
        with contextlib.suppress(OSError):
            new.unlink()
        raise HeorotError(f"cannot make the socket {path}: {error.strerror or error}") from error
    return sock


def connect_unix(path: Path) -> socket.socket:
    """Return a socket that is connected to the unix socket at `path`. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with unix_address(path) as address:
            sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Return the pid, uid and gid of the process that connected (or listens)."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


class Acceptor:
    """Accepts connections. When descriptors run out it rests for a moment instead of spinning."""

    def __init__(self, loop: Loop, sock: socket.socket, accept: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._accept = accept
        self._closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._ready)

    def _ready(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_at(self._loop.time() + 0.2, self._resume)
                return
            self._accept(connection)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._ready)

    def close(self) -> None:
        """Stop accepting and close the socket."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
