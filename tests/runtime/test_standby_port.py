"""The port of a head on standby: who asks to be passed on comes to the active head, all others are refused at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.core.machine import ConnectFailed, LinkOpened, Received
from heorot.core.wire.framing import encode_frame
from heorot.core.wire.tree import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Down, Hello, encode
from heorot.runtime import standby_port
from heorot.runtime.links import Links
from heorot.runtime.loop import EpollLoop
from heorot.runtime.sockets import bind_tcp
from heorot.runtime.standby_port import GREETING_S, MAX_GREETING_BYTES, MAX_VISITORS, StandbyPort
from heorot.security import tls
from tests.runtime.conftest import Clock

Until = Callable[[Callable[[], object]], None]
HELLO = Hello(PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION, "test", 0, 0, "test")
LARGE = encode(Down(1, [0, 0], bytes(range(256)) * 20_000))


class Side:
    """One daemon's links."""

    def __init__(self, loop: EpollLoop, identity: Path, *, listens: bool) -> None:
        self.events: list[Any] = []
        self.links = Links(
            loop,
            "test",
            tls.client_context(identity),
            lambda: tls.server_context(identity),
            self.events.append,
            lambda level, text: None,
            make_passing_context=lambda: tls.client_context(identity, passed_on=True),
        )
        self.port = 0
        if listens:
            listener = bind_tcp("127.0.0.1", 0)
            self.port = listener.getsockname()[1]
            self.links.listen(listener)

    def of(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]


class Rig:
    """A node, a head on standby, and the active head."""

    def __init__(self, loop: EpollLoop, cluster: Path) -> None:
        self.head = Side(loop, cluster / "h0", listens=True)
        self.node = Side(loop, cluster / "n0", listens=False)
        self.active: tuple[str, int] | None = ("127.0.0.1", self.head.port)
        self.log: list[str] = []
        self.port = StandbyPort(loop, ("127.0.0.1", 0), lambda: self.active, lambda level, text: self.log.append(text))

    def connect(self, *, passed_on: bool) -> None:
        self.node.links.connect("up:1", "127.0.0.1", self.port.port, 10_000, passed_on)

    @property
    def visitors(self) -> int:
        return len(self.port._visitors)


@pytest.fixture
def rig(loop: EpollLoop, cluster: Path) -> Iterator[Rig]:
    made = Rig(loop, cluster)
    yield made
    for side in (made.node, made.head):
        side.links.close()
    made.port.close()


def test_a_node_that_asks_for_it_is_passed_on_and_every_byte_both_ways(rig: Rig, until: Until) -> None:
    rig.connect(passed_on=True)
    until(lambda: rig.node.of(LinkOpened) and rig.head.of(LinkOpened))
    (up,), (down,) = rig.node.of(LinkOpened), rig.head.of(LinkOpened)
    # Each end has the other one's certificate before it.
    assert (up.peer, down.peer) == (-1, 0)
    rig.node.links.send(up.link, HELLO, False)
    rig.head.links.send(down.link, HELLO, False)
    until(lambda: rig.node.of(Received) and rig.head.of(Received))
    for _ in range(3):
        rig.head.links.send_encoded(down.link, LARGE)
    until(lambda: len(rig.node.of(Received)) == 4)
    assert [encode(event.message) for event in rig.node.of(Received)[1:]] == [LARGE] * 3
    rig.node.links.close_link(up.link, "done")
    until(lambda: not rig.visitors and len(rig.head.events) == 3)


def test_who_does_not_ask_is_refused_at_once(rig: Rig, until: Until) -> None:
    rig.connect(passed_on=False)
    until(lambda: rig.node.of(ConnectFailed))
    assert "reset" in rig.node.of(ConnectFailed)[0].reason
    assert (rig.head.events, rig.visitors) == ([], 0)


