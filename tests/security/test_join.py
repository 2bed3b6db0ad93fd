"""Enrolment over real TLS sockets: good, wrong, expired and used-up tokens, impostors, hostile frames."""

from __future__ import annotations

import dataclasses
import datetime
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.joining import (
    MAX_JOIN_FRAME_BYTES,
    JoinAccepted,
    JoinGreeting,
    JoinRefused,
    JoinRequest,
    decode_join,
)
from heorot.core.wire.tree import encode
from heorot.security.authority import Authority
from heorot.security.join import MAX_ANONYMOUS_LINKS, REQUESTS_AT_ONCE, JoinServer
from heorot.security.join_client import join, renew
from heorot.security.join_host import JoinClient, JoinRefusedError, RenewalClient
from heorot.security.tls import Peer, client_context, peer_of, server_context
from heorot.security.tokens import Token

START_SECONDS = 1_800_000_000.0


class Head:
    """A head that does nothing but enrol, one link after the other, over real sockets."""

    def __init__(self, directory: Path, cluster: str = "den") -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "ca", cluster)
        self.authority.issue_head("h0").write(directory / "h0")
        self.identity = directory / "h0"
        self.now = START_SECONDS
        self.links = 0
        self.drop_answers = 0
        self.requests: list[bytes] = []
        self.server = JoinServer(
            self.authority,
            directory,
            lambda: ["10.0.0.1:7733"],
            16,
            8,
            wall_clock=lambda: self.now,
            monotonic=lambda: self.now,
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def token(self, *, ttl_ms: int = 3_600_000, uses: int = 1, node: int = -1) -> Token:
        return self.server.tokens.create(
            self.authority.fingerprint, int(self.now * 1000), ttl_ms=ttl_ms, uses=uses, node=node
        )[0]

    def join(self, token: Token, node: int = -1, attempts: int = 1) -> JoinAccepted:
        return join("127.0.0.1", self.port, token, node=node, name="host", attempts=attempts, timeout_seconds=10)[1]

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            raw.settimeout(10)
            self.links += 1
            with suppress(OSError, ProtocolError), raw:
                self._serve_link(raw)

    def _serve_link(self, raw: socket.socket) -> None:
        context = server_context(self.identity, allow_anonymous=True)
        with context.wrap_socket(raw, server_side=True) as connection:
            session = self.server.session("10.0.0.9")
            assert session is not None
            try:
                connection.sendall(encode_frame(session.greeting()))
                decoder = FrameDecoder(MAX_JOIN_FRAME_BYTES)
                frames: list[bytes] = []
                while not frames:
                    data = connection.recv(4096)
                    if not data:
                        return
                    frames = decoder.feed(data)
                self.requests.append(frames[0])
                answer, _ = session.handle(frames[0])
                if self.drop_answers:
                    self.drop_answers -= 1
                    return
                connection.sendall(encode_frame(answer))
            finally:
                session.close()


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    head = Head(tmp_path / "den")
    yield head
    head.close()


def test_a_host_becomes_a_node_and_is_known_as_one(head: Head, tmp_path: Path) -> None:
    identity, accepted, address = join("127.0.0.1", head.port, head.token(), name="ford")
    assert (identity.name, identity.cluster, address) == ("node:0", "den", "127.0.0.1")
    assert (accepted.node, accepted.heads, accepted.fanout) == (0, ["10.0.0.1:7733"], 16)
    assert [(record.number, record.host) for record in head.server.registry.nodes().values()] == [(0, "ford")]
    identity.write(tmp_path / "n0")
    left, right = socket.socketpair()
    peers: list[Peer] = []

    def serve() -> None:
        context = server_context(head.identity)
        with context.wrap_socket(right, server_side=True) as connection:
            peers.append(peer_of(connection, "den"))

    thread = threading.Thread(target=serve)
    thread.start()
    with client_context(tmp_path / "n0").wrap_socket(left) as connection:
        peers.append(peer_of(connection, "den"))
    thread.join()
    assert {(peer.kind, peer.name) for peer in peers} == {("node", "n0"), ("head", "h0")}


def test_hosts_get_the_next_free_number_or_the_one_they_ask_for(head: Head) -> None:
    token = head.token(uses=4)
    assert [head.join(token, node).node for node in (-1, 5, -1)] == [0, 5, 1]
    with pytest.raises(JoinRefusedError, match="number 5 is given to a node already") as caught:
        head.join(token, 5)
    assert caught.value.code == "node-number"
    # The refusal took no use.
    assert head.join(token).node == 2


def test_a_cluster_gives_no_number_beyond_its_capacity(head: Head) -> None:
    token = head.token(uses=9)
    with pytest.raises(JoinRefusedError, match="room for nodes 0 to 7"):
        head.join(token, 8)
    assert [head.join(token).node for _ in range(8)] == list(range(8))
    with pytest.raises(JoinRefusedError, match="room for nodes 0 to 7"):
        head.join(token)
    with pytest.raises(JoinRefusedError, match="room for nodes 0 to 7"):
        head.join(head.token(node=8))


def test_a_token_for_one_number_gives_that_and_may_replace_a_node(head: Head) -> None:
    first = head.join(head.token(node=3))
    key = head.server.registry.nodes()[3].public_key
    with pytest.raises(JoinRefusedError, match="this token is for node 3, not for node 4"):
        head.join(head.token(node=3), 4)
    second = head.join(head.token(node=3))
    assert first.node == second.node == 3
    assert head.server.registry.nodes()[3].public_key != key


def test_a_wrong_token_is_refused(head: Head) -> None:
    token = head.token()
    with pytest.raises(JoinRefusedError, match="does not accept this token") as caught:
        head.join(Token(token.fingerprint, token.id, bytes(24)))
    assert caught.value.code == "token-unknown"
    assert head.server.registry.nodes() == {}
    assert head.join(token).node == 0


def test_an_expired_token_is_refused(head: Head) -> None:
    token = head.token(ttl_ms=60_000)
    head.now += 60
    with pytest.raises(JoinRefusedError, match="has expired"):
        head.join(token)
    assert head.server.registry.nodes() == {}


def test_a_used_token_is_refused(head: Head) -> None:
    token = head.token()
    head.join(token)
    with pytest.raises(JoinRefusedError, match="used up"):
        head.join(token)
    assert list(head.server.registry.nodes()) == [0]


def test_a_lost_answer_costs_no_use_and_no_number(head: Head) -> None:
    token = head.token()
    head.drop_answers = 1
    assert head.join(token, attempts=3).node == 0
    assert list(head.server.registry.nodes()) == [0]
    assert head.links == 2


def test_the_secret_never_goes_to_a_head_of_another_cluster(head: Head, tmp_path: Path) -> None:
    other = Head(tmp_path / "lair", "den")
    try:
        with pytest.raises(SecurityError, match=r"for another cluster than this head's .* nothing secret was sent"):
            other.join(head.token())
        other._thread.join(0)
        assert other.requests == []
    finally:
        other.close()


def test_the_secret_never_goes_to_one_who_shows_the_right_authority_but_has_no_certificate_of_it(
    head: Head, tmp_path: Path
) -> None:
    impostor = Head(tmp_path / "lair", "den")
    try:
        # It read the public CA certificate off the wire and repeats it.
        impostor.authority.ca_der = head.authority.ca_der
        with pytest.raises(SecurityError, match="not of the token's cluster; nothing secret was sent"):
            impostor.join(head.token())
        assert impostor.requests == []
    finally:
        impostor.close()


def test_the_secret_never_goes_to_a_node(head: Head, tmp_path: Path) -> None:
    head.authority.issue_node(7).write(tmp_path / "n7")
    head.identity = tmp_path / "n7"
    with pytest.raises(SecurityError, match="belongs to the cluster but is not a head; nothing secret was sent"):
        head.join(head.token())
    assert head.requests == []


def test_a_head_that_cannot_be_reached_is_named(head: Head) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SecurityError, match=f"cannot join through the head 127.0.0.1:{port}: Connection refused"):
        join("127.0.0.1", port, head.token(), attempts=1)


