"""Links over real sockets and real TLS, all on one loop."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from heorot.core.machine import ConnectFailed, LinkClosed, LinkOpened, Received
from heorot.core.wire.framing import encode_frame
from heorot.core.wire.images import Piece
from heorot.core.wire.tree import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Down, Hello, Ping, Up
from heorot.runtime import link_shares
from heorot.runtime import links as links_module
from heorot.runtime.link_shares import MAX_LINKS_OF_ONE
from heorot.runtime.links import Links
from heorot.runtime.loop import EpollLoop
from heorot.runtime.sockets import bind_tcp
from heorot.security import tls
from tests.runtime.conftest import Clock

Until = Callable[[Callable[[], object]], None]
HELLO = Hello(PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION, "test", 0, 1, "0")


class Daemon:
    """One daemon's links, with all events and log lines kept."""

    def __init__(self, loop: EpollLoop, identity: Path, cluster: str = "test", join: Any = None) -> None:
        self.events: list[Any] = []
        self.log: list[str] = []
        self.listener = bind_tcp("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.links = Links(
            loop,
            cluster,
            tls.client_context(identity),
            lambda: tls.server_context(identity, allow_anonymous=join is not None),
            self.events.append,
            lambda level, text: self.log.append(f"{level} {text}"),
            join=join,
        )

    def of(self, kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]


