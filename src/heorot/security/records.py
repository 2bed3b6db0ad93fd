"""Records that all heads of a cluster share, of whatever kind: what a kind has to say for that, and its file.

Each head's host keeps the records of a kind in files of its own, and changes them there, under the lock of the token
store. `heorot.security.shared` brings the versions of all hosts together, whatever the kind; `heorot.security.registry`
(nodes), `heorot.security.head_registry` and `heorot.security.tokens` are kinds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from heorot.config.files import ConfigError
from heorot.core.errors import SecurityError
from heorot.security.files import write_with_room

T = TypeVar("T")
Fields = Mapping[str, Any]
"""Of a JSON object."""
NOT_RECORDS = (ValueError, TypeError, KeyError, ConfigError)
"""What `RecordKind.parse` may raise."""


class RecordKind(ABC, Generic[T]):
    """One kind of records on this host's disk; `T` is all of them together, and is never changed.

    Attributes
    ----------
    path:
        The file, or directory of files, of these records: another file, or of another time, after each change.
    """

    path: Path

    @abstractmethod
    def content(self) -> T:
        """Return what this host has. Raises SecurityError if it is damaged or cannot be read."""

    @abstractmethod
    def take(self, content: T) -> None:
        """Write what this host is to have; the lock of the token store is held. Raises SecurityError or OSError."""

    @abstractmethod
    def merge(self, ours: T, theirs: T) -> T:
        """Return what is newest in either; commutative, associative and idempotent."""

    @abstractmethod
    def fields(self, content: T) -> dict[str, Any]:
        """Return the fields of a JSON object that say this, equal for equal contents; no other kind has fields of these
        names.
        """

    @abstractmethod
    def parse(self, fields: Fields) -> T:
        """Return what `fields` gave; fields of others are left alone. Raises one of `NOT_RECORDS`."""

    def without_old(self, content: T, now_ms: int) -> T:
        """Return it without what every host forgets by this time (wall clock)."""
        return content


class RecordFile(RecordKind[T]):
    """A kind whose records are in one JSON file, ``DIR/NAME``, which is replaced as a whole.

    It is read when it is another one than the last time.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    """For people: ``the registry of nodes``."""
    remedy: ClassVar[str]
    """What to do when it is damaged."""
    version: ClassVar[int] = 1

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / self.name
        self._seen: tuple[tuple[int, int], T] | None = None

    def content(self) -> T:
        """See `RecordKind`."""
        try:
            status = self.path.stat()
            seen = status.st_ino, status.st_mtime_ns
            if self._seen is None or self._seen[0] != seen:
                self._seen = seen, self._read(self.path.read_bytes())
        except FileNotFoundError:
            return self.empty()
        except OSError as error:
            raise SecurityError(f"cannot read {self.what} {self.path}: {error.strerror}") from error
        return self._seen[1]

    @abstractmethod
    def empty(self) -> T:
        """Return what a host has that has no file yet."""

    def _read(self, data: bytes) -> T:
        try:
            value = json.loads(data)
            if value["version"] != self.version:
                raise SecurityError(f"{self.path} is of another release (version {value['version']})")
            return self.parse(value)
        except NOT_RECORDS as error:
            raise SecurityError(f"{self.what} {self.path} is damaged; {self.remedy}") from error

    def take(self, content: T) -> None:
        """See `RecordKind`."""
        value = {"version": self.version, **self.fields(content)}
        write_with_room(self.path.parent, self.path, json.dumps(value, indent=0).encode())
