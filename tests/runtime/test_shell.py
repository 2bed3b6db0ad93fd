"""A shell runs a machine: order, no re-entrancy, and what an error of each kind does. Real sockets around it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from heorot.core.client.messages import CLIENT_PROTOCOL_VERSION
from heorot.core.errors import ProtocolError
from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.machine import (
    ClientClosed,
    ClientOpened,
    CloseClient,
    FromClient,
    HeadInstruction,
    LinkClosed,
    LinkOpened,
    Log,
    SetTimer,
    Stop,
    TimerFired,
    ToClient,
)
from heorot.core.timers import HeartbeatDue
from heorot.core.wire.clients import ClientHello, ShowStatus, Welcome
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.tree import LinkMessage, Pong
from heorot.daemons.kept_wishes import KeptWishes
from heorot.images.cache import Cache
from heorot.runtime.clients import Clients
from heorot.runtime.images import Images
from heorot.runtime.links import Links
from heorot.runtime.log import LogFile as LogFile
from heorot.runtime.loop import EpollLoop
from heorot.runtime.refusals import WINDOW_S
from heorot.runtime.shell import HeadDaemonShell
from heorot.runtime.sockets import bind_tcp
from heorot.security import tls
from tests.core.rigs import sign, verify
from tests.runtime.conftest import Clock
from tests.runtime.test_links import HELLO, Daemon

Until = Callable[[Callable[[], object]], None]


class Scripted:
    """A machine whose answers the test gives; keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.answer: Callable[[Any], list[HeadInstruction]] = lambda event: []
        self.depth = 0

    def start(self, now_ms: int) -> list[HeadInstruction]:
        return [Log("info", "started"), SetTimer(HeartbeatDue(), now_ms)]

    def handle(self, event: Any, now_ms: int) -> list[HeadInstruction]:
        self.depth += 1
        assert self.depth == 1, "one event at a time"
        self.events.append(event)
        try:
            return self.answer(event)
        finally:
            self.depth -= 1

    def of(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]


class Rig:
    """A shell with a scripted machine that serves clients."""

    def __init__(self, loop: EpollLoop, directory: Path, cluster: Path, head: HeadMachine | None = None) -> None:
        self.machine = Scripted()
        self.path = directory / "head.sock"
        self.log_path = directory / "head.log"
        self.log = log = LogFile(self.log_path, "head")
        self.connected: list[Client] = []
        self.shell = HeadDaemonShell(loop, log)
        identity = cluster / "h0"
        self.links = Links(
            loop, "test", tls.client_context(identity), lambda: tls.server_context(identity), self.shell.feed, log
        )
        self.clients = Clients(loop, self.path, self.shell.feed, log)
        self.images = Images(loop, Cache(str(directory / "images"), 1 << 20, "h0"), self.shell.feed, log)
        wishes = KeptWishes(loop, None, None, self.shell.feed)
        self.shell.attach(
            head or self.machine,
            self.links,
            self.clients,
            self.images,
            wishes.keep,
            lambda item: None,
            wishes.keep_events,
            lambda item: None,
        )
        self.clients.listen()
        self.shell.start()

    def close(self) -> None:
        """Close everything."""
        self.clients.close()
        self.links.close()
        self.images.close()
        self.log.close()
        for client in self.connected:
            client.socket.close()


@pytest.fixture
def rig(loop: EpollLoop, tmp_path: Path, cluster: Path) -> Iterator[Rig]:
    """A rig in a directory whose path is too long for a unix socket's address."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    made = Rig(loop, directory, cluster)
    yield made
    made.close()


class Client:
    """A client of the rig that never blocks."""

    def __init__(self, rig: Rig) -> None:
        rig.connected.append(self)
        self.socket = socket.socket(socket.AF_UNIX)
        directory = os.open(rig.path.parent, os.O_PATH)
        self.socket.connect(f"/proc/self/fd/{directory}/{rig.path.name}")
        os.close(directory)
        self.socket.setblocking(False)
        self.decoder = FrameDecoder()
        self.received: list[Any] = []
        self.ended = False

    def send(self, *message: Any) -> None:
        """Send one message."""
        self.socket.sendall(encode_frame(msgpack.packb(list(message))))

    def poll(self) -> bool:
        """Take what has come; return whether the head has closed the connection."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return False
        self.ended = not data
        self.received += [msgpack.unpackb(frame) for frame in self.decoder.feed(data)]
        return self.ended