@pytest.fixture
def pair(loop: EpollLoop, cluster: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """A head that listens and a node."""
    head, node = Daemon(loop, cluster / "h0"), Daemon(loop, cluster / "n0")
    head.links.listen(head.listener)
    yield head, node
    head.links.close()
    node.links.close()
    node.listener.close()


def open_link(head: Daemon, node: Daemon, until: Until) -> tuple[int, int]:
    """Connect the node to the head, greet both ways; return the two link numbers."""
    node.links.connect("up", "127.0.0.1", head.port, 5000)
    until(lambda: head.of(LinkOpened) and node.of(LinkOpened))
    up, down = node.of(LinkOpened)[-1], head.of(LinkOpened)[-1]
    node.links.send(up.link, HELLO, False)
    head.links.send(down.link, HELLO, False)
    until(lambda: head.of(Received) and node.of(Received))
    return up.link, down.link


def test_a_link_says_who_is_at_the_other_end(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    open_link(head, node, until)
    assert [(event.link, event.peer, event.connected_for) for event in head.of(LinkOpened)] == [(1, 0, "")]
    assert node.of(LinkOpened) == [LinkOpened(1, -1, "up")]
    assert node.of(Received) == [Received(1, HELLO)]


def test_large_and_many_messages_arrive_whole_and_in_order(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    up, down = open_link(head, node, until)
    sent = [Up(0, bytes([index % 256]) * (index * 397)) for index in range(300)] + [Up(0, b"x" * 8_000_000)]
    for message in sent:
        node.links.send(up, message, False)
        head.links.send(down, message, False)
    until(lambda: len(head.of(Received)) > len(sent) and len(node.of(Received)) > len(sent))
    assert [event.message for event in head.of(Received)[1:]] == sent
    assert [event.message for event in node.of(Received)[1:]] == sent


def test_control_overtakes_bulk(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    up, _ = open_link(head, node, until)
    bulk = [Up(0, bytes([index]) * 100_000) for index in range(50)]
    for message in bulk:
        node.links.send(up, message, True)
    node.links.send(up, Ping(), False)
    until(lambda: len(head.of(Received)) == 52)
    messages = [event.message for event in head.of(Received)[1:]]
    assert messages[0] == Ping()
    assert messages[1:] == bulk


def test_control_does_not_break_into_a_frame_that_has_begun(
    loop: EpollLoop, pair: tuple[Daemon, Daemon], until: Until
) -> None:
    head, node = pair
    up, _ = open_link(head, node, until)
    bulk = [Up(0, bytes([index]) * 3_000_000) for index in range(4)]
    for message in bulk:
        node.links.send(up, message, True)
    # Some of the first frame leaves, and no more than the sockets hold.
    loop.run_once(0)
    for _ in range(2):
        node.links.send(up, Ping(), False)
    until(lambda: len(head.of(Received)) == 7)
    messages = [event.message for event in head.of(Received)[1:]]
    assert messages == [bulk[0], Ping(), Ping(), *bulk[1:]]


def test_chunks_of_images_arrive_as_views_of_their_message(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    up, _ = open_link(head, node, until)
    sent = Piece(bytes(32), 3, [bytes([number]) * 65_536 for number in range(8)])
    node.links.send(up, sent, True)
    until(lambda: len(head.of(Received)) == 2)
    piece = head.of(Received)[1].message
    assert piece == sent
    assert {type(chunk) for chunk in piece.chunks} == {memoryview}


def test_what_was_queued_arrives_before_a_close(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    up, _ = open_link(head, node, until)
    last = Up(0, b"y" * 5_000_000)
    node.links.send(up, last, True)
    node.links.close_link(up, "done")
    until(lambda: head.of(LinkClosed))
    assert head.of(Received)[-1].message == last
    assert head.of(LinkClosed) == [LinkClosed(1, "the peer closed the connection")]
    assert not node.of(LinkClosed)


def test_the_frame_limit_is_small_until_the_hello(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    node.links.connect("up", "127.0.0.1", head.port, 5000)
    until(lambda: node.of(LinkOpened))
    node.links.send(1, Up(0, b"z" * 70_000), False)
    until(lambda: head.of(LinkClosed))
    assert "limit is 65536" in head.of(LinkClosed)[0].reason
    assert not head.of(Received)


def test_a_message_that_is_none_closes_the_link(pair: tuple[Daemon, Daemon], until: Until, cluster: Path) -> None:
    head, _ = pair
    with socket.create_connection(("127.0.0.1", head.port)) as raw:
        raw.setblocking(False)
        with tls.client_context(cluster / "n1").wrap_socket(raw, do_handshake_on_connect=False) as client:

            def shaken() -> bool:
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    return False
                return True

            until(shaken)
            client.sendall(encode_frame(b"\xff\x00nonsense"))
            until(lambda: head.of(LinkClosed))
    assert head.of(LinkOpened)[0].peer == 1
    assert "not a valid link message" in head.of(LinkClosed)[0].reason


def test_a_certificate_of_another_cluster_is_refused_with_a_reason(
    pair: tuple[Daemon, Daemon], loop: EpollLoop, until: Until, cluster: Path
) -> None:
    head, _ = pair
    stranger = Daemon(loop, cluster / "stranger", "other")
    stranger.links.connect("up", "127.0.0.1", head.port, 5000)
    until(lambda: stranger.of(ConnectFailed) and head.log)
    assert "certificate" in stranger.of(ConnectFailed)[0].reason
    assert "certificate" in head.log[0]
    assert not head.events
    stranger.listener.close()


def test_a_port_where_nobody_listens_fails_at_once(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    # The node's port is bound, but nobody listens on it.
    head.links.connect("k", "127.0.0.1", node.port, 60_000)
    until(lambda: head.of(ConnectFailed))
    assert head.of(ConnectFailed)[0].key == "k"
    assert "refused" in head.of(ConnectFailed)[0].reason


def test_a_peer_that_says_nothing_is_given_up(pair: tuple[Daemon, Daemon], until: Until) -> None:
    _, node = pair
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node.links.connect("k", "127.0.0.1", silent.getsockname()[1], 50)
        until(lambda: node.of(ConnectFailed))
    assert "no answer" in node.of(ConnectFailed)[0].reason


def test_a_peer_that_does_not_read_is_closed_not_buffered_for_ever(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    _, down = open_link(head, node, until)
    message = Down(1, [0, 0], b"w" * 1_000_000)
    # Nothing leaves between these calls, as if the peer took nothing.
    for _ in range(80):
        head.links.send(down, message, True)
    until(lambda: head.of(LinkClosed))
    assert "does not read" in head.of(LinkClosed)[0].reason


class Session:
    """Serves one peer without a certificate."""

    def __init__(self) -> None:
        self.closed = 0

    def greeting(self) -> bytes:
        return b"who are you?"

    def handle(self, payload: bytes, /) -> tuple[bytes, bool]:
        return b"welcome, " + payload, True

    def close(self) -> None:
        self.closed += 1


def test_a_link_says_which_key_the_nodes_certificate_is_for(
    pair: tuple[Daemon, Daemon], until: Until, cluster: Path
) -> None:
    head, node = pair
    open_link(head, node, until)
    certificate = x509.load_pem_x509_certificate((cluster / "n0" / "cert.pem").read_bytes())
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert [event.holder for event in head.of(LinkOpened)] == [tls.holder_of(key.public_bytes_raw())]
    assert [event.holder for event in node.of(LinkOpened)] == [b""]


def test_a_peer_without_certificate_may_only_ask_to_join(loop: EpollLoop, until: Until, cluster: Path) -> None:
    sessions: list[Session] = []

    def join(host: str) -> Session:
        sessions.append(Session())
        return sessions[-1]

    head = Daemon(loop, cluster / "h0", join=join)
    head.links.listen(head.listener)
    received = bytearray()
    with socket.create_connection(("127.0.0.1", head.port)) as raw:
        raw.setblocking(False)
        with tls.joining_context().wrap_socket(raw, do_handshake_on_connect=False) as client:

            def read() -> bool:
                try:
                    client.do_handshake()
                    data = client.recv(65536)
                except ssl.SSLWantReadError:
                    return False
                received.extend(data)
                return not data or data.endswith((b"?", b"me"))

            until(read)
            assert received == encode_frame(b"who are you?")
            client.sendall(encode_frame(b"me"))
            until(read)
            assert received == encode_frame(b"who are you?") + encode_frame(b"welcome, me")
    until(lambda: sessions[0].closed)
    assert not head.events
    head.links.close()


def test_hosts_that_ask_for_nothing_keep_no_other_from_joining(loop: EpollLoop, until: Until, cluster: Path) -> None:
    sessions: list[Session] = []

    def join(host: str) -> Session | None:
        if sum(not session.closed for session in sessions) >= 4:
            return None
        sessions.append(Session())
        return sessions[-1]

    head = Daemon(loop, cluster / "h0", join=join)
    head.links.listen(head.listener)
    with ExitStack() as stack:
        clients = []
        for address in ["127.0.0.2"] * 6 + ["127.0.0.1"]:
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", head.port), source_address=(address, 0)))
            raw.setblocking(False)
            clients.append(stack.enter_context(tls.joining_context().wrap_socket(raw, do_handshake_on_connect=False)))
            until(lambda: is_greeted(clients[-1]))
        # The last one, of another host, is still there.
        clients[-1].sendall(encode_frame(b"me"))
        until(lambda: sessions[-1].closed)
        assert [session.closed for session in sessions] == [1, 1, 1, 0, 0, 0, 1]
    until(lambda: all(session.closed for session in sessions))
    head.links.close()


def is_greeted(client: ssl.SSLSocket) -> bool:
    """Go on with the handshake; say whether the head's greeting is here."""
    try:
        client.do_handshake()
        return bool(client.recv(65536))
    except ssl.SSLWantReadError:
        return False


def test_strangers_keep_no_node_out_and_fill_no_log(
    pair: tuple[Daemon, Daemon], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "MAX_HANDSHAKES", 8)
    head, node = pair
    crowd = [socket.create_connection(("127.0.0.1", head.port)) for _ in range(100)]
    until(lambda: len(head.links._pending) == 8)
    open_link(head, node, until)
    until(lambda: len(head.links._pending) < 8)
    for stranger in crowd:
        stranger.close()
    until(lambda: not head.links._pending)
    told = [line for line in head.log if line.startswith("warning")]
    assert len(told) <= 2, told


def test_a_link_whose_frame_stands_still_is_closed(
    loop: EpollLoop, pair: tuple[Daemon, Daemon], until: Until, clock: Clock
) -> None:
    head, node = pair
    up, _ = open_link(head, node, until)
    channel = node.links._links[up].channel
    assert channel.tls is not None
    channel.tls.object.write(bytes((0, 1, 0, 0)) + b"begun")
    channel._send_now(channel.tls.pending())
    until(lambda: any(link.channel._decoder.buffered_bytes for link in head.links._links.values()))
    clock.skip(31, loop)
    until(lambda: head.of(LinkClosed))
    assert "a frame was begun" in head.of(LinkClosed)[0].reason


@pytest.fixture
def other(loop: EpollLoop, cluster: Path) -> Iterator[Daemon]:
    """A second node."""
    made = Daemon(loop, cluster / "n1")
    yield made
    made.links.close()
    made.listener.close()


def open_one(head: Daemon, node: Daemon, until: Until, greet: bool) -> int:
    """Connect once more; return the head's number of the link."""
    opened, reached, heard = len(head.of(LinkOpened)), len(node.of(LinkOpened)), len(head.of(Received))
    node.links.connect("up", "127.0.0.1", head.port, 60_000)
    until(lambda: len(head.of(LinkOpened)) > opened and len(node.of(LinkOpened)) > reached)
    if greet:
        node.links.send(node.of(LinkOpened)[-1].link, HELLO, False)
        until(lambda: len(head.of(Received)) > heard)
    number: int = head.of(LinkOpened)[-1].link
    return number


def open_more(head: Daemon, node: Daemon, count: int, until: Until, *, greet: bool = False) -> list[int]:
    """Connect so many times more, one after the other; return the head's numbers of the links."""
    return [open_one(head, node, until, greet) for _ in range(count)]


def closed_links(daemon: Daemon) -> list[int]:
    """Return the numbers of all links of which it was said that they are closed."""
    return [event.link for event in daemon.of(LinkClosed)]


def test_a_node_that_opens_many_links_loses_its_own(pair: tuple[Daemon, Daemon], other: Daemon, until: Until) -> None:
    head, node = pair
    _, greeted = open_link(head, node, until)
    opened = open_more(head, node, 20, until)
    # The link over which it has spoken stays, and the newest ones do.
    assert closed_links(head) == opened[: -(MAX_LINKS_OF_ONE - 1)]
    assert greeted in head.links._links
    (theirs,) = open_more(head, other, 1, until, greet=True)
    assert closed_links(head) == opened[: -(MAX_LINKS_OF_ONE - 1)]
    assert theirs in head.links._links
    told = [line for line in head.log if line.startswith("warning")]
    assert len(told) == 1, told
    assert "n0 has opened more than 4 links" in told[0]


def test_a_node_whose_former_links_linger_always_gets_in(pair: tuple[Daemon, Daemon], until: Until) -> None:
    head, node = pair
    # Each time it has said who it is, and its end of the link before is open still, as after a cut of the network.
    opened = open_more(head, node, 20, until, greet=True)
    assert len(head.of(Received)) == 20
    assert closed_links(head) == opened[:-MAX_LINKS_OF_ONE]


def test_a_node_that_connects_and_says_nothing_is_closed(
    loop: EpollLoop, pair: tuple[Daemon, Daemon], until: Until, clock: Clock
) -> None:
    head, node = pair
    _, spoken = open_link(head, node, until)
    (silent,) = open_more(head, node, 1, until)
    clock.skip(links_module.GREETING_TIMEOUT_S + 1, loop)
    until(lambda: head.of(LinkClosed))
    clock.skip(links_module.GREETING_TIMEOUT_S + 1, loop)
    assert head.of(LinkClosed) == [LinkClosed(silent, "no answer in time")]
    assert spoken in head.links._links


def test_frames_that_one_node_begins_leave_room_for_those_of_others(
    pair: tuple[Daemon, Daemon], other: Daemon, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_shares, "MAX_BEGUN_BYTES", 6 << 20)
    head, node = pair
    greedy = open_more(head, node, MAX_LINKS_OF_ONE, until, greet=True)
    for number in [event.link for event in node.of(LinkOpened)]:
        channel = node.links._links[number].channel
        assert channel.tls is not None
        channel._send_now(channel.tls.encrypt([(8 << 20).to_bytes(4, "big") + b"begun"]))
    # On its announcement a frame takes a MiB: three of them leave three.
    until(lambda: head.of(LinkClosed))
    assert len(head.of(LinkClosed)) == 1
    assert head.of(LinkClosed)[0].link in greedy
    assert "n0 has 4 and others have 0: nobody may hold more than is left for others" in head.of(LinkClosed)[0].reason
    open_more(head, other, 1, until, greet=True)
    other.links.send(other.of(LinkOpened)[-1].link, Up(1, bytes(1 << 20)), False)
    until(lambda: any(type(event.message) is Up for event in head.of(Received)))
    assert len(head.of(LinkClosed)) == 1
