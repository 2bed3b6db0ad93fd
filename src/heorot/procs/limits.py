"""Which resource limits a process is started with."""

from __future__ import annotations

import resource

from heorot.core.messages import Ticket

Limits = dict[int, tuple[int, int]]
"""Soft and hard limit by number; -1: none."""


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

    def changes(self, ticket: Ticket) -> list[tuple[int, int, int]]:
        """Return the limits that a child has to set: number, soft, hard."""
        wanted = dict(self._given)
        flat = ticket.limits
        for index in range(0, len(flat) - 2, 3):
            number, soft, hard = flat[index : index + 3]
            # Anything else is no rlim_t.
            if number in wanted and min(soft, hard) >= -1 and max(soft, hard) < 1 << 63:
                wanted[number] = (soft, hard)
        most_of = self._most_of_users if ticket.uid != 0 else self._most_of_root
        changes: list[tuple[int, int, int]] = []
        for number, (soft, hard) in wanted.items():
            most = most_of[number]
            if most != -1:
                hard = most if hard == -1 else min(hard, most)
            if hard != -1:
                soft = hard if soft == -1 else min(soft, hard)
            if (soft, hard) != self._current[number]:
                changes.append((number, soft, hard))
        return changes