def test_start_and_timers_reach_the_machine(rig: Rig, until: Until) -> None:
    until(lambda: rig.machine.events)
    assert rig.machine.events == [TimerFired(HeartbeatDue())]
    assert "started" in rig.log_path.read_text()


def test_the_kernel_says_who_a_client_is(rig: Rig, until: Until) -> None:
    client = Client(rig)
    until(lambda: rig.machine.of(ClientOpened))
    opened = rig.machine.of(ClientOpened)[0]
    assert (opened.uid, opened.gid) == (os.getuid(), os.getgid())
    assert opened.gid in opened.groups
    client.socket.close()
    until(lambda: rig.machine.of(ClientClosed))


def test_messages_go_both_ways_and_a_closed_client_gets_its_last_word(rig: Rig, until: Until) -> None:
    def answer(event: Any) -> list[HeadInstruction]:
        if type(event) is FromClient and type(event.message) is ClientHello:
            return [ToClient(event.client, Welcome(1, "x" * 3_000_000, "h0", 7)), CloseClient(event.client)]
        return []

    rig.machine.answer = answer
    client = Client(rig)
    client.send("hello", CLIENT_PROTOCOL_VERSION, "0")
    until(client.poll)
    assert client.received == [["welcome", 1, "x" * 3_000_000, "h0", 7, 0]]
    # The machine closed it: it is not told so.
    assert not rig.machine.of(ClientClosed)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", msgpack.packb(["nosuch", 1]), msgpack.packb(["status", -1]), b"\x91" * 900]
)
def test_what_is_no_message_closes_that_client_alone(rig: Rig, until: Until, payload: bytes) -> None:
    bystander, client = Client(rig), Client(rig)
    client.socket.sendall(encode_frame(payload))
    until(client.poll)
    assert client.received[0][:3] == ["error", 0, "protocol"]
    until(lambda: rig.machine.of(ClientClosed))
    bystander.send("status", 5)
    until(lambda: rig.machine.of(FromClient))
    assert rig.machine.of(FromClient)[0].message == ShowStatus(5)


@pytest.mark.parametrize("error", [ProtocolError("that is not allowed"), KeyError("that is not allowed")])
def test_an_error_that_a_message_provokes_closes_its_sender_alone(rig: Rig, until: Until, error: Exception) -> None:
    def answer(event: Any) -> list[HeadInstruction]:
        if type(event) is FromClient and event.message == ShowStatus(13):
            raise error
        return []

    rig.machine.answer = answer
    bystander, client = Client(rig), Client(rig)
    client.send("status", 13)
    until(client.poll)
    assert client.received[0][2] == "protocol"
    assert "not allowed" in client.received[0][3]
    bystander.send("status", 14)
    until(lambda: rig.machine.of(FromClient)[-1:] == [FromClient(1, ShowStatus(14))])
    # Only an error that nobody foresaw is worth a traceback.
    assert ("Traceback" in rig.log_path.read_text()) == (not isinstance(error, ProtocolError))


def test_an_assertion_ends_the_daemon(rig: Rig, until: Until) -> None:
    def answer(event: Any) -> list[HeadInstruction]:
        if type(event) is FromClient:
            raise AssertionError("wrong state")
        return []

    rig.machine.answer = answer
    client = Client(rig)
    client.send("status", 1)
    with pytest.raises(AssertionError, match="wrong state"):
        until(client.poll)


def test_stop_ends_the_loop_and_nothing_is_handled_after_it(rig: Rig, loop: EpollLoop) -> None:
    rig.machine.answer = lambda event: [Stop("enough")]
    for _ in range(2):
        Client(rig)
    loop.run_forever()
    assert rig.shell.stopped == "enough"
    assert len(rig.machine.events) == 1


