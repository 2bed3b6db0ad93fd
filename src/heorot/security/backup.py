"""A backup of a head's host: its configuration, the cluster's authority, this head's identity, and the shared records.

``heorot backup`` writes it, ``heorot restore`` reads it; a JSON object with the files by their paths below the
cluster's directory, in base64. Whoever has it is the cluster. What nodes hold is theirs and comes back from them;
images, logs and spools are not in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path

from heorot.core.errors import SecurityError
from heorot.security.authority import check_head_name
from heorot.security.files import make_private_directory, read_private, write_atomically, write_new
from heorot.security.tokens import TokenStore

FORMAT = "heorot-backup"
VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
EPOCH_NAME = "epoch"
EPOCHS_AHEAD = 1_000_000
"""So far above the epoch of the backup a restored head begins: more terms than a cluster sees between two backups."""
_RECORDS = re.compile(r"[a-z][a-z-]{0,30}\.json")
_KEYS = re.compile(r"[a-z][a-z.-]{0,30}")
_TOKENS = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class Backup:
    """What is needed to make a head's host anew."""

    cluster: str
    head: str
    """The head's name."""
    epoch: int
    """The highest that its host knew of."""
    made_at_ms: int
    config_path: str
    config: bytes
    files: dict[str, bytes]
    """By path below the cluster's directory: ``ca/…``, ``heads/NAME/…``, ``tokens/….json``, the records ``….json``."""

    def __repr__(self) -> str:
        return f"Backup({self.cluster}, {self.head})"

    def write(self, path: Path) -> None:
        """Write it into a new file that only its owner may read; an existing one is left alone.

        Raises OSError, or SecurityError if nobody could read it again.
        """
        value = {
            "format": FORMAT,
            "version": VERSION,
            "cluster": self.cluster,
            "head": self.head,
            "epoch": self.epoch,
            "made_at_ms": self.made_at_ms,
            "config_path": self.config_path,
            "config": _text_of(self.config),
            "files": {name: _text_of(data) for name, data in self.files.items()},
        }
        data = json.dumps(value, indent=1).encode()
        if len(data) > MAX_BYTES:
            raise SecurityError(
                f"the backup would have {len(data)} bytes, and one of more than {MAX_BYTES} is not read"
            )
        write_new(path, data)

    def restore(self, directory: Path) -> None:
        """Write the files where the cluster's directory is to be, which exists, and an epoch above that of the backup.

        The authority comes last: without it nothing there is a head that could be started. Raises OSError.
        """
        for name in sorted(self.files, key=lambda name: name.startswith("ca/")):
            path = directory / name
            if path.parent != directory:
                make_private_directory(path.parent)
            write_atomically(path, self.files[name], durable=True)
        epoch = self.epoch + EPOCHS_AHEAD
        write_atomically(directory / "heads" / self.head / EPOCH_NAME, b"%d\n" % epoch, durable=True)


def collect_files(directory: Path, head: str) -> dict[str, bytes]:
    """Return what a backup of the head of this name holds of a cluster's directory. Raises OSError."""
    found: dict[str, bytes] = {}
    # So that no two of the records are of different moments.
    with TokenStore(directory).lock():
        for path in sorted(directory.iterdir()):
            if _RECORDS.fullmatch(path.name):
                found[path.name] = path.read_bytes()
        for path in sorted((directory / "tokens").iterdir()):
            if _TOKENS.fullmatch(path.name):
                found[f"tokens/{path.name}"] = path.read_bytes()
    for place in ("ca", f"heads/{head}"):
        for path in sorted((directory / place).iterdir()):
            if path.suffix in (".pem", ".key", ".pub") and _KEYS.fullmatch(path.name):
                found[f"{place}/{path.name}"] = path.read_bytes()
    return found


def read_backup(path: Path) -> Backup:
    """Read a backup.

    Raises
    ------
    SecurityError
        If others may read it, or it is none; what it holds is not repeated.
    """
    data = read_private(path, "backup", MAX_BYTES + 1)
    damaged = f"{path} is no backup of 'heorot backup', or was not copied completely"
    try:
        value = json.loads(data)
        if len(data) > MAX_BYTES or value["format"] != FORMAT:
            raise SecurityError(damaged)
        if value["version"] != VERSION:
            raise SecurityError(f"{path} is of another release (version {value['version']!r:.20})")
        backup = Backup(
            cluster=value["cluster"],
            head=value["head"],
            epoch=value["epoch"],
            made_at_ms=value["made_at_ms"],
            config_path=value["config_path"],
            config=_bytes_of(value["config"]),
            files={name: _bytes_of(text) for name, text in value["files"].items()},
        )
        numbers = (backup.epoch, backup.made_at_ms)
        right = all(isinstance(text, str) for text in (backup.cluster, backup.head, backup.config_path))
        if not right or not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
            raise SecurityError(damaged)
        check_head_name(backup.head)
        if not all(_is_ours(name, backup.head) for name in backup.files):
            raise SecurityError(damaged)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
        # Not chained: the error must never carry a piece of a private key.
        raise SecurityError(damaged) from None
    return backup


def _is_ours(name: str, head: str) -> bool:
    """Say whether a restored file may be called so: a backup that somebody else has made must not write elsewhere."""
    place, _, last = name.rpartition("/")
    if not place:
        return bool(_RECORDS.fullmatch(last))
    if place == "tokens":
        return bool(_TOKENS.fullmatch(last))
    return place in ("ca", f"heads/{head}") and bool(_KEYS.fullmatch(last))


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes_of(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
