"""What is wanted of nodes, on the disk of each head's host: states, reasons, and who may use them.

One JSON file, ``DIR/node-states.json``; see `heorot.security.records`. Only a head that leads changes it, and what it
changes is newer than all that heads of earlier epochs have written (`heorot.core.head.wishes`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from heorot.core.errors import SecurityError
from heorot.core.wire.wishes import NodeWish, newest
from heorot.security.records import Fields, RecordFile

FILE_NAME = "node-states.json"
MAX_SHARED_BYTES = 400_000
"""What this kind may take of what heads exchange, compressed."""

WishRecords = dict[int, NodeWish]
"""By node, in order."""


class WishFile(RecordFile[WishRecords]):
    """Reads and changes them."""

    name = FILE_NAME
    what = "the states that nodes are set to"
    remedy = "restore it from another head's host"

    def empty(self) -> WishRecords:
        """See `heorot.security.records.RecordFile`."""
        return {}

    def merge(self, ours: WishRecords, theirs: WishRecords) -> WishRecords:
        """See `heorot.security.records.RecordKind`."""
        found = dict(ours)
        for node, wish in theirs.items():
            found[node] = newest(found[node], wish) if node in found else wish
        return {node: found[node] for node in sorted(found)}

    def fields(self, content: WishRecords) -> dict[str, Any]:
        """See `heorot.security.records.RecordKind`."""
        return {"wishes": [msgspec.to_builtins(content[node]) for node in sorted(content)]}

    def parse(self, fields: Fields) -> WishRecords:
        """See `heorot.security.records.RecordKind`. An earlier release shares nothing of states."""
        try:
            wishes = msgspec.convert(fields.get("wishes", ()), list[NodeWish])
        except msgspec.MsgspecError as error:
            raise ValueError(f"not records of what is wanted of nodes: {error}") from error
        return {wish.node: wish for wish in sorted(wishes, key=lambda one: one.node)}

    def put(self, wishes: Iterable[NodeWish]) -> None:
        """Enter these; the lock of the token store is held.

        Raises
        ------
        SecurityError
            If there are more than heads can share; nothing is written then.
        OSError
            If they cannot be written.
        """
        content = self.merge(self.content(), {wish.node: wish for wish in wishes})
        size_bytes = len(zlib.compress(json.dumps(self.fields(content)).encode()))
        if size_bytes > MAX_SHARED_BYTES:
            raise SecurityError(
                f"the states of nodes would take {size_bytes} bytes, and heads can share {MAX_SHARED_BYTES} of that: "
                "set fewer nodes, or give shorter reasons"
            )
        self.take(content)
