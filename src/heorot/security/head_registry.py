"""The registry of heads: which heads a cluster of many machines is to have, and where nodes reach each.

One JSON file on every head's host, ``DIR/heads.json``; see `heorot.security.records`. It begins with the addresses in
each head's configuration; ``heorot head add`` and ``heorot head remove`` change it, while heads and nodes live.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from heorot.config.files import Address, parse_address
from heorot.core.errors import SecurityError
from heorot.core.wire.heads import MAX_HEADS, HeadAddress
from heorot.security.records import Fields, RecordFile

FILE_NAME = "heads.json"
MAX_REMOVED = 64
"""Removed heads that are remembered."""


@dataclass(frozen=True)
class HeadRecord:
    """A head that was added or removed."""

    address: str
    """``HOST:PORT``; what tells two heads apart."""
    name: str
    """Empty: nobody has said yet."""
    at_ms: int
    """When, in milliseconds since 1970; 0: a configuration names it."""
    removed: bool = False
    named_at_ms: int = 0
    """When the name was given: it is known apart from the rest."""

    def merged(self, other: HeadRecord) -> HeadRecord:
        """Return what is newest of the same address."""
        at_ms, removed = max((self.at_ms, self.removed), (other.at_ms, other.removed))
        named_at_ms, name = max((self.named_at_ms, self.name), (other.named_at_ms, other.name))
        return HeadRecord(self.address, name, at_ms, removed, named_at_ms)


HeadRecords = dict[str, HeadRecord]
"""By address."""


def merged(ours: HeadRecords, theirs: HeadRecords) -> HeadRecords:
    """Return what is newest in either, in order, and not too many of the removed."""
    found = dict(ours)
    for address, record in theirs.items():
        found[address] = found[address].merged(record) if address in found else record
    removed = sorted((one for one in found.values() if one.removed), key=lambda one: (one.at_ms, one.address))
    forgotten = {one.address for one in removed[:-MAX_REMOVED]}
    return {address: found[address] for address in sorted(found) if address not in forgotten}


class HeadRegistry(RecordFile[HeadRecords]):
    """Reads and changes the registry."""

    name = FILE_NAME
    what = "the registry of heads"
    remedy = "restore it from another head's host"

    def empty(self) -> HeadRecords:
        """See `heorot.security.records.RecordFile`."""
        return {}

    def merge(self, ours: HeadRecords, theirs: HeadRecords) -> HeadRecords:
        """See `heorot.security.records.RecordKind`."""
        return merged(ours, theirs)

    def fields(self, content: HeadRecords) -> dict[str, Any]:
        """See `heorot.security.records.RecordKind`."""
        return {"heads": [asdict(content[address]) for address in sorted(content)]}

    def parse(self, fields: Fields) -> HeadRecords:
        """See `heorot.security.records.RecordKind`. An earlier release shares nothing of heads."""
        found: HeadRecords = {}
        for row in fields.get("heads", ()):
            address, name, removed = row["address"], row["name"], row["removed"]
            at_ms, named_at_ms = row["at_ms"], row["named_at_ms"]
            if not (isinstance(address, str) and isinstance(name, str) and isinstance(removed, bool)):
                raise TypeError("not a record of a head")
            if not (isinstance(at_ms, int) and isinstance(named_at_ms, int) and str(parse_address(address)) == address):
                raise TypeError("not a record of a head")
            found[address] = HeadRecord(address, name, at_ms, removed, named_at_ms)
        return found

    def listed(self) -> tuple[HeadAddress, ...]:
        """Return the heads that the cluster is to have, in order of their names. Raises SecurityError."""
        found = []
        for record in self.content().values():
            if not record.removed:
                address = parse_address(record.address)
                found.append(HeadAddress(record.name, address.host, address.port))
        # Those without a name last.
        return tuple(sorted(found, key=lambda one: (not one.name, one.name, one.host, one.port)))

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of each head that the cluster is to have. Raises SecurityError."""
        return tuple((head.host, head.port) for head in self.listed())

    def removed(self) -> frozenset[str]:
        """Return the names of heads that were removed, and not added again. Raises SecurityError."""
        records = self.content().values()
        return frozenset(one.name for one in records if one.removed) - {one.name for one in records if not one.removed}

    def seed(self, addresses: tuple[Address, ...], own: Address | None, name: str) -> None:
        """Enter what the configuration of the head `name` says, unless more is known; the lock is held."""
        known = self.content()
        found = merged(
            known,
            {str(one): HeadRecord(str(one), name if one == own else "", 0) for one in addresses},
        )
        if found != known:
            self.take(found)

    def add(self, name: str, address: Address, now_ms: int) -> None:
        """Enter a head, later than whatever was known of its address or name; the lock is held.

        Raises
        ------
        SecurityError
            If another head has that name or address, or there are too many.
        """
        known = self.content()
        for record in known.values():
            if record.removed or (record.name in ("", name) and record.address == str(address)):
                continue
            if name == record.name:
                raise SecurityError(f"there is a head {name} at {record.address}; give the new one another name")
            if record.address == str(address):
                raise SecurityError(f"{address} is the address of the head {record.name}; give the new one another")
        if len([record for record in known.values() if not record.removed]) >= MAX_HEADS:
            raise SecurityError(f"a cluster has {MAX_HEADS} heads at most; remove one first: heorot head remove")
        at_ms = self._later(known, now_ms)
        self.take(merged(known, {str(address): HeadRecord(str(address), name, at_ms, False, at_ms)}))

    def remove(self, name: str, now_ms: int) -> HeadRecord:
        """Take a head out, by its name or address, and return it; the lock is held.

        Raises
        ------
        SecurityError
            If there is none, or it is the last one.
        """
        known = self.content()
        present = [record for record in known.values() if not record.removed]
        gone = [record for record in present if name in (record.name, record.address)]
        if not gone:
            there = ", ".join(record.name or record.address for record in present)
            raise SecurityError(f"there is no head {name}; there is {there or 'none'}")
        if len(present) == len(gone):
            raise SecurityError(f"{name} is the only head: add another one first (heorot head add)")
        at_ms = self._later(known, now_ms)
        record = replace(gone[0], at_ms=at_ms, removed=True)
        self.take(merged(known, {one.address: replace(one, at_ms=at_ms, removed=True) for one in gone}))
        return record

    def _later(self, known: HeadRecords, now_ms: int) -> int:
        # Later than what it replaces, whatever the clocks of the heads say.
        return max([now_ms, *(record.at_ms + 1 for record in known.values())])
