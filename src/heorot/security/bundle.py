"""The file that makes a host a further head of a cluster: the authority, the registry of nodes, what heads share.

``heorot head add`` writes it, ``heorot head join`` reads it; a JSON object. Whoever has it is the cluster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heorot.core.errors import SecurityError
from heorot.security.authority import Authority, check_head_name
from heorot.security.files import read_private, write_new
from heorot.security.signing import Signer

FORMAT = "heorot-head"
VERSION = 1
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class HeadBundle:
    """What a new head needs."""

    authority: Authority
    name: str
    address: str
    """``HOST:PORT``: how nodes reach the new head."""
    addresses: list[str]
    """Of all heads, the new one included."""
    capacity: int
    settings: dict[str, dict[str, Any]]
    """Of the configuration, by section and key."""
    registry: str
    """The content of the registry of nodes; empty: no node has joined."""

    def __repr__(self) -> str:
        return f"HeadBundle({self.name})"

    def write(self, path: Path) -> None:
        """Write it into a new file that only its owner may read. Raises OSError; an existing file is left alone."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "authority": {name: data.decode("ascii") for name, data in self.authority.secret_files().items()},
            "name": self.name,
            "address": self.address,
            "addresses": self.addresses,
            "capacity": self.capacity,
            "settings": self.settings,
            "registry": self.registry,
        }
        write_new(path, json.dumps(value, indent=1).encode())


def read_bundle(path: Path) -> HeadBundle:
    """Read a bundle.

    Raises
    ------
    SecurityError
        If others may read it, or it is none; what it holds is not repeated.
    """
    return _parse(path, read_private(path, "bundle", MAX_BYTES + 1))


def _parse(path: Path, data: bytes) -> HeadBundle:
    damaged = f"{path} is no bundle of 'heorot head add', or was not copied completely"
    try:
        value = json.loads(data)
        if len(data) > MAX_BYTES or value["format"] != FORMAT:
            raise SecurityError(damaged)
        if value["version"] != VERSION:
            raise SecurityError(f"{path} is of another release (version {value['version']!r:.20})")
        files = {name: text.encode("ascii") for name, text in value["authority"].items()}
        signer = Signer.from_pem(files["signing.key"], str(path))
        bundle = HeadBundle(
            authority=Authority.from_pem(files["ca.pem"], files["ca.key"], signer, str(path)),
            **{name: value[name] for name in ("name", "address", "addresses", "capacity", "settings", "registry")},
        )
        texts = [bundle.name, bundle.address, bundle.registry, *bundle.addresses, *bundle.settings]
        right = all(isinstance(text, str) for text in texts) and isinstance(bundle.capacity, int)
        if not right or not all(isinstance(values, dict) for values in bundle.settings.values()):
            raise SecurityError(damaged)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Not chained: the error must never carry a piece of a private key.
        raise SecurityError(damaged) from None
    check_head_name(bundle.name)
    return bundle
