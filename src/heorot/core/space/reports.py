"""Reports on their way from a process space: what is news of its jobs, all of it at once, a little later."""

from __future__ import annotations

from heorot.core.space.jobs import SpaceJob
from heorot.core.space.turn import Turn


class ReportSide:
    """The jobs that have something to report, and when. What it is they keep themselves."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._untold: dict[str, SpaceJob] = {}
        self.due_ms: int | None = None
        """When `send` is wanted; None: there is nothing to report."""

    def tell(self, job: SpaceJob, due_ms: int) -> None:
        """There is news of a job, which can wait until then."""
        self._untold[job.id] = job
        if self.due_ms is None or due_ms < self.due_ms:
            self.due_ms = due_ms

    def send(self) -> None:
        """Report all that there is."""
        self.due_ms = None
        untold, self._untold = self._untold, {}
        for job in untold.values():
            if job.muted or not self._turn.agent:
                continue
            report = job.take_report()
            if report is not None:
                self._turn.send(report)

    def forget(self, job: SpaceJob) -> None:
        """Nobody wants to hear of this job any more."""
        self._untold.pop(job.id, None)

    def clear(self) -> None:
        """All of it is being said otherwise."""
        self._untold.clear()
        self.due_ms = None
