"""The registry of nodes of a cluster of many machines: which numbers are given, to which key and host.

One JSON file, ``DIR/registry.json``; see `heorot.security.records`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from heorot.core.errors import SecurityError
from heorot.security.authority import MAX_NODE_NUMBER
from heorot.security.records import Fields, RecordFile

FILE_NAME = "registry.json"
MAX_REMOVED = 4096
"""Removed nodes that are remembered."""
MAX_FORMER = 4096
"""So many who had a number and have it no more are remembered: the latest."""


@dataclass(frozen=True)
class NodeRecord:
    """A node that has joined."""

    number: int
    host: str
    """What it called itself when it joined; for people."""
    public_key: str
    """Raw Ed25519, hex: the key that its certificate is for."""
    token: str
    """The id of the token that it joined with."""
    joined_at_ms: int
    certificate_ends_at_ms: int = 0
    """Of the one that it was given last; 0: nobody has noted it."""
    head: str = ""
    """The head on whose host it is, which has proved it; empty: none."""


@dataclass(frozen=True)
class RegistryContent:
    """The nodes that have joined, and those that were removed, by number."""

    nodes: dict[int, NodeRecord]
    removed: dict[int, int]
    """When, in milliseconds since 1970; so that another head does not bring it back."""
    former: dict[tuple[int, str], int] = field(default_factory=dict)
    """Who had which number (`NodeRecord.public_key`) until when: their certificates may still be valid."""

    def given_before(self) -> list[tuple[int, str]]:
        """Return who had a number before the one who has it now."""
        return [(number, key) for number, key in self.former if number in self.nodes and not self._holds(number, key)]

    def _holds(self, number: int, key: str) -> bool:
        return self.nodes[number].public_key == key

    def merged(self, other: RegistryContent) -> RegistryContent:
        """Return what is newest in either: of a number, the later of joining and removal."""
        removed = dict(self.removed)
        for number, at_ms in other.removed.items():
            removed[number] = max(at_ms, removed.get(number, 0))
        nodes = dict(self.nodes)
        for number, record in other.nodes.items():
            known = nodes.get(number, record)
            newest = max(known, record, key=_newness)
            if _newness(known)[:2] == _newness(record)[:2]:
                # An earlier release has noted a new certificate, and knows nothing of heads.
                newest = replace(newest, head=max(known.head, record.head))
            nodes[number] = newest
        former = dict(self.former)
        for holder, at_ms in other.former.items():
            former[holder] = max(at_ms, former.get(holder, 0))
        return RegistryContent(nodes, removed, former).tidy()

    def tidy(self) -> RegistryContent:
        """Return it with each number in one of the two, in order, and not too many of the removed."""
        nodes = {
            number: self.nodes[number]
            for number in sorted(self.nodes)
            if self.nodes[number].joined_at_ms > self.removed.get(number, -1)
        }
        newest = sorted(self.removed, key=lambda number: (self.removed[number], number))[-MAX_REMOVED:]
        latest = sorted(self.former, key=lambda holder: (self.former[holder], holder))[-MAX_FORMER:]
        return RegistryContent(
            nodes,
            {number: self.removed[number] for number in sorted(newest) if number not in nodes},
            {holder: self.former[holder] for holder in sorted(latest)},
        )


class Registry(RecordFile[RegistryContent]):
    """Reads and changes the registry."""

    name = FILE_NAME
    what = "the registry of nodes"
    remedy = "restore it from a copy"

    def nodes(self) -> dict[int, NodeRecord]:
        """Return all nodes by number, ascending. Raises SecurityError if the file is damaged."""
        return self.content().nodes

    def empty(self) -> RegistryContent:
        """See `RecordFile`."""
        return RegistryContent({}, {})

    def merge(self, ours: RegistryContent, theirs: RegistryContent) -> RegistryContent:
        """See `heorot.security.records.RecordKind`."""
        return ours.merged(theirs)

    def fields(self, content: RegistryContent) -> dict[str, Any]:
        """See `heorot.security.records.RecordKind`."""
        records = [asdict(content.nodes[number]) for number in sorted(content.nodes)]
        return {
            # An earlier release knows no other keys of a record.
            "masters": [(record["number"], record["head"]) for record in records if record["head"]],
            "nodes": [{key: value for key, value in record.items() if key != "head"} for record in records],
            "removed": sorted(content.removed.items()),
            "former": [(number, key, at_ms) for (number, key), at_ms in sorted(content.former.items())],
        }

    def parse(self, fields: Fields) -> RegistryContent:
        """See `heorot.security.records.RecordKind`. An earlier release says nothing of who had a number before."""
        masters = {int(number): str(head) for number, head in fields.get("masters", ())}
        records = [NodeRecord(**record, head=masters.get(record["number"], "")) for record in fields["nodes"]]
        removed = {int(number): int(at_ms) for number, at_ms in fields.get("removed", ())}
        former = {(int(number), str(key)): int(at_ms) for number, key, at_ms in fields.get("former", ())}
        return RegistryContent({record.number: record for record in records}, removed, former).tidy()

    def take(self, content: RegistryContent) -> None:
        """See `heorot.security.records.RecordKind`."""
        super().take(content.tidy())

    def next_free(self, capacity: int = MAX_NODE_NUMBER + 1) -> int:
        """Return the lowest number that no node has had, of `capacity`; if there is none, that of the node that was
        removed first. Who had it before stays refused, by the key of its certificate.

        Raises
        ------
        SecurityError
            If there is none.
        """
        content = self.content()
        for number in range(min(capacity, MAX_NODE_NUMBER + 1)):
            if number not in content.nodes and number not in content.removed:
                return number
        left = [number for number in content.removed if number < capacity]
        if left:
            return min(left, key=lambda number: (content.removed[number], number))
        for number in range(capacity, MAX_NODE_NUMBER + 1):
            if number not in content.nodes:
                return number
        raise SecurityError(f"the cluster is full: all numbers up to {MAX_NODE_NUMBER} are given")

    def put(self, record: NodeRecord) -> NodeRecord:
        """Enter a node, in place of a former one of that number, and return what was entered; the lock of the token
        store is held.
        """
        content = self.content()
        # Later than what it replaces, whatever the clocks of the heads say.
        former = content.nodes.get(record.number)
        earlier_ms = max(content.removed.get(record.number, 0), former.joined_at_ms if former is not None else 0)
        if record.joined_at_ms <= earlier_ms:
            record = replace(record, joined_at_ms=earlier_ms + 1)
        left = _left(content, former, record.joined_at_ms) if former is not None else content.former
        self.take(RegistryContent({**content.nodes, record.number: record}, content.removed, left))
        return record

    def certified(self, number: int, public_key: str, ends_at_ms: int) -> None:
        """Note until when a node's newest certificate is valid; the lock of the token store is held."""
        content = self.content()
        record = content.nodes.get(number)
        if record is not None and record.public_key == public_key and record.certificate_ends_at_ms < ends_at_ms:
            noted = replace(record, certificate_ends_at_ms=ends_at_ms)
            self.take(RegistryContent({**content.nodes, number: noted}, content.removed, content.former))

    def remove(self, number: int, now_ms: int) -> NodeRecord | None:
        """Take a node out and return it; the lock of the token store is held."""
        content = self.content()
        record = content.nodes.get(number)
        if record is not None:
            at_ms = max(now_ms, record.joined_at_ms)
            left = _left(content, record, at_ms)
            self.take(RegistryContent(content.nodes, {**content.removed, number: at_ms}, left))
        return record


def _newness(record: NodeRecord) -> tuple[int, str, int]:
    return record.joined_at_ms, record.public_key, record.certificate_ends_at_ms


def _left(content: RegistryContent, record: NodeRecord, at_ms: int) -> dict[tuple[int, str], int]:
    return {**content.former, (record.number, record.public_key): at_ms}
