"""Ending jobs that may not go on: all ranks are told, and what is left of them after a grace is killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heorot.core.space import events as e
from heorot.core.space.jobs import SpaceJob
from heorot.core.space.states import ALIVE, EXITED, HELD, QUEUED
from heorot.core.space.turn import Turn
from heorot.core.wire.tree import Failure

SIGKILL = 9
KILL_GRACE_MS = 2_000
"""What a job that is to end gets before it is killed, as with a client that went away."""


class Grace:
    """The jobs that were told to end.

    Parameters
    ----------
    node:
        The node's number.
    jobs:
        The machine's jobs.
    tell:
        Called with a job that has something to report, and when.
    """

    def __init__(self, node: int, turn: Turn, jobs: dict[str, SpaceJob], tell: Callable[[SpaceJob, int], None]) -> None:
        self._node = node
        self._turn = turn
        self._jobs = jobs
        self._tell = tell
        self._to_kill: deque[tuple[int, SpaceJob]] = deque()
        self.due_ms: int | None = None
        """When `tick` is wanted."""

    def end(self, job: SpaceJob, text: str, *signals: int) -> None:
        """Send these signals to all that is left of a job, kill later what is left then, and let its user know why.

        A rank that is still to be started is killed when it is.
        """
        self._turn.log("warning", f"job {job.id}: {text}")
        first = next(rank for rank in job.ranks.values() if rank.state is QUEUED or rank.state in HELD)
        job.note(Failure(self._node, first.number, 0, text))
        self._tell(job, self._turn.now)
        for rank in job.ranks.values():
            if rank.state in ALIVE or (rank.state is EXITED and job.linger):
                self._turn.out += [e.SendSignal(rank.slot, signal) for signal in signals]
            elif rank.state is QUEUED:
                rank.pending_signals.append(SIGKILL)
        self._to_kill.append((self._turn.now + KILL_GRACE_MS, job))
        self.due_ms = self._to_kill[0][0]

    def tick(self) -> None:
        """Kill those whose grace is over."""
        while self._to_kill and self._to_kill[0][0] <= self._turn.now:
            _, job = self._to_kill.popleft()
            slots = [rank.slot for rank in job.ranks.values() if rank.state in HELD]
            if self._jobs.get(job.id) is job and slots:
                self._turn.out.append(e.Destroy(slots))
        self.due_ms = self._to_kill[0][0] if self._to_kill else None
