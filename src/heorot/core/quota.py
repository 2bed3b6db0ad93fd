"""How users share what there is a limited number of: nobody can use it up for the others.

A part is kept for root and the cluster's owner. Of the rest a user may hold no more than what is still free: one who
wants all of it gets a half, the next a half of what is left; and as what they hold comes and goes, n such users come to
have one part in n+1 each. So the next one finds room, however greedy the others are, and one user alone on the cluster
is not held to a small fixed share. Buffers of network switches are shared in this way (dynamic thresholds).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

ROOT = 0
MIB = 1024 * 1024
ITEM_BYTES = 64
"""What an element of a list takes in memory besides its bytes, at most."""
PART_KEPT = 16
"""One part in so many is kept for root and the owner."""


class Quota(Struct, frozen=True):
    """One limit. `owner` is the uid that the head runs as."""

    what: str
    """What it counts, for people: ``jobs that run or are read``."""
    limit: int
    setting: str = ""
    """Its name in the configuration; empty: it has none."""
    owner: int = ROOT
    unit: int = 1
    """How much is told as one: a MiB of bytes."""

    @property
    def kept(self) -> int:
        """How much of the limit only root and the owner may use."""
        return max(1, self.limit // PART_KEPT) if self.limit > 1 else 0

    def may_all(self, uid: int) -> bool:
        """Whether this user may use all of it."""
        return uid in (ROOT, self.owner)

    def refusal(self, uid: int, held: Mapping[int, int], more: int = 1, name: str = "") -> str:
        """Return why this user may not have so much more, for people; empty if he may.

        `held` says how much each user has already, `name` what the user is called.
        """
        total = sum(held.values())
        if self.may_all(uid):
            if total + more <= self.limit:
                return ""
            return f"{self._whose(uid, held, name)}; {self._advice()}"
        privileged = sum(count for user, count in held.items() if self.may_all(user))
        free = self.limit - self.kept - (total - privileged) - max(0, privileged - self.kept)
        mine = held.get(uid, 0)
        # What it takes comes from what is free, so an equal share is left after it.
        if mine + more <= free:
            return ""
        rule = f"nobody but root may hold more of them than are left for others ({self._told(max(free, 0))} now)"
        return f"{self._whose(uid, held, name)}, and {rule}; {self._advice()}"

    def overflow(self, uid: int, held: Mapping[int, int], more: int) -> str:
        """Return why nobody like this user may have so much more, whatever the shares of users; empty if he may."""
        limit = self.limit if self.may_all(uid) else self.limit - self.kept
        total = sum(held.values())
        if total + more <= limit:
            return ""
        return f"there are {self._told(total)} {self.what}, and at most {self._told(limit)} may be; {self._advice()}"

    def _whose(self, uid: int, held: Mapping[int, int], name: str) -> str:
        mine = held.get(uid, 0)
        others = sum(held.values()) - mine
        have = f"{name or f'user {uid}'} has {self._told(mine)} and others have {self._told(others)}"
        return f"of at most {self._told(self.limit)} {self.what}, {have}"

    def _told(self, count: int) -> str:
        return f"{count / self.unit:.0f}" if self.unit > 1 else str(count)

    def _advice(self) -> str:
        raised = f", or let root raise {self.setting} ([limits] in head.toml)" if self.setting else ""
        return f"wait until there are fewer{raised}"


K = TypeVar("K", bound=Hashable)


class Ledger(Generic[K]):
    """Counts how much each holds, where counting anew each time would cost too much. Holds no zeros."""

    def __init__(self) -> None:
        self.held: dict[K, int] = {}

    def add(self, key: K, count: int) -> None:
        """Give `key` so much more (or, negative, take it back)."""
        value = self.held.get(key, 0) + count
        assert value >= 0, (key, value)
        if value:
            self.held[key] = value
        else:
            self.held.pop(key, None)
