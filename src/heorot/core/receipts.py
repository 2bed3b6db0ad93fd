"""What a head gives with its acknowledgement of a launch, so that any later head can believe it was given.

A launch that was acknowledged may have reached no node when its head is lost. Then only its client still has it, and
hands it to the next head under the number that it was given. The receipt proves that a head of this cluster has given
that number, to this user, for this launch on these nodes: nobody can claim the number of somebody else's job, or nodes
that he may not use.
"""

from __future__ import annotations

import hashlib
import hmac

from msgspec import msgpack

from heorot.core.tickets import Sign

_KEY_DOMAIN = b"heorot receipts\0"


class Receipts:
    """Gives receipts and knows its own, and those of all heads that have the same signing key.

    A receipt is an HMAC-SHA256 (RFC 2104) under a key that is derived from the cluster's signing key: unlike a
    signature, it costs a launch next to nothing.
    """

    def __init__(self, sign: Sign) -> None:
        # Ed25519 signatures are deterministic (RFC 8032), and nobody is ever given this one.
        self._key = hashlib.sha256(sign(_KEY_DOMAIN)).digest()

    def give(self, job: str, uid: int, key: bytes, runs: list[int]) -> bytes:
        """Return the receipt of a launch: its job's id, its user, its key, its nodes (flat: first node, count)."""
        return hmac.digest(self._key, msgpack.encode((job, uid, key, runs)), "sha256")

    def holds(self, receipt: bytes, job: str, uid: int, key: bytes, runs: list[int]) -> bool:
        """Say whether this is the receipt of that launch."""
        return hmac.compare_digest(receipt, self.give(job, uid, key, runs))
