"""The file that makes a host a further head of a cluster: the authority, the registry of nodes, what heads share.

``heorot head add`` writes it, ``heorot head join`` reads it; a JSON object. Whoever has it is the cluster.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heorot.core.errors import SecurityError
from heorot.security.authority import Authority, check_head_name
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
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(json.dumps(value, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def read_bundle(path: Path) -> HeadBundle:
    """Read a bundle.

    Raises
    ------
    SecurityError
        If others may read it, or it is none; what it holds is not repeated.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SecurityError(f"{path} is no file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise SecurityError(
                    f"others may read {path} (mode {mode:o}): if somebody has, the cluster is theirs; "
                    f"otherwise: chmod 600 {path}"
                )
            if status.st_uid not in (0, os.geteuid()):
                raise SecurityError(f"{path} belongs to another user (uid {status.st_uid})")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecurityError(f"cannot read the bundle {path}: {error.strerror}") from error
    return _parse(path, data)


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