def test_nobody_is_passed_on_while_no_head_is_active_or_it_does_not_answer(rig: Rig, until: Until) -> None:
    rig.active = None
    rig.connect(passed_on=True)
    until(lambda: len(rig.node.of(ConnectFailed)) == 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        rig.active = taken.getsockname()
        rig.connect(passed_on=True)
        until(lambda: len(rig.node.of(ConnectFailed)) == 2)
    assert rig.log == ["cannot pass a connection on: the active head does not answer: Connection refused"]
    assert rig.visitors == 0


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 20, b"\x16\x03\x01\x00\x05hello", encode_frame(b"x")],
    ids=["http", "too-long", "no-greeting", "frame"],
)
def test_what_is_no_greeting_is_refused(rig: Rig, until: Until, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", rig.port.port)) as sock:
        sock.sendall(said)
        until(lambda: not rig.visitors and is_closed(sock))


def is_closed(sock: socket.socket) -> bool:
    """Say whether the other side has closed, in whatever way."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_who_greets_slowly_or_not_at_all_is_refused_in_time(rig: Rig, loop: EpollLoop, clock: Clock) -> None:
    silent, slow = (socket.create_connection(("127.0.0.1", rig.port.port)) for _ in range(2))
    with silent, slow:
        slow.sendall(b"\x16\x03\x01\x02\x00" + b"x" * 300)
        while rig.visitors < 2:
            loop.run_once(0.05)
        clock.skip(GREETING_S + 1, loop)
        assert rig.visitors == 0
        assert is_closed(silent)
        assert is_closed(slow)
    assert MAX_GREETING_BYTES * MAX_VISITORS <= 1 << 20


def crowd_of(rig: Rig, count: int) -> list[socket.socket]:
    """Connect so often from one other host, and say nothing."""
    return [
        socket.create_connection(("127.0.0.1", rig.port.port), source_address=("127.0.0.2", 0)) for _ in range(count)
    ]


def test_silent_connections_of_one_host_keep_no_other_out(
    rig: Rig, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_port, "MAX_VISITORS", 16)
    monkeypatch.setattr(standby_port, "GREETING_S", 3_600.0)
    crowd = crowd_of(rig, 20)
    until(lambda: sum(is_closed(sock) for sock in crowd) == 12)
    # The host's own newest ones have taken the place of its oldest.
    assert [is_closed(sock) for sock in crowd] == [True] * 12 + [False] * 8
    rig.connect(passed_on=True)
    until(lambda: rig.node.of(LinkOpened))
    for sock in crowd:
        sock.close()


def test_a_host_whose_connections_are_all_passed_on_is_refused_more_than_its_share(
    rig: Rig, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_port, "MAX_VISITORS", 4)
    monkeypatch.setattr(standby_port, "PASS_ON", "hello")
    with socket.create_server(("127.0.0.1", 0)) as far:
        rig.active = far.getsockname()
        first, second = crowd_of(rig, 2)
        for sock in (first, second):
            sock.sendall(b"\x16\x03\x01\x00\x05hello")
        until(lambda: all(visitor.is_passed_on for visitor in rig.port._visitors) and rig.visitors == 2)
        (third,) = crowd_of(rig, 1)
        until(lambda: is_closed(third))
        assert rig.visitors == 2
        assert len([line for line in rig.log if "127.0.0.2" in line]) == 1
        for sock in (first, second, third):
            sock.close()
        until(lambda: not rig.visitors)


def test_two_heads_that_take_each_other_for_the_active_one_do_no_harm(rig: Rig, until: Until) -> None:
    rig.active = ("127.0.0.1", rig.port.port)
    rig.connect(passed_on=True)
    until(lambda: rig.node.of(ConnectFailed) and not rig.visitors)


def test_a_reader_that_stops_stops_the_writer(
    rig: Rig, loop: EpollLoop, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_port, "PASS_ON", "hello")
    with socket.create_server(("127.0.0.1", 0)) as far:
        rig.active = far.getsockname()
        near = socket.create_connection(("127.0.0.1", rig.port.port))
        near.sendall(b"\x16\x03\x01\x00\x05hello")
        until(lambda: rig.visitors == 1)
        found: list[socket.socket] = []
        taker = threading.Thread(target=lambda: found.append(far.accept()[0]))
        taker.start()
        until(lambda: found)
        taker.join()
        near.setblocking(False)
        sent = stuck = 0
        with near, found[0] as end:
            while stuck < 50:
                # Nobody reads: at some point nothing goes any more.
                try:
                    sent += near.send(b"z" * 65536)
                    stuck = 0
                except BlockingIOError:
                    stuck += 1
                loop.run_once(0.001)
            end.setblocking(False)
            taken = bytearray()

            def all_taken() -> bool:
                try:
                    taken.extend(end.recv(1 << 20))
                except BlockingIOError:
                    return False
                return len(taken) == 10 + sent

            until(all_taken)
        assert bytes(taken) == b"\x16\x03\x01\x00\x05hello" + b"z" * sent
        until(lambda: rig.visitors == 0)
