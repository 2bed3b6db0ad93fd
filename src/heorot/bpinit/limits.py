"""Which resource limits a process is started with."""

from __future__ import annotations

import resource

from heorot.core.wire.tree import Ticket

Limits = dict[int, tuple[int, int]]
"""Soft and hard limit by number; -1: none."""
Limit = tuple[int, int, int]
"""Number, soft, hard."""


class LimitRules:
    """What the tickets of users and of root may claim on this node.

    Parameters
    ----------
    given:
        What this daemon was started with. What a client says of its own limits is a claim: nobody but root has more
        by it than this.
    current:
        What it has now, and a child begins with.
    may_raise:
        Whether it may raise hard limits.
    most_files:
        The highest limit on descriptors that it can set.
    """

    def __init__(self, given: Limits, current: Limits, may_raise: bool, most_files: int) -> None:
        self._given = given
        self._current = current
        self._most_of_users = {number: hard for number, (_, hard) in given.items()}
        self._most_of_root = {number: -1 if may_raise else hard for number, (_, hard) in current.items()}
        self._most_of_root[resource.RLIMIT_NOFILE] = most_files

        # Nearly everybody claims what this daemon was started with, too.
        self._usual_for_users = self._changes({}, self._most_of_users)
        self._usual_for_root = self._changes({}, self._most_of_root)

    def changes(self, ticket: Ticket) -> list[Limit]:
        """Return the limits that a child has to set."""
        flat = ticket.spec.limits
        claimed = dict(zip(flat[::3], zip(flat[1::3], flat[2::3], strict=False), strict=False))
        is_usual = claimed.items() <= self._given.items()
        if ticket.uid == 0:
            return self._usual_for_root if is_usual else self._changes(claimed, self._most_of_root)
        return self._usual_for_users if is_usual else self._changes(claimed, self._most_of_users)

    def _changes(self, claimed: Limits, most_of: dict[int, int]) -> list[Limit]:
        changes: list[Limit] = []
        for number, given in self._given.items():
            soft, hard = claimed.get(number, given)
            # Anything else is no rlim_t.
            if min(soft, hard) < -1 or max(soft, hard) >= 1 << 63:
                soft, hard = given
            most = most_of[number]
            if most != -1:
                hard = most if hard == -1 else min(hard, most)
            if hard != -1:
                soft = hard if soft == -1 else min(soft, hard)
            if (soft, hard) != self._current[number]:
                changes.append((number, soft, hard))
        return changes
