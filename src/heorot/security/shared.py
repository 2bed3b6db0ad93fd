"""The records that all heads of a cluster share: nodes that have joined or were removed, heads, and join tokens.

Every head's host has them in files, and changes them there. Two versions are brought together record by record, and it
does not matter in which order: for a node or a head the later of joining and removal counts, a token has as many uses
left as where it has fewest, and is revoked if it is so anywhere. What is exchanged is signed with the cluster's signing
key, which only heads have; tokens go as the hashes of their secrets.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heorot.config.files import ConfigError
from heorot.core.errors import SecurityError
from heorot.security.head_registry import HeadRecords, HeadRegistry, parse_records
from heorot.security.head_registry import merged as merged_heads
from heorot.security.registry import NodeRecord, Registry, RegistryContent, former_of, former_rows
from heorot.security.signing import SIGNATURE_BYTES, Signer
from heorot.security.tokens import TokenRecord, TokenStore

CONTEXT = b"heorot shared records 1\0"
"""In front of what is signed: no other signature of this key can be taken for one of these."""
MAX_BYTES = 1_000_000
"""Of what is exchanged; etcd takes requests of 1.5 MiB by default."""
MAX_PLAIN_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Records:
    """All that is shared."""

    nodes: RegistryContent
    tokens: dict[str, TokenRecord]
    heads: HeadRecords = field(default_factory=dict)

    def merged(self, other: Records) -> Records:
        """Return what is newest in either; commutative, associative and idempotent."""
        tokens = dict(self.tokens)
        for name, token in other.tokens.items():
            tokens[name] = tokens[name].merged(token) if name in tokens else token
        return Records(self.nodes.merged(other.nodes), tokens, merged_heads(self.heads, other.heads))

    def encode(self, signer: Signer) -> bytes:
        """Return the signed form. Raises SecurityError if it is too long to be exchanged."""
        value = {
            "nodes": [asdict(self.nodes.nodes[number]) for number in sorted(self.nodes.nodes)],
            "removed": sorted(self.nodes.removed.items()),
            "former": former_rows(self.nodes),
            "tokens": [asdict(self.tokens[name]) for name in sorted(self.tokens)],
            "heads": [asdict(self.heads[address]) for address in sorted(self.heads)],
        }
        data = zlib.compress(json.dumps(value).encode())
        if len(data) > MAX_BYTES:
            raise SecurityError(
                f"the records of nodes and tokens have {len(data)} bytes, and heads can share {MAX_BYTES} at most: "
                "remove nodes that are gone, and make fewer tokens"
            )
        return signer.sign(CONTEXT + data) + data

    @classmethod
    def decode(cls, data: bytes, signer: Signer) -> Records | None:
        """Return what was signed; None if it was not signed by a head of this cluster, or cannot be read."""
        signature, plain = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if len(data) > SIGNATURE_BYTES + MAX_BYTES or not signer.verifier().verify(CONTEXT + plain, signature):
            return None
        try:
            value: dict[str, Any] = json.loads(zlib.decompressobj().decompress(plain, MAX_PLAIN_BYTES))
            nodes = [NodeRecord(**record) for record in value["nodes"]]
            removed = {int(number): int(at_ms) for number, at_ms in value["removed"]}
            former = former_of(value)
            tokens = [TokenRecord(**record) for record in value["tokens"]]
            # An earlier release says nothing of heads.
            heads = parse_records(value.get("heads", []))
        except (ValueError, TypeError, KeyError, ConfigError, zlib.error):
            # Of a head of a later release, perhaps.
            return None
        return cls(
            RegistryContent({node.number: node for node in nodes}, removed, former),
            {token.id: token for token in tokens},
            heads,
        )


class SharedRecords:
    """The records on this host's disk. See `heorot.coord.port.Shared`.

    Parameters
    ----------
    directory
        The cluster's, with ``registry.json``, ``heads.json`` and ``tokens/``.
    wall_clock
        Seconds since 1970.
    """

    def __init__(self, directory: Path, signer: Signer, wall_clock: Callable[[], float] = time.time) -> None:
        self._registry = Registry(directory)
        self._heads = HeadRegistry(directory)
        self._store = TokenStore(directory)
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
        found = Records.decode(theirs, self._signer)
        with self._store.lock():
            ours = self._load()
            merged = ours if found is None else self._without_old(ours.merged(found))
            if merged.nodes != ours.nodes:
                self._registry.replace(merged.nodes)
            if merged.heads != ours.heads:
                self._heads.replace(merged.heads)
            for name, token in merged.tokens.items():
                if token != ours.tokens.get(name):
                    self._store.replace(token)
            state = self._state()
        data = theirs if merged == found else merged.encode(self._signer)
        self._agreed = data, state
        return data

    def _load(self) -> Records:
        tokens = {token.id: token for token in self._store.all()}
        return self._without_old(Records(self._registry.content(), tokens, self._heads.records()))

    def _without_old(self, records: Records) -> Records:
        now_ms = int(self._wall_clock() * 1000)
        tokens = {name: token for name, token in records.tokens.items() if not token.is_forgotten(now_ms)}
        return Records(records.nodes, tokens, records.heads)

    def _state(self) -> object:
        # Files are replaced, never written into: each change gives the file another inode, and its directory another
        # time.
        found = []
        for path in (self._registry.path, self._heads.path, self._store.directory):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except FileNotFoundError:
                found.append((0, 0))
        return found
