"""What the ranks of a job have told each other: keys and values, which all have after the barrier that follows a put.

All nodes of a job hold the same: of two values for one key the one of the earlier barrier stands, or the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heorot.core.pmi.lines import MAX_KEY_BYTES, MAX_VALUE_BYTES

ENTRY_BYTES = 128
"""What an entry takes in memory besides its bytes."""
MAX_KNOWN_BYTES = 64 * 1024 * 1024
"""Of one job."""
MAX_OWN_BYTES = 512 * 1024
"""What the ranks of one job on one node put between two barriers: it travels in one message."""
MAX_HERE_BYTES = 64 * 1024
"""What the ranks of one job on one node tell each other alone."""

Take = Callable[[int], str]
"""Takes so many bytes more of what a user's jobs may hold (or, negative, gives them back); why not, for people."""


def size_of(entries: Iterable[bytes]) -> int:
    """Return how much memory keys and values, one after the other, take."""
    return sum(len(item) + ENTRY_BYTES // 2 for item in entries)


def why_not_put(key: bytes, value: bytes) -> str:
    """Return why no rank may put such a key or value, for people; empty: it may."""
    if not 0 < len(key) <= MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES:
        return f"keys have up to {MAX_KEY_BYTES} bytes and values up to {MAX_VALUE_BYTES}"
    if key.split() != [key] or b"\n" in value:
        return "keys have no blanks, and values are one line"
    return ""


def flat_entries(entries: dict[bytes, bytes]) -> list[bytes]:
    """Return keys and values one after the other, in the order of keys."""
    return [item for key in sorted(entries) for item in (key, entries[key])]


def join_entries(entries: dict[bytes, bytes], more: list[bytes]) -> int:
    """Add keys and values, one after the other; return how many bytes that takes. The smaller of two values stays."""
    grown = 0
    for key, value in zip(more[0::2], more[1::2], strict=False):
        known = entries.get(key)
        if known is None:
            grown += len(key) + len(value) + ENTRY_BYTES
            entries[key] = value
        elif value < known:
            grown += len(value) - len(known)
            entries[key] = value
    return grown


class Dictionary:
    """One job's, as one of its nodes knows it.

    Parameters
    ----------
    take_own
        Accounts for what this node has to say, until the barrier after the next.
    take_known
        The same for what all have said.
    """

    def __init__(self, take_own: Take, take_known: Take) -> None:
        self.known: dict[bytes, bytes] = {}
        self.own: dict[bytes, bytes] = {}
        """What was put here since the last barrier."""
        self.former: dict[bytes, bytes] = {}
        """What was put here before it: another node may not have come through that barrier."""
        self.here: dict[bytes, bytes] = {}
        """What ranks of this node tell each other alone, in PMI-2."""
        self._take_own = take_own
        self._take_known = take_known
        self._own_bytes = self._former_bytes = self._known_bytes = self._here_bytes = 0

    def find(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        value = self.known.get(key)
        return self.own.get(key) if value is None else value

    def put(self, key: bytes, value: bytes) -> str:
        """Take what a rank of this node has put; return why not, for people."""
        former = self.find(key)
        if former is not None:
            return "" if former == value else "the key was put before with another value"
        size_bytes = len(key) + len(value) + ENTRY_BYTES
        if self._own_bytes + size_bytes > MAX_OWN_BYTES:
            return f"more than {MAX_OWN_BYTES} bytes on one node between two barriers"
        problem = self._take_own(size_bytes)
        if not problem:
            self.own[key] = value
            self._own_bytes += size_bytes
        return problem

    def put_here(self, key: bytes, value: bytes) -> str:
        """Take what a rank tells the others of this node alone; return why not, for people."""
        problem = why_not_put(key, value)
        size_bytes = len(key) + len(value) + ENTRY_BYTES
        if not problem and key in self.here:
            return "" if self.here[key] == value else "the key was put before with another value"
        if not problem and self._here_bytes + size_bytes > MAX_HERE_BYTES:
            problem = f"more than {MAX_HERE_BYTES} bytes for the ranks of one node"
        problem = problem or self._take_known(size_bytes)
        if not problem:
            self.here[key] = value
            self._here_bytes += size_bytes
        return problem

    def learn(self, entries: list[bytes]) -> str:
        """All have come through a barrier, and this is what was put before it; return why that cannot be kept."""
        union = dict(zip(entries[0::2], entries[1::2], strict=False))
        if len(union) != len(entries) // 2 or not self.own.items() <= union.items():
            # Seldom: a barrier of this node alone, or two that have put the same key.
            union = dict(self.own)
            join_entries(union, entries)
        fresh = union
        if not self.known.keys().isdisjoint(union):
            fresh = {key: value for key, value in union.items() if key not in self.known}
        size_bytes = sum(map(len, fresh)) + sum(map(len, fresh.values())) + ENTRY_BYTES * len(fresh)
        if self._known_bytes + size_bytes > MAX_KNOWN_BYTES:
            return f"its ranks have told each other more than {MAX_KNOWN_BYTES >> 20} MiB"
        problem = self._take_known(size_bytes)
        if problem:
            return problem
        self.known |= fresh
        self._known_bytes += size_bytes
        self._take_own(-self._former_bytes)
        self.former, self._former_bytes = self.own, self._own_bytes
        self.own, self._own_bytes = {}, 0
        return ""

    def shrink(self) -> None:
        """No rank of this node asks any more; what it has said may still be asked for."""
        self._take_known(-self._known_bytes - self._here_bytes)
        self.known, self.here = {}, {}
        self._known_bytes = self._here_bytes = 0

    def close(self) -> None:
        """The job is forgotten."""
        self.shrink()
        self._take_own(-self._own_bytes - self._former_bytes)
        self.own, self.former = {}, {}
        self._own_bytes = self._former_bytes = 0
