"""Ranks about which there is something to say, collected for a moment: what several nodes say is then one line."""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.core.client.job import JobState

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


class EndedRanks:
    """The ranks of a job that are over: of which there is something to say, and of which output is still to come."""

    def __init__(self, job: JobState) -> None:
        self._job = job
        self.news = News()
        self._awaited: dict[int, None] = {}

    def add(self, ranks: list[int], says_failures: bool) -> None:
        """These are over; if they did not end well, that may be to be said."""
        for rank in ranks:
            self._awaited[rank] = None
            status = self._job.statuses[rank]
            if says_failures and (status.code is None or status.error is not None):
                self.news.add(rank, monotonic())

    def take_complete(self) -> list[int]:
        """Return those of which all output is here by now; each is returned once."""
        complete = [rank for rank in self._awaited if self._job.rank_complete(rank)]
        for rank in complete:
            del self._awaited[rank]
        return complete
