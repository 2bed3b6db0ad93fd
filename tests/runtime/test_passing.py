"""Clients of a host whose head is on standby, and the active head: real sockets and real TLS, all on one loop."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import ClientClosed, ClientOpened, FromClient, HeadHeard
from heorot.core.wire import clients as c
from heorot.core.wire.framing import encode_frame
from heorot.core.wire.passing import LEFT, MAX_OF_NODE, PASS_VERSION, PassOn, decode_pass
from heorot.core.wire.tree import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello, decode_link, encode
from heorot.runtime.callers import Account
from heorot.runtime.channel import Channel
from heorot.runtime.clients import Clients
from heorot.runtime.links import Links
from heorot.runtime.loop import EpollLoop
from heorot.runtime.passing import PAUSE_BYTES, Passing
from heorot.runtime.sockets import bind_tcp, connect_unix
from heorot.runtime.tls_codec import TlsCodec
from heorot.security import tls
from heorot.security.authority import Authority

Until = Callable[[Callable[[], object]], None]
HELLO = c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")


@pytest.fixture(scope="module")
def heads(cluster: Path) -> Path:
    """The cluster's directory with a second head, h1."""
    Authority.load(cluster / "ca").issue_head("h1").write(cluster / "h1")
    return cluster


class Active:
    """The active head's side."""

    def __init__(self, loop: EpollLoop, directory: Path, identity: Path) -> None:
        self.events: list[Any] = []
        self.link_events: list[Any] = []
        self.log: list[str] = []
        self.listener = bind_tcp("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.clients = Clients(loop, directory / "active.sock", self.events.append, self._say, "h0", 7)
        self.links = Links(
            loop,
            "test",
            tls.client_context(identity),
            lambda: tls.server_context(identity),
            self.link_events.append,
            self._say,
            take_head=self.clients.passed_on,
        )
        self.links.listen(self.listener)

    def _say(self, level: str, text: str) -> None:
        self.log.append(text)

    def of(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]

    def close(self) -> None:
        """End it as a process that is killed would."""
        self.links.close()
        self.clients.close()


class Standby:
    """The standby head's side."""

    def __init__(
        self, loop: EpollLoop, directory: Path, identity: Path, ports: tuple[int, ...], leader: str = ""
    ) -> None:
        self.log: list[str] = []
        self.path = directory / "standby.sock"
        self.passing = Passing(
            loop,
            self.path,
            "test",
            lambda: tuple(("127.0.0.1", port) for port in ports),
            leader,
            tls.client_context(identity),
            lambda level, text: self.log.append(text),
        )
        self.passing.listen()


class Client:
    """A command on the standby head's host."""

    made: ClassVar[list[Client]] = []

    def __init__(self, loop: EpollLoop, path: Path) -> None:
        self.made.append(self)
        self.frames: list[bytes] = []
        self.ended: list[str] = []
        self.channel = Channel(loop, connect_unix(path), on_frame=self.frames.append, on_closed=self.ended.append)
        self.channel.start()

    def say(self, message: Any) -> None:
        self.channel.send(encode(message))


@pytest.fixture(autouse=True)
def _clients_end(loop: EpollLoop) -> Iterator[None]:
    yield
    for client in Client.made:
        client.channel.close()
    Client.made.clear()


@pytest.fixture
def active(loop: EpollLoop, tmp_path: Path, heads: Path) -> Iterator[Active]:
    made = Active(loop, tmp_path, heads / "h0")
    yield made
    made.close()


@pytest.fixture
def standby(loop: EpollLoop, tmp_path: Path, heads: Path, active: Active) -> Iterator[Standby]:
    made = Standby(loop, tmp_path, heads / "h1", (active.port,), "h0")
    yield made
    made.passing.close()


def passed_on(loop: EpollLoop, standby: Standby, active: Active, until: Until) -> Client:
    """Connect a client; it greets and the head hears it."""
    before = len(active.of(FromClient))
    client = Client(loop, standby.path)
    client.say(HELLO)
    until(lambda: len(active.of(FromClient)) > before)
    return client


def test_the_active_head_learns_who_the_client_is_and_they_talk(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    me = pwd.getpwuid(os.getuid())
    groups = tuple(os.getgrouplist(me.pw_name, os.getgid()))
    assert active.events == [
        ClientOpened(1, me.pw_name, os.getuid(), os.getgid(), groups),
        FromClient(1, HELLO),
    ]
    welcome = c.Welcome(1, "test", "h0", 7)
    active.clients.send(1, welcome)
    until(lambda: client.frames)
    assert client.frames == [encode(welcome)]
    assert not active.link_events
    client.channel.close()
    until(lambda: active.of(ClientClosed))
    # It has ended its connection itself: that is a hang-up.
    assert active.of(ClientClosed) == [ClientClosed(1, False)]


def of_node(loop: EpollLoop, tmp_path: Path, identity: Path, port: int) -> Standby:
    """Pass on as the agent of a node does: nothing but that, and its certificate, tells it from a head."""
    node = Standby(loop, tmp_path, identity, (port,))
    node.passing.context = tls.client_context(identity, passed_on=True, for_a_client=True)
    return node


def serving_nodes(loop: EpollLoop, active: Active, identity: Path) -> int:
    """Have the active head take clients of nodes as well; return its port."""
    listener = bind_tcp("127.0.0.1", 0)
    active.links.close()
    active.links = Links(
        loop, "test", tls.client_context(identity), lambda: tls.server_context(identity, takes_clients=True),
        active.link_events.append, active._say, take_head=active.clients.passed_on,
    )  # fmt: skip
    active.links.listen(listener)
    return int(listener.getsockname()[1])


def test_a_node_says_the_number_of_the_user_and_the_head_knows_the_rest(
    loop: EpollLoop, until: Until, active: Active, cluster: Path, tmp_path: Path
) -> None:
    Authority.load(cluster / "ca").issue_node(5).write(cluster / "n5")
    port = serving_nodes(loop, active, cluster / "h0")
    node = of_node(loop, tmp_path, cluster / "n5", port)
    node.passing._identities.of = lambda sock: Account(os.getuid(), 4711, "somebody else", (4711, 4712))  # type: ignore[method-assign]
    passed_on(loop, node, active, until)
    me = pwd.getpwuid(os.getuid())
    (opened,) = active.of(ClientOpened)
    assert (opened.user, opened.uid, opened.gid) == (me.pw_name, os.getuid(), me.pw_gid)
    assert opened.groups == tuple(os.getgrouplist(me.pw_name, me.pw_gid))
    assert opened.node == 5
    assert len(opened.holder) == tls.HOLDER_BYTES
    # As many as one may pass on at once, and no more.
    for _ in range(MAX_OF_NODE + 3):
        Client(loop, node.path).say(HELLO)
    until(lambda: len(active.of(FromClient)) == MAX_OF_NODE and "n5 has too many connections" in " ".join(active.log))
    Client.made[0].channel.close()
    until(lambda: active.of(ClientClosed))
    passed_on(loop, node, active, until)
    node.passing.close()


def test_what_the_head_said_last_arrives_before_the_end(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    messages = [c.ClientOutput("1.0", 0, 1, index * 50_000, bytes([index]) * 50_000) for index in range(100)]
    for message in messages:
        active.clients.send(1, message)
    active.clients.close_client(1)
    until(lambda: client.ended)
    assert client.frames == [encode(message) for message in messages]


def test_what_a_client_said_last_is_heard_before_its_end(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    for _ in range(200):
        client.say(HELLO)
    client.channel.finish()
    until(lambda: active.of(ClientClosed))
    assert [type(event) for event in active.events] == [ClientOpened] + [FromClient] * 201 + [ClientClosed]


def test_a_client_whose_way_is_lost_may_be_alive(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    standby.passing.close()
    until(lambda: active.of(ClientClosed) and client.ended)
    assert active.of(ClientClosed) == [ClientClosed(1, True)]


def test_a_head_that_ends_takes_the_connections_of_its_clients_with_it(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    clients = [passed_on(loop, standby, active, until) for _ in range(3)]
    active.close()
    until(lambda: all(client.ended for client in clients))
    late = Client(loop, standby.path)
    until(lambda: late.ended)
    assert any("no active head for a client of this host" in line for line in standby.log)


def test_a_side_that_does_not_read_stops_the_other_and_costs_no_memory(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    client.channel.pause()
    (relay,) = standby.passing._clients
    output = c.ClientOutput("1.0", 0, 1, 0, b"x" * 1_000_000)
    for _ in range(40):
        active.clients.send(1, output)
    to_head = active.clients._channels[1]

    def stuck() -> bool:
        # What is on its way inside the kernel is not ours to count; what waits in the relay is.
        assert relay.channel.backlog_bytes <= PAUSE_BYTES + 3 * len(output.data)
        assert relay._head is not None
        return relay._head._paused and to_head.backlog_bytes + len(to_head._unsent) > 0

    until(stuck)
    for _ in range(50):
        loop.run_once(0.01)
        assert stuck()
    client.channel.resume()
    until(lambda: len(client.frames) == 40)
    assert set(client.frames) == {encode(output)}


def test_only_the_head_that_leads_is_used_and_others_are_tried_until_it_is_found(
    loop: EpollLoop, until: Until, active: Active, tmp_path: Path, heads: Path
) -> None:
    # One that refuses, one that accepts and says nothing, one whose certificate names another head, and the right one.
    refusing = bind_tcp("127.0.0.1", 0)
    (tmp_path / "other").mkdir()
    stale = Active(loop, tmp_path / "other", heads / "h1")
    with refusing, socket.create_server(("127.0.0.1", 0)) as silent:
        ports = (refusing.getsockname()[1], silent.getsockname()[1], stale.port, active.port)
        standby = Standby(loop, tmp_path, heads / "h1", ports, "h0")
        first = passed_on(loop, standby, active, until)
        second = passed_on(loop, standby, active, until)
        assert standby.passing._last == (("127.0.0.1", active.port),)
        assert not stale.events
        for client in (first, second):
            client.channel.close()
        standby.passing.close()
        stale.close()


def test_a_node_that_answers_is_no_head(loop: EpollLoop, until: Until, tmp_path: Path, heads: Path) -> None:
    node = Active(loop, tmp_path, heads / "n0")
    standby = Standby(loop, tmp_path, heads / "h1", (node.port,))
    client = Client(loop, standby.path)
    client.say(HELLO)
    until(lambda: client.ended)
    assert "no head, as its certificate says" in standby.log[-1]
    assert not node.events
    standby.passing.close()
    node.close()


def test_a_node_cannot_pass_anybody_on(loop: EpollLoop, until: Until, active: Active, heads: Path) -> None:
    ended: list[str] = []
    sock = socket.create_connection(("127.0.0.1", active.port))
    channel = Channel(
        loop,
        sock,
        on_frame=lambda payload: None,
        on_closed=ended.append,
        on_established=lambda: channel.send(encode(PassOn(PASS_VERSION, 0, 0, "root", []))),
        tls=TlsCodec(tls.client_context(heads / "n0"), server_side=False),
    )
    channel.start()
    until(lambda: ended)
    assert not active.events


def test_a_head_must_say_whom_it_passes_on_before_anything_else(
    loop: EpollLoop, until: Until, active: Active, heads: Path
) -> None:
    ended: list[str] = []
    sock = socket.create_connection(("127.0.0.1", active.port))
    channel = Channel(
        loop,
        sock,
        on_frame=lambda payload: None,
        on_closed=ended.append,
        on_established=lambda: channel.send(encode(HELLO)),
        tls=TlsCodec(tls.client_context(heads / "h1"), server_side=False),
    )
    channel.start()
    until(lambda: ended)
    assert not active.events


def test_a_head_that_says_its_epoch_is_told_ours(loop: EpollLoop, until: Until, active: Active, heads: Path) -> None:
    answers: list[bytes] = []
    greeting = Hello(PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION, "c", -1, 9, "test")
    sock = socket.create_connection(("127.0.0.1", active.port))
    channel = Channel(
        loop,
        sock,
        on_frame=answers.append,
        on_closed=lambda reason: None,
        on_established=lambda: channel.send(encode(greeting)),
        tls=TlsCodec(tls.client_context(heads / "h1"), server_side=False),
    )
    channel.start()
    until(lambda: answers)
    answer = decode_link(answers[0])
    assert isinstance(answer, Hello)
    assert answer.epoch == 7
    assert active.events == [HeadHeard(9)]
    channel.close()


def test_a_client_cannot_say_for_the_head_that_it_left(
    loop: EpollLoop, until: Until, active: Active, standby: Standby
) -> None:
    client = passed_on(loop, standby, active, until)
    client.channel._sock.send(encode_frame(LEFT))
    until(lambda: client.ended and active.of(ClientClosed))
    assert active.of(ClientClosed) == [ClientClosed(1, False)]


@pytest.mark.parametrize("payload", [b"", b"\xc1", encode(HELLO), LEFT, encode(PassOn(1, 0, 0, "x" * 257, []))])
def test_greetings_between_heads_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_pass(payload)
