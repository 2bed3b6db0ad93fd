"""The messages by which a host becomes a node, or renews its certificate: one greeting, one request, one answer.

They travel in the frames of `heorot.core.wire.framing`, over TLS in which only the head has shown a certificate. The
host checks that certificate against its token before it sends the request; see docs/security.md.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from heorot.core.errors import ProtocolError
from heorot.core.wire.base import Count, Message

JOIN_VERSION = 1
OLDEST_JOIN_VERSION = 1
MAX_JOIN_FRAME_BYTES = 64 * 1024
PROOF_CONTEXT = b"heorot join\0"
"""The host signs this, the nonce and its public key, to prove that it has the private key."""
RENEWAL_CONTEXT = b"heorot renewal\0"
"""The node signs this, the nonce and its public key."""
HEAD_CONTEXT = b"heorot host of head\0"
"""The head on whose host it is signs this, the nonce and the public key of the node to be."""

Nonce: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
TokenId: TypeAlias = Annotated[bytes, Meta(min_length=8, max_length=8)]
Secret: TypeAlias = Annotated[bytes, Meta(min_length=24, max_length=24)]
PublicKey: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature: TypeAlias = Annotated[bytes, Meta(min_length=64, max_length=64)]
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]


class JoinGreeting(Message, tag=112, frozen=True):
    """The head's first frame to an anonymous peer."""

    version: Count
    oldest_version: Count
    authority: Annotated[bytes, Meta(max_length=4096)]
    """The cluster's CA certificate, DER."""
    nonce: Nonce
    """Random for every connection."""


class JoinRequest(Message, tag=113, frozen=True):
    """A host asks to become a node."""

    version: Count
    token: TokenId
    secret: Secret
    public_key: PublicKey
    """Raw Ed25519; the private key never leaves the host."""
    proof: Signature
    """By that key, over `PROOF_CONTEXT`, the nonce and the public key."""
    node: Annotated[int, Meta(ge=-1, le=65535)]
    """The number that the host would like; -1: the next free one."""
    host: Annotated[str, Meta(max_length=255)]
    """What the host calls itself; for people."""
    release: Annotated[str, Meta(max_length=64)] = ""
    head_certificate: Annotated[bytes, Meta(max_length=4096)] = b""
    """Of the head on this very host, PEM; empty: there is none."""
    head_proof: Annotated[bytes, Meta(max_length=64)] = b""
    """By that head's key, over `HEAD_CONTEXT`, the nonce and `public_key`."""


class JoinAccepted(Message, tag=114, frozen=True):
    """The host is a node now."""

    cluster: str
    node: Annotated[int, Meta(ge=0, le=65535)]
    certificate: bytes
    """PEM."""
    signing_public: PublicKey
    """With what to check tickets and placements."""
    heads: list[str]
    """``HOST:PORT`` of every head that is known."""
    fanout: Count
    capacity: Annotated[int, Meta(ge=1, le=65536)] = 1023
    """How many nodes the cluster may have: this sets the PID range of each."""
    head: str = ""
    """The head on whose host the node is, as the registry has it; empty: none."""


class JoinRefused(Message, tag=115, frozen=True):
    """The head's last word: `code` for programs, `text` for people."""

    code: str
    text: str


class RenewalRequest(Message, tag=116, frozen=True):
    """A node asks for a newer certificate for the key that it joined with; answered like a `JoinRequest`.

    It comes without a certificate in the handshake, because the node's own may have expired.
    """

    version: Count
    node: Annotated[int, Meta(ge=0, le=65535)]
    proof: Signature
    """By the key with which it joined, over `RENEWAL_CONTEXT`, the nonce and its public key."""


JoinMessage: TypeAlias = JoinGreeting | JoinRequest | JoinAccepted | JoinRefused | RenewalRequest

_decoder: msgspec.msgpack.Decoder[JoinMessage] = msgspec.msgpack.Decoder(JoinMessage)


def decode_join(payload: bytes) -> JoinMessage:
    """Decode a message of the join protocol. Raises only ProtocolError."""
    if len(payload) > MAX_JOIN_FRAME_BYTES:
        raise ProtocolError(f"a join message of {len(payload)} bytes exceeds the limit of {MAX_JOIN_FRAME_BYTES}")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid join message: {error}") from error
