"""The registry of nodes of a cluster of many machines: which numbers are given, to which key and host.

One JSON file, ``DIR/registry.json``, replaced as a whole; changes happen under the lock of the token store.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from heorot.core.errors import SecurityError
from heorot.security.authority import MAX_NODE_NUMBER
from heorot.security.files import write_atomically

FILE_NAME = "registry.json"
_VERSION = 1


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


class Registry:
    """Reads and changes the registry; every call reads the file again."""

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / FILE_NAME

    def nodes(self) -> dict[int, NodeRecord]:
        """Return all nodes by number, ascending. Raises SecurityError if the file is damaged."""
        try:
            value = json.loads(self.path.read_bytes())
            if value["version"] != _VERSION:
                raise SecurityError(f"{self.path} is of another release (version {value['version']})")
            records = [NodeRecord(**record) for record in value["nodes"]]
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError) as error:
            raise SecurityError(f"the registry of nodes {self.path} is damaged; restore it from a copy") from error
        return {record.number: record for record in sorted(records, key=lambda record: record.number)}

    def next_free(self, reserved: tuple[int, ...] = ()) -> int:
        """Return the lowest number that no node has and that is not reserved. Raises SecurityError if there is none."""
        nodes = {*self.nodes(), *reserved}
        for number in range(MAX_NODE_NUMBER + 1):
            if number not in nodes:
                return number
        raise SecurityError(f"the cluster is full: all numbers up to {MAX_NODE_NUMBER} are given")

    def put(self, record: NodeRecord) -> None:
        """Enter a node, in place of a former one of that number; the lock of the token store is held."""
        self._write({**self.nodes(), record.number: record})

    def remove(self, number: int) -> NodeRecord | None:
        """Take a node out and return it; the lock of the token store is held."""
        nodes = self.nodes()
        record = nodes.pop(number, None)
        if record is not None:
            self._write(nodes)
        return record

    def _write(self, nodes: dict[int, NodeRecord]) -> None:
        records = [asdict(nodes[number]) for number in sorted(nodes)]
        data = json.dumps({"version": _VERSION, "nodes": records}, indent=0).encode()
        write_atomically(self.path, data, durable=True)
