"""The time that jobs may take on a node: from the start of the first of their ranks here, by the clock of the node.

Nobody else is needed to end them: neither a head, nor an agent, nor a client. The time stands in the ticket, so it is
the same under every head, and a program that is still on its way to the node takes none of it.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.space.jobs import SpaceJob
from heorot.core.space.states import ALIVE, QUEUED
from heorot.core.space.turn import Turn

SIGTERM, SIGCONT = 15, 18


class TimeLimits:
    """The jobs that have a time limit.

    Parameters
    ----------
    jobs:
        The machine's jobs.
    end:
        Ends a job for a reason, with these signals first.
    """

    def __init__(self, turn: Turn, jobs: dict[str, SpaceJob], end: Callable[..., None]) -> None:
        self._turn = turn
        self._jobs = jobs
        self._end = end
        self._ends_ms: dict[str, int] = {}
        self.due_ms: int | None = None
        """When `tick` is wanted."""

    def started(self, job: SpaceJob) -> None:
        """A rank of a job runs: with the first one its time begins."""
        if job.time_limit_ms and not job.timed:
            job.timed = True
            ends_ms = self._ends_ms[job.id] = self._turn.now + job.time_limit_ms
            if self.due_ms is None or ends_ms < self.due_ms:
                self.due_ms = ends_ms

    def forget(self, job: SpaceJob) -> None:
        """The job was released."""
        if self._ends_ms.pop(job.id, None) == self.due_ms:
            self._reckon()

    def _reckon(self) -> None:
        self.due_ms = min(self._ends_ms.values(), default=None)

    def tick(self) -> None:
        """End the jobs whose time is over."""
        if self.due_ms is None or self.due_ms > self._turn.now:
            return
        for job_id in [job for job, ends_ms in self._ends_ms.items() if ends_ms <= self._turn.now]:
            del self._ends_ms[job_id]
            job = self._jobs.get(job_id)
            if job is not None and job.live:
                self._time_is_over(job)
        self._reckon()

    def _time_is_over(self, job: SpaceJob) -> None:
        for rank in job.ranks.values():
            rank.out_of_time = rank.state in (QUEUED, *ALIVE)
        # One that is stopped takes its signal only when it goes on.
        self._end(job, f"it was ended: its time limit of {job.time_limit_ms / 1000:g} s is over", SIGTERM, SIGCONT)
