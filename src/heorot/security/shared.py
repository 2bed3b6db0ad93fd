"""The records that all heads of a cluster share: nodes that have joined or were removed, what is wanted of them, heads,
and join tokens.

Every head's host has them in files, and changes them there. Two versions are brought together kind by kind, and it
does not matter in which order: for a node or a head the later of joining and removal counts, a token has as many uses
left as where it has fewest, and is revoked if it is so anywhere. What is exchanged is one object with the fields of all
kinds, signed with the cluster's signing key, which only heads have; tokens go as the hashes of their secrets. A kind
that a head of an earlier release does not know, that one leaves out, and a later one puts in again.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heorot.core.errors import SecurityError
from heorot.security.events import EventFile
from heorot.security.head_registry import HeadRegistry
from heorot.security.records import NOT_RECORDS, RecordKind
from heorot.security.registry import Registry
from heorot.security.signing import SIGNATURE_BYTES, Signer
from heorot.security.tokens import TokenStore
from heorot.security.wishes import WishFile

CONTEXT = b"heorot shared records 1\0"
"""In front of what is signed: no other signature of this key can be taken for one of these."""
MAX_BYTES = 1_000_000
"""Of what is exchanged; etcd takes requests of 1.5 MiB by default."""
MAX_PLAIN_BYTES = 16 * 1024 * 1024


Contents = tuple[Any, ...]
"""What is known of each kind, in the order of the kinds."""


def kinds_in(directory: Path) -> tuple[RecordKind[Any], ...]:
    """Return all kinds of records that the heads of a cluster share, as they are in this directory of it."""
    return (
        Registry(directory),
        TokenStore(directory),
        HeadRegistry(directory),
        WishFile(directory),
        EventFile(directory),
    )


class SharedRecords:
    """The records on this host's disk. See `heorot.coord.port.Shared`.

    Parameters
    ----------
    directory
        The cluster's, with ``registry.json``, ``heads.json``, ``node-states.json`` and ``tokens/``.
    wall_clock
        Seconds since 1970.
    """

    def __init__(self, directory: Path, signer: Signer, wall_clock: Callable[[], float] = time.time) -> None:
        self._kinds = kinds_in(directory)
        self._lock = TokenStore(directory).lock
        self._signer = signer
        self._wall_clock = wall_clock
        self._agreed: tuple[bytes, object] = (b"", None)
        """What was exchanged last, and the state of the files then."""

    def merge(self, theirs: bytes) -> bytes:
        """Take over what is newer in `theirs`; return what all should have, `theirs` itself if that is it.

        Raises
        ------
        SecurityError, OSError
            If our files cannot be read or written, or are too long to be shared.
        """
        if theirs and self._agreed == (theirs, self._state()):
            return theirs
        found = self.decode(theirs)
        with self._lock():
            ours = self._without_old(tuple(kind.content() for kind in self._kinds))
            merged = ours
            if found is not None:
                pairs = zip(self._kinds, ours, found, strict=True)
                merged = self._without_old(tuple(kind.merge(*both) for kind, *both in pairs))
            for kind, before, after in zip(self._kinds, ours, merged, strict=True):
                if after != before:
                    kind.take(after)
            state = self._state()
        data = theirs if merged == found else self.encode(merged)
        self._agreed = data, state
        return data

    def encode(self, contents: Contents) -> bytes:
        """Return the signed form. Raises SecurityError if it is too long to be exchanged."""
        value: dict[str, Any] = {}
        for kind, content in zip(self._kinds, contents, strict=True):
            value |= kind.fields(content)
        data = zlib.compress(json.dumps(value).encode())
        if len(data) > MAX_BYTES:
            raise SecurityError(
                f"the records of nodes and tokens have {len(data)} bytes, and heads can share {MAX_BYTES} at most: "
                "remove nodes that are gone, and make fewer tokens"
            )
        return self._signer.sign(CONTEXT + data) + data

    def decode(self, data: bytes) -> Contents | None:
        """Return what was signed; None if it was not signed by a head of this cluster, or cannot be read."""
        signature, plain = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if len(data) > SIGNATURE_BYTES + MAX_BYTES or not self._signer.verifier().verify(CONTEXT + plain, signature):
            return None
        try:
            value = json.loads(zlib.decompressobj().decompress(plain, MAX_PLAIN_BYTES))
            return tuple(kind.parse(value) for kind in self._kinds)
        except (*NOT_RECORDS, zlib.error):
            # Of a head of a later release, perhaps.
            return None

    def _without_old(self, contents: Contents) -> Contents:
        now_ms = int(self._wall_clock() * 1000)
        return tuple(kind.without_old(content, now_ms) for kind, content in zip(self._kinds, contents, strict=True))

    def _state(self) -> object:
        # Files are replaced, never written into: each change gives the file another inode, and its directory another
        # time.
        found = []
        for kind in self._kinds:
            try:
                status = kind.path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except FileNotFoundError:
                found.append((0, 0))
        return found
