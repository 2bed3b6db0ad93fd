"""Authorities, identities, their files and signatures."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509

from heorot.core.errors import SecurityError
from heorot.security import signing
from heorot.security.authority import Authority, Identity
from heorot.security.signing import Signer, Verifier


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_authority_is_private_and_loads_again(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = Authority.create(tmp_path / "ca")
    finally:
        os.umask(before)
    loaded = Authority.load(tmp_path / "ca")
    assert loaded.cluster == made.cluster
    assert len(made.cluster) == 16
    assert loaded.fingerprint == made.fingerprint
    assert mode(tmp_path / "ca") == 0o700
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == [
        "ca.key",
        "ca.pem",
        "signing.key",
        "signing.pub",
    ]
    assert {mode(path) for path in (tmp_path / "ca").iterdir()} == {0o600}


def test_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    before = (tmp_path / "ca" / "ca.key").read_bytes()
    with pytest.raises(SecurityError, match="already holds"):
        Authority.create(tmp_path / "ca")
    assert (tmp_path / "ca" / "ca.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "a/b", "x" * 64, "två", "-a", "a\nb", "a,CN=head:x"])
def test_an_unusable_cluster_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecurityError, match="cannot be a cluster's id"):
        Authority.create(tmp_path / "ca", name)
    assert not (tmp_path / "ca").exists()


def test_a_node_gets_no_signing_key_and_a_head_does(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "den")
    authority.issue_node(7).write(tmp_path / "n7")
    authority.issue_head("h0").write(tmp_path / "h0")
    node, head = Identity.load(tmp_path / "n7"), Identity.load(tmp_path / "h0")
    assert (node.name, node.cluster, node.signing_key_pem) == ("node:7", "den", None)
    assert (head.name, head.cluster) == ("head:h0", "den")
    assert sorted(path.name for path in (tmp_path / "n7").iterdir()) == ["ca.pem", "cert.pem", "key.pem", "signing.pub"]
    assert {mode(path) for path in (tmp_path / "h0").iterdir()} == {0o600}
    assert mode(tmp_path / "n7") == mode(tmp_path / "h0") == 0o700
    signature = Signer.load(tmp_path / "h0" / "signing.key").sign(b"data")
    assert Verifier.load(tmp_path / "n7" / "signing.pub").verify(b"data", signature)


def test_a_leaf_cannot_issue_certificates(tmp_path: Path) -> None:
    certificate = Authority.create(tmp_path / "ca").issue_node(1).certificate
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


@pytest.mark.parametrize("number", [-1, 65536])
def test_an_impossible_node_number_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(SecurityError, match="node's number"):
        Authority.create(tmp_path / "ca").issue_node(number)


@pytest.mark.parametrize("name", ["", "a:b", "x" * 33, "a b"])
def test_an_unusable_head_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecurityError, match="head's name"):
        Authority.create(tmp_path / "ca").issue_head(name)


def test_writing_replaces_and_narrows_what_was_there(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    directory = tmp_path / "n1"
    directory.mkdir(mode=0o755)
    (directory / "key.pem").write_bytes(b"old")
    (directory / "key.pem").chmod(0o644)
    identity = authority.issue_node(1)
    identity.write(directory, durable=True)
    assert Identity.load(directory) == identity
    assert mode(directory) == 0o700
    assert mode(directory / "key.pem") == 0o600
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]


def test_renewal_keeps_key_and_name_and_moves_the_end(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    old = authority.issue_node(7, datetime.timedelta(days=1))
    new = authority.renew(old)
    assert (new.name, new.key_pem) == (old.name, old.key_pem)
    assert new.certificate.public_key() == old.certificate.public_key()
    assert new.certificate.not_valid_after_utc - old.certificate.not_valid_after_utc > datetime.timedelta(days=300)
    with pytest.raises(SecurityError, match="not of the cluster"):
        Authority.create(tmp_path / "other").renew(old)


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match=r"cannot read the cluster's CA certificate .*ca/ca.pem: No such file"):
        Authority.load(tmp_path / "ca")
    authority = Authority.create(tmp_path / "ca")
    authority.issue_head("h0").write(tmp_path / "h0")
    (tmp_path / "h0" / "key.pem").unlink()
    with pytest.raises(SecurityError, match=r"cannot read the private key .*key.pem"):
        Identity.load(tmp_path / "h0")
    Authority.create(tmp_path / "other")
    (tmp_path / "ca" / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(SecurityError, match="do not belong together"):
        Authority.load(tmp_path / "ca")
    (tmp_path / "ca" / "ca.pem").write_bytes(b"rubbish")
    with pytest.raises(SecurityError, match="does not hold a CA certificate"):
        Authority.load(tmp_path / "ca")


@pytest.mark.parametrize("sodium", [True, False])
def test_a_changed_signature_or_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sodium: bool) -> None:
    if not sodium:
        monkeypatch.setattr(signing, "fast_verify", lambda: None)
    authority = Authority.create(tmp_path / "ca")
    signer = Signer.load(tmp_path / "ca" / "signing.key")
    verifier = Verifier.load(tmp_path / "ca" / "signing.pub")
    data = b"heorot ticket\0" + bytes(200)
    signature = signer.sign(data)
    assert verifier.verify(data, signature)
    for index in range(len(signature)):
        changed = bytearray(signature)
        changed[index] ^= 0x10
        assert not verifier.verify(data, bytes(changed))
    for index in range(0, len(data), 7):
        text = bytearray(data)
        text[index] ^= 1
        assert not verifier.verify(bytes(text), signature)
    assert not verifier.verify(data, b"")
    assert not verifier.verify(data, signature + b"\0")
    assert not Signer.generate().verifier().verify(data, signature)
    assert authority.signer.verifier().public_key == verifier.public_key


def test_a_key_file_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    secret = (tmp_path / "ca" / "signing.key").read_text()
    for text in ("", "rubbish", secret.replace("PRIVATE", "PUBLIC"), secret[:40], secret.replace("MC4", "MC5")):
        (tmp_path / "key").write_text(text)
        with pytest.raises(SecurityError, match="is not an Ed25519 signing key") as caught:
            Signer.load(tmp_path / "key")
        assert "MC4" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(SecurityError, match="is not an Ed25519 signing public key"):
        Verifier.load(tmp_path / "ca" / "signing.key")


def test_no_secret_shows_in_a_representation(tmp_path: Path) -> None:
    identity = Authority.create(tmp_path / "ca").issue_head("h0")
    assert repr(identity) == "Identity(head:h0)"


def test_a_host_without_libsodium_verifies_with_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "SODIUM_NAMES", ("libnosuch.so.1", "libc.so.6"))
    fast_verify = signing.fast_verify.__wrapped__
    assert fast_verify() is None
    monkeypatch.setattr(signing, "fast_verify", fast_verify)
    signer = Signer.generate()
    assert signer.verifier().verify(b"data", signer.sign(b"data"))
    assert not signer.verifier().verify(b"date", signer.sign(b"data"))
