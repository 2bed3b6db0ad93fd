"""The process space while there is no head: since when, and which jobs are to end because of it.

Two states, and what moves from one to the other::

                 the agent is lost, or says that it is headless
    with a head ────────────────────────────────────────────────▶ alone
                ◀────────────────────────────────────────────────
                     the agent says that a head is there

The connection of an agent alone ends nothing: an agent that was restarted does not know of a head before it has found
one. The last word counts, and words stay in order on their way down, so that a head that comes back while the word of
its loss is still on its way is believed in the end; each heartbeat repeats the word.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.space.jobs import SpaceJob
from heorot.core.space.turn import Turn

SIGHUP = 1


class Solitude:
    """Whether the space is alone, and the jobs that may not be for long.

    Parameters
    ----------
    node:
        The node's number.
    turn:
        Shared with the machine; `turn.alone` is kept here.
    jobs:
        The machine's jobs.
    end:
        Ends a job for a reason, with these signals first.
    """

    def __init__(self, node: int, turn: Turn, jobs: dict[str, SpaceJob], end: Callable[..., None]) -> None:
        self.since_ms: int | None = None
        """When the last head was lost; None: there is one, or there was never an agent."""
        self._node = node
        self._turn = turn
        self._jobs = jobs
        self._end = end
        self.due_ms: int | None = None
        """When `tick` is wanted: the first of the jobs has been without a head for as long as it may."""

    def change(self, alone: bool) -> bool:
        """Take word of the head; return whether it is news."""
        if alone == self._turn.alone:
            return False
        self._turn.alone = alone
        self.since_ms = self._turn.now if alone else None
        self.reckon()
        return True

    def reckon(self) -> None:
        """Find out anew which job is the first that has to end: one has come, or the time began to run."""
        self.due_ms = None
        if self.since_ms is not None:
            jobs = [job for job in self._jobs.values() if job.headless_ms and job.live and not job.hung_up]
            if jobs:
                self.due_ms = self.since_ms + min(job.headless_ms for job in jobs)

    def tick(self) -> None:
        """End what is due."""
        now = self._turn.now
        if self.since_ms is not None and self.due_ms is not None and now >= self.due_ms:
            for job in list(self._jobs.values()):
                due = job.headless_ms and not job.hung_up and now >= self.since_ms + job.headless_ms
                if due and job.live:
                    self._hang_up(job)
            self.reckon()

    def _hang_up(self, job: SpaceJob) -> None:
        job.hung_up = True
        self._end(job, f"it was ended on n{self._node}: no head for {job.headless_ms / 1000:g} s", SIGHUP)
