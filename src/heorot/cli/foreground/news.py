"""Ranks about which there is something to say, collected for a moment: what several nodes say is then one line."""

from __future__ import annotations

QUIET_S = 0.5
"""No further word has come for so long: the others are not about to say the same."""
LONGEST_S = 2.0
"""The first word is not held back for longer, however many follow."""


class News:
    """The ranks whose end is still to be said. The end of the job says all at once, whatever the time."""

    def __init__(self) -> None:
        self._ranks: list[int] = []
        self._first_at = 0.0
        self.due_at: float | None = None
        """When to say it; None: there is nothing to say."""

    def add(self, rank: int, now: float) -> None:
        """Note a rank."""
        if not self._ranks:
            self._first_at = now
        self._ranks.append(rank)
        self.due_at = min(now + QUIET_S, self._first_at + LONGEST_S)

    def take(self) -> list[int]:
        """Return the ranks, to say what is to be said about them now."""
        ranks, self._ranks, self.due_at = self._ranks, [], None
        return ranks