def test_what_is_no_head_is_told(head: Head) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as raw:
                raw.recv(1024)
                raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SecurityError, match="the peer does not speak TLS"):
            join("127.0.0.1", listener.getsockname()[1], head.token(), attempts=1)
        thread.join()


def test_a_node_renews_its_certificate_even_if_it_has_expired(head: Head) -> None:
    identity, _, _ = join("127.0.0.1", head.port, head.token())
    key = load_pem_private_key(identity.key_pem, None)
    assert isinstance(key, Ed25519PrivateKey)
    expired = head.authority.certify_node(0, key.public_key(), datetime.timedelta(minutes=-1))
    old = dataclasses.replace(identity, certificate_pem=expired)
    new = renew("127.0.0.1", head.port, old)
    assert (new.name, new.key_pem, new.ca_pem) == ("node:0", old.key_pem, old.ca_pem)
    assert new.certificate.not_valid_after_utc > old.certificate.not_valid_after_utc
    assert new.certificate.serial_number != identity.certificate.serial_number


@pytest.mark.parametrize("what", ["removed", "replaced", "never-joined", "another-cluster", "stolen"])
def test_who_is_not_in_the_registry_with_this_key_renews_nothing(head: Head, tmp_path: Path, what: str) -> None:
    identity, _, _ = join("127.0.0.1", head.port, head.token())
    if what == "removed":
        head.server.registry.remove(0, 1_900_000_000_000)
    elif what == "replaced":
        head.join(head.token(node=0))
    elif what == "never-joined":
        identity = head.authority.issue_node(0)
    elif what == "another-cluster":
        other = Authority.create(tmp_path / "lair", "den").issue_node(0)
        identity = dataclasses.replace(other, ca_pem=identity.ca_pem)
    else:
        identity = dataclasses.replace(identity, key_pem=head.authority.issue_node(1).key_pem)
    with pytest.raises(JoinRefusedError, match="does not know this node with this key") as caught:
        renew("127.0.0.1", head.port, identity, attempts=1)
    assert caught.value.code == "renewal"


