"""The rows of a topic that somebody watches, once for all who do, and which of them are news for whom.

Each change gives its row the next version. Whoever knows a version is told the rows beyond it, the newest of each, and
the keys of those that have gone: however long he was away, that is no more than the table. Of rows that have gone the
keys are remembered, as many as there are rows; who has seen less than that is told everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", int, str, tuple[int, int])
RowT = TypeVar("RowT")
FEWEST_GONE = 1_024
"""So many keys of rows that have gone are remembered, however few rows there are."""


class WatchedTable(Generic[KeyT, RowT]):
    """See the module."""

    def __init__(self) -> None:
        self.rows: dict[KeyT, RowT] = {}
        self.version = 0
        self.known_from = 0
        """Whoever knows an earlier version than this cannot be told what has gone since."""
        self._changed: dict[KeyT, int] = {}
        """By key: the version of its last change; the latest comes last."""
        self._gone = 0
        """How many of these have no row."""

    def put(self, rows: Mapping[KeyT, RowT], instead_of: Iterable[KeyT]) -> None:
        """Have these rows in place of those with the other keys."""
        gone = [key for key in instead_of if key not in rows and key in self.rows]
        changed = [key for key, row in rows.items() if self.rows.get(key) != row]
        if not gone and not changed:
            return
        self.version += 1
        for key in gone:
            del self.rows[key]
            self._gone += 1
            self._mark(key)
        for key in changed:
            if key not in self.rows and key in self._changed:
                self._gone -= 1
            self.rows[key] = rows[key]
            self._mark(key)
        if self._gone > max(FEWEST_GONE, len(self.rows)):
            self._forget_gone()

    def tell_all(self) -> None:
        """Have everybody told everything: something has changed that no news can tell."""
        self.known_from = self.version

    def _mark(self, key: KeyT) -> None:
        self._changed.pop(key, None)
        self._changed[key] = self.version

    def _forget_gone(self) -> None:
        self.tell_all()
        self._changed = {key: version for key, version in self._changed.items() if key in self.rows}
        self._gone = 0

    def since(self, version: int) -> Iterator[KeyT]:
        """Yield the keys of what has changed since this version, the latest first."""
        for key in reversed(self._changed):
            if self._changed[key] <= version:
                return
            yield key
