"""The host of a head becomes a node that is known as such, and nobody else's host does."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from heorot.core.errors import SecurityError
from heorot.security.authority import Authority, Identity
from heorot.security.head_proof import prove_head, proved_head
from heorot.security.join_client import join, renew
from heorot.security.registry import Registry
from tests.security.test_join import Head
from tests.security.test_join import head as head

NONCE, KEY = b"n" * 32, b"k" * 32


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "den")


def test_the_host_of_a_head_is_known_as_such_by_the_head_s_key(head: Head) -> None:
    own = Identity.load(head.identity)
    identity, accepted, _ = join("127.0.0.1", head.port, head.token(), head=own)
    assert (accepted.node, accepted.head) == (0, "h0")
    assert join("127.0.0.1", head.port, head.token())[1].head == ""
    assert [record.head for record in head.server.registry.nodes().values()] == ["h0", ""]
    # It stays so when the certificate is a newer one, and for who reads the file anew.
    renew("127.0.0.1", head.port, identity)
    assert [record.head for record in Registry(head.directory).nodes().values()] == ["h0", ""]


@pytest.mark.parametrize("whose", ["node", "another head of the same name"])
def test_a_token_alone_makes_nobody_the_host_of_a_head(head: Head, tmp_path: Path, whose: str) -> None:
    token = head.token()
    if whose == "node":
        wrong = head.authority.issue_node(7)
    else:
        wrong = Authority.create(tmp_path / "elsewhere", "den").issue_head("h0")
    with pytest.raises(SecurityError, match="did not prove that it is a head's"):
        join("127.0.0.1", head.port, token, head=wrong, attempts=1)
    assert head.server.registry.nodes() == {}
    assert head.join(token).node == 0, "it cost no use of the token"


def test_a_proof_is_good_for_one_link_one_node_and_one_head(authority: Authority) -> None:
    h0, h1 = authority.issue_head("h0"), authority.issue_head("h1")
    proof = prove_head(h0, NONCE, KEY)
    assert proved_head(authority, h0.certificate_pem, proof, NONCE, KEY) == "h0"
    for certificate, nonce, key in (
        (h1.certificate_pem, NONCE, KEY),
        (h0.certificate_pem, b"m" * 32, KEY),
        (h0.certificate_pem, NONCE, b"l" * 32),
        (b"no certificate", NONCE, KEY),
    ):
        with pytest.raises(SecurityError, match="did not prove that it is a head's"):
            proved_head(authority, certificate, proof, nonce, key)


def test_a_certificate_that_has_expired_proves_nothing(authority: Authority) -> None:
    h0 = authority.issue_head("h0", datetime.timedelta(seconds=-1))
    with pytest.raises(SecurityError, match="is not valid now"):
        proved_head(authority, h0.certificate_pem, prove_head(h0, NONCE, KEY), NONCE, KEY)