def make_request(head: Head, token: Token) -> tuple[JoinClient, bytes, bytes]:
    """Return a client and its request for a session's greeting, without sockets."""
    client = JoinClient(token)
    session = head.server.session("10.0.0.9")
    assert session is not None
    greeting = session.greeting()
    session.close()
    leaf = ssl.PEM_cert_to_DER_cert((head.identity / "cert.pem").read_text())
    return client, greeting, client.request(greeting, leaf)


def test_a_request_is_good_on_its_own_link_only(head: Head) -> None:
    _, _, request = make_request(head, head.token())
    session = head.server.session("10.0.0.9")
    assert session is not None
    answer = decode_join(session.handle(request)[0])
    session.close()
    assert isinstance(answer, JoinRefused)
    assert answer.code == "proof"
    assert head.server.registry.nodes() == {}


def test_a_link_may_ask_once(head: Head) -> None:
    session = head.server.session("10.0.0.9")
    assert session is not None
    leaf = ssl.PEM_cert_to_DER_cert((head.identity / "cert.pem").read_text())
    request = JoinClient(head.token()).request(session.greeting(), leaf)
    answer, close = session.handle(request)
    assert isinstance(decode_join(answer), JoinAccepted)
    assert close
    with pytest.raises(ProtocolError, match="once"):
        session.handle(request)
    session.close()


def test_anonymous_links_and_requests_are_bounded(head: Head) -> None:
    sessions = [head.server.session("10.0.0.9") for _ in range(MAX_ANONYMOUS_LINKS)]
    assert None not in sessions
    assert head.server.session("10.0.0.9") is None
    for session in sessions:
        assert session is not None
        session.close()
        session.close()
    token, leaf = head.token(), ssl.PEM_cert_to_DER_cert((head.identity / "cert.pem").read_text())
    wrong = Token(token.fingerprint, token.id, bytes(24))

    def ask(host: str) -> str:
        session = head.server.session(host)
        assert session is not None
        answer = decode_join(session.handle(JoinClient(wrong).request(session.greeting(), leaf))[0])
        session.close()
        assert isinstance(answer, JoinRefused)
        return answer.code

    # `test_request_rate.py` says how they share.
    codes = [ask("10.0.0.9") for _ in range(REQUESTS_AT_ONCE)]
    assert codes == ["token-unknown"] * (REQUESTS_AT_ONCE // 2) + ["busy"] * (REQUESTS_AT_ONCE // 2)
    assert ask("10.0.0.8") == "token-unknown"


def test_a_certificate_for_another_key_or_number_is_not_taken(head: Head) -> None:
    client, _, _ = make_request(head, head.token())
    other = head.authority.issue_node(0)
    answer = JoinAccepted("den", 0, other.certificate_pem, bytes(32), [], 32)
    with pytest.raises(SecurityError, match="not for this host"):
        client.accepted(encode(answer))


def test_hostile_frames_give_only_protocol_errors(head: Head) -> None:
    chance = random.Random(20261103)
    token = head.token()
    client, greeting, request = make_request(head, token)
    leaf = ssl.PEM_cert_to_DER_cert((head.identity / "cert.pem").read_text())
    samples = [
        RenewalClient(head.authority.issue_node(3)).request(greeting, leaf),
        greeting,
        request,
        encode(JoinRefused("a", "b")),
        encode(JoinAccepted("c", 0, b"x", bytes(32), ["h:1"], 32)),
    ]
    refused = 0
    for _ in range(20_000):
        frame = bytearray(chance.choice(samples))
        for _ in range(chance.randrange(1, 6)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        data = bytes(frame[: chance.randrange(len(frame) + 1)] if chance.random() < 0.3 else frame)
        head.now += 1
        session = head.server.session("10.0.0.9")
        assert session is not None
        try:
            answer = decode_join(session.handle(data)[0])
            # Whatever a mutated request says, it cannot prove its key.
            assert isinstance(answer, JoinRefused)
        except ProtocolError:
            refused += 1
        finally:
            session.close()
        for read in (lambda data: client.request(data, leaf), client.accepted):
            with suppress(ProtocolError, SecurityError):
                read(data)
    assert refused > 10_000
    assert head.server.registry.nodes() == {}
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        decode_join(bytes(MAX_JOIN_FRAME_BYTES + 1))


def test_a_request_must_have_every_length_right(head: Head) -> None:
    good = make_request(head, head.token())[2]
    message = decode_join(good)
    assert isinstance(message, JoinRequest)
    wrong = JoinRequest(message.version, message.token, message.secret, message.public_key[:31], message.proof, -1, "h")
    with pytest.raises(ProtocolError, match="not a valid join message"):
        decode_join(encode(wrong))
    assert isinstance(decode_join(encode(JoinGreeting(1, 1, b"", bytes(32)))), JoinGreeting)
