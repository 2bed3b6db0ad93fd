"""How a host becomes a node: both sides of the join protocol, without sockets.

The head's shell makes one `JoinServer`, and for every anonymous link a session: it sends `JoinSession.greeting`, hands
the first frame to `JoinSession.handle`, sends the answer and closes. The host's side is `JoinClient`;
`heorot.security.join_client` gives it a socket.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from heorot import __version__
from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.join_messages import (
    JOIN_VERSION,
    MAX_JOIN_FRAME_BYTES,
    OLDEST_JOIN_VERSION,
    PROOF_CONTEXT,
    JoinAccepted,
    JoinGreeting,
    JoinRefused,
    JoinRequest,
    decode_join,
)
from heorot.core.messages import encode
from heorot.security.authority import Authority, Identity
from heorot.security.registry import NodeRecord, Registry
from heorot.security.signing import Verifier
from heorot.security.tokens import Token, TokenRecord, TokenRefused, TokenStore

MAX_ANONYMOUS_LINKS = 32
JOIN_DEADLINE_MS = 10_000
"""The head closes an anonymous link after this long, whatever state it is in."""
REQUESTS_PER_SECOND = 100
REQUESTS_AT_ONCE = 200

__all__ = ["JOIN_DEADLINE_MS", "MAX_ANONYMOUS_LINKS", "MAX_JOIN_FRAME_BYTES", "JoinClient", "JoinServer", "JoinSession"]


def _verifies(public_key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        public_key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


class JoinServer:
    """The head's side: knows the tokens and the registry, and issues certificates.

    Parameters
    ----------
    authority
        The cluster's authority.
    directory
        The cluster directory, which holds ``tokens/`` and ``registry.json``.
    heads
        ``HOST:PORT`` of every head, for the node's configuration.
    fanout
        The tree's.
    capacity
        How many nodes the cluster may have.
    wall_clock, monotonic
        Seconds; for tests.
    joined
        Called with every node that was entered or replaced in the registry.
    """

    def __init__(
        self,
        authority: Authority,
        directory: Path,
        heads: list[str],
        fanout: int = 32,
        capacity: int = 1023,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        joined: Callable[[NodeRecord], None] | None = None,
    ) -> None:
        self.authority = authority
        self.tokens = TokenStore(directory)
        self.registry = Registry(directory)
        self.heads = heads
        self.fanout = fanout
        self.capacity = capacity
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._joined = joined
        self._sessions = 0
        self._allowance = float(REQUESTS_AT_ONCE)
        self._allowance_at = monotonic()

    def session(self) -> JoinSession | None:
        """Return what serves one anonymous link, or None if there are `MAX_ANONYMOUS_LINKS` already: then close it."""
        if self._sessions >= MAX_ANONYMOUS_LINKS:
            return None
        self._sessions += 1
        return JoinSession(self)

    def _closed(self) -> None:
        self._sessions -= 1

    def _take_allowance(self) -> bool:
        now = self._monotonic()
        earned = (now - self._allowance_at) * REQUESTS_PER_SECOND
        self._allowance = min(float(REQUESTS_AT_ONCE), self._allowance + earned)
        self._allowance_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _answer(self, request: JoinRequest, nonce: bytes) -> JoinAccepted | JoinRefused:
        if not self._take_allowance():
            return JoinRefused("busy", "too many hosts join at this moment; try again")
        if request.version < OLDEST_JOIN_VERSION:
            return JoinRefused("version", f"this head enrols hosts of join version {OLDEST_JOIN_VERSION} or newer")
        try:
            public_key = Ed25519PublicKey.from_public_bytes(request.public_key)
            if not _verifies(public_key, request.proof, PROOF_CONTEXT + nonce + request.public_key):
                return JoinRefused("proof", "the host did not prove that it has the private key")
            with self.tokens.lock():
                record = self._enrol(request)
        except TokenRefused as refusal:
            return JoinRefused(refusal.code, refusal.text)
        except (ValueError, SecurityError, OSError) as error:
            # Only a holder of the token gets this far with a SecurityError or OSError; it is the head that is at fault.
            return JoinRefused("head-failed", f"the head could not enrol this host: {error}")
        certificate = self.authority.certify_node(record.number, public_key)
        if self._joined is not None:
            self._joined(record)
        return JoinAccepted(
            cluster=self.authority.cluster,
            node=record.number,
            certificate=certificate,
            signing_public=self.authority.signer.verifier().public_key,
            heads=self.heads,
            fanout=self.fanout,
            capacity=self.capacity,
        )

    def _enrol(self, request: JoinRequest) -> NodeRecord:
        now_ms = int(self._wall_clock() * 1000)
        token = self.tokens.check(request.token, request.secret, now_ms)
        nodes = self.registry.nodes()
        # The answer to this very request may have been lost: the same key gets the same number and takes no other use.
        for known in nodes.values():
            if known.public_key == request.public_key.hex() and known.token == token.id:
                return known
        number = self._number(request, token, nodes)
        self.tokens.use(token)
        record = NodeRecord(number, request.host, request.public_key.hex(), token.id, now_ms)
        self.registry.put(record)
        return record

    def _number(self, request: JoinRequest, token: TokenRecord, nodes: dict[int, NodeRecord]) -> int:
        if token.node >= 0:
            if request.node not in (-1, token.node):
                raise TokenRefused("node-number", f"this token is for node {token.node}, not for node {request.node}")
            return self._within(token.node)
        if request.node < 0:
            return self._within(self.registry.next_free())
        if request.node in nodes:
            raise TokenRefused(
                "node-number",
                f"number {request.node} is given to a node already; to replace that node, use a token made with "
                f"--node {request.node}",
            )
        return self._within(request.node)

    def _within(self, number: int) -> int:
        if number >= self.capacity:
            text = f"this cluster has room for nodes 0 to {self.capacity - 1}; to remove one: heorot node remove N"
            raise TokenRefused("node-number", text)
        return number


class JoinSession:
    """One anonymous link at the head: one greeting, one request, one answer."""

    def __init__(self, server: JoinServer) -> None:
        self._server = server
        self._nonce = secrets.token_bytes(32)
        self._open = True
        self._served = False

    def greeting(self) -> bytes:
        """Return the payload of the first frame to send."""
        return encode(JoinGreeting(JOIN_VERSION, OLDEST_JOIN_VERSION, self._server.authority.ca_der, self._nonce))

    def handle(self, payload: bytes) -> tuple[bytes, bool]:
        """Take the payload of a received frame; return the payload of the answer, and whether to close the link then.

        Raises
        ------
        ProtocolError
            If it is not a request, or a second one: close the link without an answer.
        """
        if self._served or not self._open:
            raise ProtocolError("an anonymous link may ask once")
        self._served = True
        request = decode_join(payload)
        if not isinstance(request, JoinRequest):
            raise ProtocolError(f"an anonymous peer sent {type(request).__name__} in place of JoinRequest")
        return encode(self._server._answer(request, self._nonce)), True

    def close(self) -> None:
        """The link is closed; makes room for another. May be called twice."""
        if self._open:
            self._open = False
            self._server._closed()


class JoinClient:
    """The host's side. Makes a private key that stays here; shows the secret only to a head of the token's cluster."""

    def __init__(self, token: Token, *, node: int = -1, host: str = "") -> None:
        self._token = token
        self._node = node
        self._host = host[:255]
        self._key = Ed25519PrivateKey.generate()
        self._public_key = self._key.public_key().public_bytes_raw()
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
            If the peer is not a head of the token's cluster; nothing secret was sent.
        ProtocolError
            If the frame is not a greeting.
        """
        message = decode_join(greeting)
        if isinstance(message, JoinRefused):
            raise SecurityError(f"the head refuses: {message.text}")
        if not isinstance(message, JoinGreeting):
            raise ProtocolError(f"the head sent {type(message).__name__} in place of JoinGreeting")
        if message.oldest_version > JOIN_VERSION:
            raise SecurityError("the head enrols newer releases only: upgrade heorot on this host")
        self._authority = self._check_head(message.authority, leaf)
        return encode(
            JoinRequest(
                version=JOIN_VERSION,
                token=self._token.id,
                secret=self._token.secret,
                public_key=self._public_key,
                proof=self._key.sign(PROOF_CONTEXT + message.nonce + self._public_key),
                node=self._node,
                host=self._host,
                release=__version__,
            )
        )

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
        # First of all the digest: nothing that the token does not vouch for is even parsed.
        if not secrets.compare_digest(hashlib.sha256(authority_der).digest(), self._token.fingerprint):
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


class JoinRefusedError(SecurityError):
    """The head refused the host; `code` is for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


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
