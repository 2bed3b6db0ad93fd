"""How a host becomes a node or renews its certificate: the head's side of the join protocol, without sockets.

The head's shell makes one `JoinServer`, and for every anonymous link a session: it sends `JoinSession.greeting`, hands
the first frame to `JoinSession.handle`, sends the answer and closes. The other side is `heorot.security.join_host`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.joining import (
    JOIN_VERSION,
    OLDEST_JOIN_VERSION,
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
from heorot.security.authority import Authority
from heorot.security.head_proof import proved_head
from heorot.security.registry import NodeRecord, Registry
from heorot.security.request_rate import RequestRate
from heorot.security.tokens import TokenRecord, TokenRefused, TokenStore

MAX_ANONYMOUS_LINKS = 32
JOIN_DEADLINE_MS = 10_000
"""The head closes an anonymous link after this long, whatever state it is in."""
REQUESTS_PER_SECOND = 100
REQUESTS_AT_ONCE = 200
"""Of all hosts; no host may make more of them than are left for others."""


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
        Returns ``HOST:PORT`` of every head, for the node's configuration.
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
        heads: Callable[[], list[str]],
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
        self._rate = RequestRate(REQUESTS_AT_ONCE, REQUESTS_PER_SECOND, monotonic())

    def session(self, host: str) -> JoinSession | None:
        """Return what serves one anonymous link from this host, as the kernel calls it; or None if there are
        `MAX_ANONYMOUS_LINKS` already: then close it.
        """
        if self._sessions >= MAX_ANONYMOUS_LINKS:
            return None
        self._sessions += 1
        return JoinSession(self, host)

    def _closed(self) -> None:
        self._sessions -= 1

    def _answer(self, request: JoinRequest | RenewalRequest, nonce: bytes, host: str) -> JoinAccepted | JoinRefused:
        too_many = self._rate.refusal(host, self._monotonic())
        if too_many:
            return JoinRefused("busy", too_many)
        if request.version < OLDEST_JOIN_VERSION:
            return JoinRefused("version", f"this head enrols hosts of join version {OLDEST_JOIN_VERSION} or newer")
        if isinstance(request, RenewalRequest):
            return self._renew(request, nonce)
        try:
            public_key = Ed25519PublicKey.from_public_bytes(request.public_key)
            if not _verifies(public_key, request.proof, PROOF_CONTEXT + nonce + request.public_key):
                return JoinRefused("proof", "the host did not prove that it has the private key")
            head = self._head_of(request, nonce)
            with self.tokens.lock():
                record = self._enrol(request, head)
        except TokenRefused as refusal:
            return JoinRefused(refusal.code, refusal.text)
        except (ValueError, SecurityError, OSError) as error:
            # Only a holder of the token gets this far with a SecurityError or OSError; it is the head that is at fault.
            return JoinRefused("head-failed", f"the head could not enrol this host: {error}")
        if self._joined is not None:
            self._joined(record)
        return self._accept(record, public_key)

    def _head_of(self, request: JoinRequest, nonce: bytes) -> str:
        """Return the head on whose host this node is to be; empty: none. Raises TokenRefused."""
        if not request.head_certificate:
            return ""
        try:
            return proved_head(self.authority, request.head_certificate, request.head_proof, nonce, request.public_key)
        except SecurityError as error:
            raise TokenRefused("head-proof", str(error)) from error

    def _renew(self, request: RenewalRequest, nonce: bytes) -> JoinAccepted | JoinRefused:
        """Issue a newer certificate if the registry has this node with this key: who was removed gets none."""
        try:
            record = self.registry.nodes().get(request.node)
            raw = bytes.fromhex(record.public_key) if record is not None else bytes(32)
            public_key = Ed25519PublicKey.from_public_bytes(raw)
        except (ValueError, SecurityError, OSError) as error:
            return JoinRefused("head-failed", f"the head could not renew the certificate: {error}")
        if record is None or not _verifies(public_key, request.proof, RENEWAL_CONTEXT + nonce + raw):
            return JoinRefused(
                "renewal", "the head does not know this node with this key (any more); join with a token"
            )
        return self._accept(record, public_key)

    def _accept(self, record: NodeRecord, public_key: Ed25519PublicKey) -> JoinAccepted:
        number = record.number
        certificate = self.authority.certify_node(number, public_key)
        ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        # For people who look at the list of nodes: no reason to refuse the certificate if that cannot be written.
        with contextlib.suppress(SecurityError, OSError), self.tokens.lock():
            self.registry.certified(number, public_key.public_bytes_raw().hex(), int(ends.timestamp() * 1000))
        return JoinAccepted(
            cluster=self.authority.cluster,
            node=number,
            certificate=certificate,
            signing_public=self.authority.signer.verifier().public_key,
            heads=self.heads(),
            fanout=self.fanout,
            capacity=self.capacity,
            head=record.head,
        )

    def _enrol(self, request: JoinRequest, head: str) -> NodeRecord:
        now_ms = int(self._wall_clock() * 1000)
        token = self.tokens.check(request.token, request.secret, now_ms)
        nodes = self.registry.nodes()
        # The answer to this very request may have been lost: the same key gets the same number and takes no other use.
        for known in nodes.values():
            if known.public_key == request.public_key.hex() and known.token == token.id:
                return known
        number = self._number(request, token, nodes)
        self.tokens.use(token)
        record = NodeRecord(number, request.host, request.public_key.hex(), token.id, now_ms, head=head)
        return self.registry.put(record)

    def _number(self, request: JoinRequest, token: TokenRecord, nodes: dict[int, NodeRecord]) -> int:
        if token.node >= 0:
            if request.node not in (-1, token.node):
                raise TokenRefused("node-number", f"this token is for node {token.node}, not for node {request.node}")
            return self._within(token.node)
        if request.node < 0:
            return self._within(self.registry.next_free(self.capacity))
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

    def __init__(self, server: JoinServer, host: str) -> None:
        self._server = server
        self._host = host
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
        if not isinstance(request, JoinRequest | RenewalRequest):
            raise ProtocolError(f"an anonymous peer sent {type(request).__name__} in place of a request")
        return encode(self._server._answer(request, self._nonce, self._host)), True

    def close(self) -> None:
        """The link is closed; makes room for another. May be called twice."""
        if self._open:
            self._open = False
            self._server._closed()
