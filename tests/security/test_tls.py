"""Real handshakes over loopback sockets: who is let in, who is not, and what both sides say."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from heorot.core.errors import SecurityError
from heorot.security.authority import Authority, Identity
from heorot.security.tls import ANONYMOUS, Peer, client_context, explain, joining_context, peer_of, server_context
from tests.security.links import shake_hands


class Cluster(NamedTuple):
    authority: Authority
    head: Path
    node: Path


def make_cluster(directory: Path, name: str) -> Cluster:
    authority = Authority.create(directory / "ca", name)
    authority.issue_head("h0").write(directory / "h0")
    authority.issue_node(7).write(directory / "n7")
    return Cluster(authority, directory / "h0", directory / "n7")


@pytest.fixture
def den(tmp_path: Path) -> Cluster:
    return make_cluster(tmp_path / "den", "den")


def version_and_peer(connection: ssl.SSLSocket) -> tuple[str | None, Peer]:
    peer = peer_of(connection, "den")
    return connection.version(), Peer(peer.kind, peer.name, peer.number)


def text_of(outcome: object) -> str:
    assert isinstance(outcome, Exception), outcome
    return explain(outcome)


def test_a_head_and_a_node_of_one_cluster_know_each_other(den: Cluster) -> None:
    server, client = shake_hands(server_context(den.head), client_context(den.node), version_and_peer)
    assert server == ("TLSv1.3", Peer("node", "n7", 7))
    assert client == ("TLSv1.3", Peer("head", "h0", -1))


def test_two_nodes_know_each_other_and_the_serial_is_the_certificates(den: Cluster) -> None:
    den.authority.issue_node(40000).write(den.node.parent / "n40000")
    server, client = shake_hands(
        server_context(den.node),
        client_context(den.node.parent / "n40000"),
        lambda connection: peer_of(connection, "den"),
    )
    assert isinstance(server, Peer)
    assert (server.number, server.kind) == (40000, "node")
    assert isinstance(client, Peer)
    assert client.number == 7
    assert client.serial
    assert client.serial != server.serial


def test_a_certificate_of_another_cluster_is_refused_by_both_sides(den: Cluster, tmp_path: Path) -> None:
    # The same cluster id: only the authority differs.
    other = make_cluster(tmp_path / "other", "den")
    server, client = shake_hands(server_context(den.head), client_context(other.node), version_and_peer)
    assert "not of this cluster" in text_of(client)
    assert "refused our certificate" in text_of(server)


def test_a_server_refuses_a_certificate_of_another_cluster(den: Cluster, tmp_path: Path) -> None:
    other = make_cluster(tmp_path / "other", "den")
    careless = client_context(other.node)
    careless.verify_mode = ssl.CERT_NONE
    server, client = shake_hands(server_context(den.head, allow_anonymous=True), careless, ssl.SSLSocket.version)
    assert "not of this cluster" in text_of(server)
    assert "refused our certificate" in text_of(client)


def test_a_name_of_another_cluster_is_refused_though_the_authority_is_trusted(den: Cluster) -> None:
    server, client = shake_hands(
        server_context(den.head), client_context(den.node), lambda connection: peer_of(connection, "lair")
    )
    assert isinstance(server, SecurityError)
    assert "of cluster 'den', this is 'lair'" in str(server)
    assert isinstance(client, SecurityError)


def test_no_certificate_is_refused_and_both_sides_say_so(den: Cluster) -> None:
    server, client = shake_hands(server_context(den.head), joining_context(), ssl.SSLSocket.version)
    assert text_of(server) == "the peer showed no certificate"
    assert "we showed none: join the cluster first" in text_of(client)


def test_a_head_may_let_anonymous_peers_in_and_knows_that_they_are(den: Cluster) -> None:
    context = server_context(den.head, allow_anonymous=True)
    # The anonymous client checks nothing, so only the server's view counts.
    server, client = shake_hands(
        context, joining_context(), lambda connection: peer_of(connection, "den") if connection.server_side else "in"
    )
    assert client == "in"
    assert server == ANONYMOUS
    server, client = shake_hands(context, client_context(den.node), version_and_peer)
    assert server == ("TLSv1.3", Peer("node", "n7", 7))
    assert client == ("TLSv1.3", Peer("head", "h0", -1))


@pytest.mark.parametrize("expired", ["client", "server"])
def test_an_expired_certificate_is_refused_and_both_sides_say_so(den: Cluster, tmp_path: Path, expired: str) -> None:
    den.authority.issue_node(9, datetime.timedelta(minutes=-1)).write(tmp_path / "old")
    good, old = den.head, tmp_path / "old"
    if expired == "client":
        refuser, refused = shake_hands(server_context(good), client_context(old), version_and_peer)
    else:
        refused, refuser = shake_hands(server_context(old), client_context(good), version_and_peer)
    assert "the peer's certificate has expired" in text_of(refuser)
    assert "refused our certificate because it has expired" in text_of(refused)


def test_tls_1_2_is_refused_by_both_sides(den: Cluster) -> None:
    def old(context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    server, client = shake_hands(server_context(den.head), old(client_context(den.node)), version_and_peer)
    assert text_of(server) == "the peer offers no TLS 1.3"
    assert text_of(client) == "the peer accepts TLS 1.3 only"
    server, client = shake_hands(old(server_context(den.head)), client_context(den.node), version_and_peer)
    assert isinstance(server, ssl.SSLError)
    assert isinstance(client, ssl.SSLError)


def test_a_node_cannot_issue_a_certificate_that_anybody_accepts(den: Cluster, tmp_path: Path) -> None:
    key = load_pem_private_key((den.node / "key.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    forger = Authority(Identity.load(den.node).certificate, key, den.authority.signer)
    forged = forger.issue_head("h0")
    forged.write(tmp_path / "forged")
    # Show the whole chain: the node's certificate, then what it "issued".
    (tmp_path / "forged" / "cert.pem").write_bytes(forged.certificate_pem + (den.node / "cert.pem").read_bytes())
    (tmp_path / "forged" / "ca.pem").write_bytes(den.authority.ca_pem)
    careless = client_context(tmp_path / "forged")
    careless.verify_mode = ssl.CERT_NONE
    server, client = shake_hands(server_context(den.head), careless, ssl.SSLSocket.version)
    assert "not of this cluster" in text_of(server)
    assert isinstance(client, ssl.SSLError)


class Shown:
    """Stands for a connection whose peer has shown a certificate of these names."""

    def __init__(self, *names: tuple[str, str]) -> None:
        self.names = names

    def getpeercert(self) -> dict[str, object]:
        return {"subject": tuple((name,) for name in self.names)}


@pytest.mark.parametrize(
    "name",
    [
        "node:",
        "node:07",
        "node:-1",
        "node:1_0",
        "node:٣",
        "node:999999",
        "node: 1",
        "node",
        "head:",
        "n7",
        "",
        "root:1",
    ],
)
def test_only_names_that_we_issue_are_somebody(name: str) -> None:
    with pytest.raises(SecurityError, match="neither a head nor a node"):
        peer_of(Shown(("organizationName", "den"), ("commonName", name)), "den")  # type: ignore[arg-type]


def test_two_names_are_nobody() -> None:
    shown = Shown(("organizationName", "den"), ("commonName", "node:1"), ("commonName", "head:h0"))
    with pytest.raises(SecurityError, match="more than one commonName"):
        peer_of(shown, "den")  # type: ignore[arg-type]


def test_a_missing_identity_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match=r"cannot use the identity in .*n9: No such file"):
        client_context(tmp_path / "n9")


def test_a_key_that_does_not_fit_is_refused(den: Cluster) -> None:
    (den.node / "key.pem").write_bytes((den.head / "key.pem").read_bytes())
    with pytest.raises(SecurityError, match="cannot use the identity"):
        server_context(den.node)
