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
from msgspec.structs import replace

from heorot.core.tickets import CLOCK_TOLERANCE_MS, Sign
from heorot.core.wire.clients import Spawn

VALID_MS = 2 * CLOCK_TOLERANCE_MS
"""On the clocks of two heads, each of which nodes obey while it is wrong by less than `CLOCK_TOLERANCE_MS`: in truth a
receipt may be twice as old. Nodes remember for longer what they have released (`heorot.core.space.jobs.TOMBSTONE_MS`),
so that none starts anything again. Who comes later goes on with what a node holds, or with nothing."""
TIME_BYTES = 8
_KEY_DOMAIN = b"heorot receipts\0"


class Receipts:
    """Gives receipts and knows its own, and those of all heads that have the same signing key.

    A receipt is an HMAC-SHA256 (RFC 2104) under a key that is derived from the cluster's signing key: unlike a
    signature, it costs a launch next to nothing.
    """

    def __init__(self, sign: Sign) -> None:
        # Ed25519 signatures are deterministic (RFC 8032), and nobody is ever given this one.
        self._key = hashlib.sha256(sign(_KEY_DOMAIN)).digest()

    def give(self, ask: Spawn, job: str, uid: int, runs: list[int], wall_ms: int) -> bytes:
        """Return the receipt of a launch: what was asked for, its job's id, its user, its nodes (flat: first node,
        count), and when it was acknowledged.
        """
        given_ms = max(0, wall_ms)  # a clock may be wrong by decades
        return given_ms.to_bytes(TIME_BYTES, "big") + self._seal(ask, job, uid, runs, given_ms)

    def _seal(self, ask: Spawn, job: str, uid: int, runs: list[int], given_ms: int) -> bytes:
        launch = replace(ask, request=0, again=False, asked_at_ms=0, job="", runs=[], receipt=b"")
        content = hashlib.sha256(msgpack.encode(launch)).digest()
        return hmac.digest(self._key, msgpack.encode((content, job, uid, runs, given_ms)), "sha256")

    def age_ms(self, ask: Spawn, uid: int, wall_ms: int) -> int | None:
        """Return how old the receipt of this launch is, on clocks that may differ; None: it is not its own."""
        given_ms = int.from_bytes(ask.receipt[:TIME_BYTES], "big")
        if not hmac.compare_digest(ask.receipt[TIME_BYTES:], self._seal(ask, ask.job, uid, ask.runs, given_ms)):
            return None
        return max(0, wall_ms - given_ms)