def test_a_client_that_does_not_read_is_closed_at_a_bound(rig: Rig, until: Until) -> None:
    def answer(event: Any) -> list[HeadInstruction]:
        if type(event) is FromClient:
            return [ToClient(event.client, Welcome(1, "x" * 1_000_000, "h0", 7)) for _ in range(100)]
        return []

    rig.machine.answer = answer
    client = Client(rig)
    client.send("status", 1)
    until(lambda: rig.machine.of(ClientClosed))
    assert client.socket.fileno() >= 0


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([["hello", 99, "9"]], id="of-another-release"),
        pytest.param([["status", 1]], id="without-a-greeting"),
        pytest.param(
            [["hello", CLIENT_PROTOCOL_VERSION, "0"], ["hello", CLIENT_PROTOCOL_VERSION, "0"]], id="greets-twice"
        ),
        pytest.param([["hello", CLIENT_PROTOCOL_VERSION, "0"], ["nosuch", 1]], id="says-nonsense"),
        pytest.param([["hello", CLIENT_PROTOCOL_VERSION, "0"], ["status", 1]], id="leaves"),
        pytest.param([], id="leaves-without-a-word"),
    ],
)
def test_a_head_forgets_a_client_however_it_ends(
    loop: EpollLoop, tmp_path: Path, cluster: Path, until: Until, said: list[list[Any]]
) -> None:
    # With the real machine: what a shell tells a machine, and what it expects to be told, must be the same.
    head = HeadMachine(HeadConfig("test", "h0", "0", 1, "127.0.0.1", 1), sign, verify)
    rig = Rig(loop, tmp_path, cluster, head)
    try:
        stays = Client(rig)
        until(lambda: head.clients.connected == 1)
        client = Client(rig)
        until(lambda: head.clients.connected == 2)
        for message in said:
            client.send(*message)
        until(lambda: client.poll() or len(client.received) == len(said))
        client.socket.close()
        until(lambda: head.clients.connected == 1)
        stays.send("hello", CLIENT_PROTOCOL_VERSION, "0")
        until(lambda: stays.poll() or stays.received)
    finally:
        rig.close()


@pytest.mark.parametrize("word", [HELLO, Pong()], ids=["of-another-cluster", "before-its-hello"])
def test_a_node_that_is_refused_again_and_again_is_told_of_once(
    loop: EpollLoop, tmp_path: Path, cluster: Path, until: Until, clock: Clock, word: LinkMessage
) -> None:
    head = HeadMachine(HeadConfig("another", "h0", "0", 1, "127.0.0.1", 1), sign, verify)
    rig, node = Rig(loop, tmp_path, cluster, head), Daemon(loop, cluster / "n0")
    listener = bind_tcp("127.0.0.1", 0)
    rig.links.listen(listener)
    try:
        for times in range(1, 21):
            come_once(node, listener.getsockname()[1], word, until)
            assert len(node.of(LinkClosed)) == times
        assert len(warnings_of(rig)) == 1, warnings_of(rig)
        clock.skip(WINDOW_S + 1, loop)
        assert "refused 19 more of n0 in 10 minutes" in warnings_of(rig)[1]
    finally:
        node.links.close()
        node.listener.close()
        rig.close()


def come_once(node: Daemon, port: int, word: LinkMessage, until: Until) -> None:
    """Connect, say this, and wait until the other side has closed the link."""
    opened, closed = len(node.of(LinkOpened)), len(node.of(LinkClosed))
    node.links.connect("up", "127.0.0.1", port, 60_000)
    until(lambda: len(node.of(LinkOpened)) > opened)
    node.links.send(node.of(LinkOpened)[-1].link, word, False)
    until(lambda: len(node.of(LinkClosed)) > closed)


def warnings_of(rig: Rig) -> list[str]:
    """Return the lines of the log that people shall see."""
    return [line for line in rig.log_path.read_text().splitlines() if " warning " in line or " error " in line]
