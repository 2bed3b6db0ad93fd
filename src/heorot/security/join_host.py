"""The host's side of the join protocol, without sockets: becoming a node, and renewing a node's certificate.

Nothing secret is sent before the peer has proved to be a head of the right cluster: the TLS handshake proves that it
has the key of the certificate it shows, and `_check_head` that this certificate says ``head`` and is of the authority
whose fingerprint the host already has, from its token or from its own files.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from heorot import __version__
from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.joining import (
    JOIN_VERSION,
    PROOF_CONTEXT,
    RENEWAL_CONTEXT,
    JoinAccepted,
    JoinGreeting,
    JoinRefused,
    JoinRequest,
    RenewalRequest,
    decode_join,
)
from heorot.core.wire.tree import encode
from heorot.security.authority import Identity
from heorot.security.head_proof import prove_head
from heorot.security.signing import Verifier
from heorot.security.tokens import Token


class JoinRefusedError(SecurityError):
    """The head refused the host; `code` is for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class HostSide:
    """What joining and renewing have in common. `key` stays here; only its public half is sent."""

    def __init__(self, fingerprint: bytes, key: Ed25519PrivateKey) -> None:
        self._fingerprint = fingerprint
        self._key = key
        self._public_key = key.public_key().public_bytes_raw()
        self._authority: x509.Certificate | None = None

    def request(self, greeting: bytes, leaf: bytes | None) -> bytes:
        """Check the head and return the payload of the request.

        Parameters
        ----------
        greeting
            The payload of the head's first frame.
        leaf
            The certificate (DER) that the head has shown in the TLS handshake.

        Raises
        ------
        SecurityError
            If the peer is not a head of the right cluster; nothing secret was sent.
        ProtocolError
            If the frame is not a greeting.
        """
        message = decode_join(greeting)
        if isinstance(message, JoinRefused):
            raise JoinRefusedError(message.code, message.text)
        if not isinstance(message, JoinGreeting):
            raise ProtocolError(f"the head sent {type(message).__name__} in place of JoinGreeting")
        if message.oldest_version > JOIN_VERSION:
            raise SecurityError("the head enrols newer releases only: upgrade heorot on this host")
        self._authority = self._check_head(message.authority, leaf)
        return self._request(message.nonce)

    def _request(self, nonce: bytes) -> bytes:
        raise NotImplementedError

    def accepted(self, answer: bytes) -> tuple[Identity, JoinAccepted]:
        """Check the head's answer and return the new identity, with what else the head told.

        Raises
        ------
        SecurityError
            If the head refused, or sent a certificate that is not for this host.
        """
        message = decode_join(answer)
        if isinstance(message, JoinRefused):
            raise JoinRefusedError(message.code, message.text)
        if not isinstance(message, JoinAccepted) or self._authority is None:
            raise ProtocolError(f"the head sent {type(message).__name__} in place of JoinAccepted")
        identity = Identity(
            ca_pem=self._authority.public_bytes(Encoding.PEM),
            certificate_pem=message.certificate,
            key_pem=self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            signing_public_pem=Verifier(message.signing_public).to_pem(),
        )
        certificate = identity.certificate
        _check_issued(certificate, self._authority)
        public_key = certificate.public_key()
        mine = isinstance(public_key, Ed25519PublicKey) and public_key.public_bytes_raw() == self._public_key
        if not mine or identity.name != f"node:{message.node}" or identity.cluster != message.cluster:
            raise SecurityError("the head sent a certificate that is not for this host; nothing was written")
        return identity, message

    def _check_head(self, authority_der: bytes, leaf_der: bytes | None) -> x509.Certificate:
        # First of all the digest: nothing that the fingerprint does not vouch for is even parsed.
        if not secrets.compare_digest(hashlib.sha256(authority_der).digest(), self._fingerprint):
            raise SecurityError(
                "the token is for another cluster than this head's (or somebody is in between); nothing secret was sent"
            )
        try:
            authority = x509.load_der_x509_certificate(authority_der)
            leaf = x509.load_der_x509_certificate(leaf_der or b"")
        except ValueError:
            raise SecurityError("the head sent no certificate that can be read; nothing secret was sent") from None
        _check_issued(leaf, authority)
        names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not str(names[0].value).startswith("head:"):
            raise SecurityError("the peer belongs to the cluster but is not a head; nothing secret was sent")
        return authority


class JoinClient(HostSide):
    """Joins with a token, for a key that is made here."""

    def __init__(self, token: Token, *, node: int = -1, host: str = "", head: Identity | None = None) -> None:
        super().__init__(token.fingerprint, Ed25519PrivateKey.generate())
        self._token = token
        self._node = node
        self._host = host[:255]
        self._head = head

    def _request(self, nonce: bytes) -> bytes:
        head = self._head
        return encode(
            JoinRequest(
                version=JOIN_VERSION,
                token=self._token.id,
                secret=self._token.secret,
                public_key=self._public_key,
                proof=self._key.sign(PROOF_CONTEXT + nonce + self._public_key),
                node=self._node,
                host=self._host,
                release=__version__,
                head_certificate=head.certificate_pem if head is not None else b"",
                head_proof=prove_head(head, nonce, self._public_key) if head is not None else b"",
            )
        )


class RenewalClient(HostSide):
    """Asks for a newer certificate for the key that this node has."""

    def __init__(self, identity: Identity) -> None:
        key = load_pem_private_key(identity.key_pem, None)
        if not isinstance(key, Ed25519PrivateKey) or not identity.name.startswith("node:"):
            raise SecurityError(f"{identity.name} is not a node's identity; a head's is renewed where the authority is")
        super().__init__(x509.load_pem_x509_certificate(identity.ca_pem).fingerprint(hashes.SHA256()), key)
        self._node = int(identity.name.removeprefix("node:"))

    def _request(self, nonce: bytes) -> bytes:
        proof = self._key.sign(RENEWAL_CONTEXT + nonce + self._public_key)
        return encode(RenewalRequest(version=JOIN_VERSION, node=self._node, proof=proof))


def _check_issued(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Raise SecurityError unless the certificate is a link certificate of the authority, in date."""
    try:
        certificate.verify_directly_issued_by(authority)
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        raise SecurityError("the peer's certificate is not of the token's cluster; nothing secret was sent") from None
    same = [
        certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        == authority.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME),
        ExtendedKeyUsageOID.SERVER_AUTH in purposes,
    ]
    if not all(same):
        raise SecurityError(
            "the peer's certificate is not one for links of the token's cluster; nothing secret was sent"
        )
    now = datetime.datetime.now(datetime.UTC)
    for one, what in ((authority, "the cluster's CA certificate"), (certificate, "the peer's certificate")):
        if now > one.not_valid_after_utc:
            raise SecurityError(f"{what} has expired (or the clock of this host is wrong); nothing secret was sent")
        if now < one.not_valid_before_utc:
            raise SecurityError(f"{what} is not valid yet: set the clock of this host; nothing secret was sent")
