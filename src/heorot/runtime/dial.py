"""Connecting by TCP without ever holding the loop up: names are looked up beside it, and all their addresses tried.

A name server may have gone with the very host whose loss makes everybody look for another head. So a name's last good
answer is kept, and is used when a new one is refused or takes too long.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from heorot.runtime.loop import Loop, Timer

FRESH_S = 60.0
"""How long an answer is used without asking again."""
PATIENCE_S = 1.0
"""How long to wait for a new answer when there is an old one."""
NEXT_ADDRESS_S = 1.0
"""When an address has not answered for so long, and there is another, that one is tried in its place."""
MAX_LOOKUPS = 16
"""At once; each is a thread, for as long as the resolver of the C library takes."""
MAX_KNOWN = 64
MAX_ADDRESSES = 8

SocketAddress: TypeAlias = tuple[socket.AddressFamily, Any]


def _ask(host: str, port: int, flags: int = 0) -> list[SocketAddress]:
    # As bytes, because text would have each agent import the tables of international names, all of 1 MB.
    name = host.encode() if host.isascii() else host
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found[:MAX_ADDRESSES]]


class Lookup(Protocol):
    """A question to the resolver: `done_fd` becomes readable when `found` or `error` is set."""

    done_fd: int
    found: list[SocketAddress]
    error: str


class _Thread:
    """One thread that asks the resolver. It ends when the resolver answers, whether anybody still waits or not."""

    def __init__(self, host: str, port: int) -> None:
        import threading

        self.found: list[SocketAddress] = []
        self.error = ""
        self._host, self._port = host, port
        self.done_fd, self._end = os.pipe2(os.O_CLOEXEC)
        try:
            threading.Thread(target=self._run, daemon=True).start()
        except RuntimeError as error:
            os.close(self.done_fd)
            os.close(self._end)
            raise OSError(errno.EAGAIN, "no thread for the name server") from error

    def _run(self) -> None:
        try:
            self.found = _ask(self._host, self._port)
        except (OSError, UnicodeError) as error:
            self.error = getattr(error, "strerror", None) or str(error)
        finally:
            os.close(self._end)


class Names:
    """Looks names up for one loop."""

    def __init__(self, loop: Loop, ask: Callable[[str, int], Lookup] = _Thread) -> None:
        self.loop = loop
        self._ask = ask
        self._known: dict[tuple[str, int], tuple[list[SocketAddress], float]] = {}
        self._lookups: dict[tuple[str, int], Lookup] = {}
        self._waiting: dict[tuple[str, int], list[Dial]] = {}

    def look_up(self, dial: Dial) -> None:
        """Have `dial.found` called, now or later."""
        key = dial.host, dial.port
        try:
            dial.found(_ask(*key, flags=socket.AI_NUMERICHOST), "")
            return
        except (OSError, UnicodeError):
            pass  # a name
        addresses, asked_at = self._known.get(key, ([], 0.0))
        if addresses and self.loop.time() - asked_at < FRESH_S:
            dial.found(addresses, "")
            return
        if key not in self._lookups:
            if len(self._lookups) >= MAX_LOOKUPS:
                dial.found(addresses, f"{MAX_LOOKUPS} names are being looked up already")
                return
            try:
                lookup = self._ask(*key)
            except OSError as error:
                dial.found(addresses, error.strerror or str(error))
                return
            self._lookups[key] = lookup
            self.loop.add_reader(lookup.done_fd, self._answered, key)
        self._waiting.setdefault(key, []).append(dial)
        if addresses:
            dial.wait(PATIENCE_S, lambda: self._wait_no_longer(key, dial))

    def forget(self, dial: Dial) -> None:
        """Nobody wants the answer any more."""
        waiting = self._waiting.get((dial.host, dial.port), [])
        if dial in waiting:
            waiting.remove(dial)

    def close(self) -> None:
        """Wait for no answer any more."""
        for lookup in self._lookups.values():
            self.loop.remove_reader(lookup.done_fd)
            os.close(lookup.done_fd)
        self._lookups.clear()
        self._waiting.clear()

    def _wait_no_longer(self, key: tuple[str, int], dial: Dial) -> None:
        self.forget(dial)
        dial.found(self._known[key][0], "")

    def _answered(self, key: tuple[str, int]) -> None:
        lookup = self._lookups.pop(key)
        self.loop.remove_reader(lookup.done_fd)
        os.close(lookup.done_fd)
        if lookup.found:
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = lookup.found, self.loop.time()
        addresses = self._known.get(key, ([], 0.0))[0]
        for dial in self._waiting.pop(key, []):
            dial.found(addresses, lookup.error)


class Dial:
    """One attempt to connect to a host, at all its addresses in turn, until `connected`, `failed` or `cancel`.

    Its owner bounds the time that it takes.

    Parameters
    ----------
    connected
        Called with the connected socket, which is the callee's from then on.
    failed
        Called with the reason. Both may be called before `begin` returns.
    """

    def __init__(
        self,
        names: Names,
        host: str,
        port: int,
        connected: Callable[[socket.socket], None],
        failed: Callable[[str], None],
    ) -> None:
        self.host = host
        self.port = port
        self._names = names
        self._loop = names.loop
        self._connected = connected
        self._failed = failed
        self._addresses: list[SocketAddress] = []
        self._sock: socket.socket | None = None
        self._timer: Timer | None = None
        self._reason = ""

    def begin(self) -> None:
        """Look the name up and connect."""
        self._names.look_up(self)

    def wait(self, pause_s: float, due: Callable[[], None]) -> None:
        """Have `due` called later, unless something else happens first."""
        self._stop_waiting()
        self._timer = self._loop.call_at(self._loop.time() + pause_s, due)

    def found(self, addresses: list[SocketAddress], error: str) -> None:
        """The resolver has answered."""
        self._addresses = list(addresses)
        self._reason = error or "the name has no address"
        self._next()

    def cancel(self) -> None:
        """Call nobody any more."""
        self._names.forget(self)
        self._stop_waiting()
        self._drop()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            sock.close()

    def _next(self) -> None:
        self._stop_waiting()
        self._drop()
        while self._addresses:
            family, address = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:
                self._reason = error.strerror or str(error)
                continue
            result = sock.connect_ex(address)
            if result in (0, errno.EINPROGRESS):
                self._sock = sock
                self._loop.add_writer(sock.fileno(), self._writable)
                if self._addresses:
                    self.wait(NEXT_ADDRESS_S, self._next)
                return
            sock.close()
            self._reason = os.strerror(result)
        self._failed(self._reason)

    def _writable(self) -> None:
        assert self._sock is not None
        result = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            self._reason = os.strerror(result)
            self._next()
            return
        try:
            self._sock.getpeername()
        except OSError:
            return  # the event was of a descriptor that had this number before
        self._stop_waiting()
        sock, self._sock = self._sock, None
        self._loop.remove_writer(sock.fileno())
        self._connected(sock)
