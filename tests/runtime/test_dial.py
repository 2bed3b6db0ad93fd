"""Connecting: names never hold the loop up, every address has its turn, and an old answer is better than none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from heorot.runtime import dial as dialling
from heorot.runtime.dial import Dial, Names, SocketAddress
from heorot.runtime.loop import EpollLoop


class Server:
    """A listening socket on loopback."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.at: SocketAddress = (socket.AF_INET, self.sock.getsockname())


class Slow:
    """A resolver that answers when it is told to."""

    def __init__(self, host: str, port: int) -> None:
        self.found: list[SocketAddress] = []
        self.error = ""
        self.done_fd, self._end = os.pipe2(os.O_CLOEXEC)

    def answer(self, found: list[SocketAddress], error: str = "") -> None:
        """Let the answer come."""
        self.found, self.error = found, error
        os.close(self._end)


class Rig:
    """A loop, its names, and what became of the attempts."""

    def __init__(self) -> None:
        self.loop = EpollLoop()
        self.slow: list[Slow] = []
        self.connected: list[socket.socket] = []
        self.failed: list[str] = []
        self.names = Names(self.loop)
        self.slow_names = Names(self.loop, self._ask)

    def _ask(self, host: str, port: int) -> Slow:
        self.slow.append(Slow(host, port))
        return self.slow[-1]

    def dial(self, host: str, port: int, *, slow: bool = False) -> Dial:
        """Begin an attempt."""
        names = self.slow_names if slow else self.names
        attempt = Dial(names, host, port, self.connected.append, self.failed.append)
        attempt.begin()
        return attempt

    def until(self, condition: Callable[[], bool], limit_s: float = 150.0) -> None:
        """Run the loop until something is so."""
        end = self.loop.time() + limit_s
        while not condition():
            assert self.loop.time() < end, "it did not come to that in time"
            self.loop.run_once(0.05)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for sock in rig.connected:
        sock.close()
    rig.names.close()
    rig.slow_names.close()
    rig.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_host_is_reached_by_address_and_by_name(rig: Rig, server: Server, host: str) -> None:
    rig.dial(host, server.port)
    rig.until(lambda: bool(rig.connected))
    assert rig.connected[0].getpeername() == ("127.0.0.1", server.port)
    assert not rig.connected[0].getblocking()


def test_what_does_not_answer_or_exist_is_a_reason(rig: Rig, server: Server) -> None:
    port = server.port
    server.sock.close()
    for host in ("127.0.0.1", "no-such-host.invalid", "no such host", "\u00fc" * 80):
        rig.failed.clear()
        rig.dial(host, port)
        rig.until(lambda: bool(rig.failed))
        assert rig.failed[0]
    assert not rig.connected


def test_the_loop_goes_on_while_a_name_is_looked_up_once_for_all(rig: Rig, server: Server) -> None:
    rig.dial("head", server.port, slow=True)
    rig.dial("head", server.port, slow=True)
    rig.dial("127.0.0.1", server.port, slow=True)
    rig.until(lambda: len(rig.connected) == 1)
    (lookup,) = rig.slow
    lookup.answer([server.at])
    rig.until(lambda: len(rig.connected) == 3)
    rig.dial("head", server.port, slow=True)
    rig.until(lambda: len(rig.connected) == 4)
    assert len(rig.slow) == 1


def test_an_old_answer_is_used_when_the_name_server_is_gone_or_slow(
    rig: Rig, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.dial("head", server.port, slow=True)
    rig.slow[0].answer([server.at])
    rig.until(lambda: len(rig.connected) == 1)
    monkeypatch.setattr(dialling, "FRESH_S", 0.0)
    rig.dial("head", server.port, slow=True)
    rig.slow[1].answer([], "the name server is gone")
    rig.until(lambda: len(rig.connected) == 2)
    rig.dial("head", server.port, slow=True)
    rig.until(lambda: len(rig.connected) == 3)
    rig.slow[2].answer([])
    assert rig.failed == []


def test_all_addresses_of_a_name_are_tried(rig: Rig, server: Server) -> None:
    refused = Server()
    refused.sock.close()
    rig.dial("head", server.port, slow=True)
    rig.slow[0].answer([refused.at, refused.at, server.at])
    rig.until(lambda: bool(rig.connected))
    assert rig.failed == []


def test_an_address_that_says_nothing_does_not_keep_from_the_next(rig: Rig, server: Server) -> None:
    # A socket whose queue is full answers no greeting at all.
    deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.create_connection(deaf.getsockname())]
    try:
        for _ in range(3):
            more = socket.socket()
            more.setblocking(False)
            more.connect_ex(deaf.getsockname())
            waiting.append(more)
        rig.dial("head", server.port, slow=True)
        rig.slow[0].answer([(socket.AF_INET, deaf.getsockname()), server.at])
        rig.until(lambda: bool(rig.connected))
        assert rig.connected[0].getpeername() == server.at[1]
    finally:
        for sock in [*waiting, deaf]:
            sock.close()


def test_who_gives_up_hears_no_more(rig: Rig, server: Server) -> None:
    for attempt in (rig.dial("head", server.port, slow=True), rig.dial("127.0.0.1", server.port)):
        attempt.cancel()
    rig.slow[0].answer([server.at])
    rig.dial("127.0.0.1", server.port)
    rig.until(lambda: bool(rig.connected))
    rig.loop.run_once(0)
    assert (len(rig.connected), rig.failed) == (1, [])


def test_lookups_are_bounded(rig: Rig) -> None:
    for number in range(dialling.MAX_LOOKUPS + 1):
        rig.dial(f"head{number}", 1, slow=True)
    assert len(rig.slow) == dialling.MAX_LOOKUPS
    assert rig.failed == ["16 names are being looked up already"]
    for lookup in rig.slow:
        lookup.answer([], "too late")
