"""Ranks that stop and go on: how that is counted, and when it is told.

The kernel tells a parent only the last of several changes, and so does a space: what counts is how a rank stands, and
the count of its changes by which an older word is known for one. It is odd as long as the rank is stopped.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.space import events as e
from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.states import ON_CONTINUED, ON_STOPPED
from heorot.core.space.turn import Turn

STOP_DELAY_MS = 2
"""A stop waits this long for those of other ranks of the job: Ctrl-Z stops them all."""
STOPS_APART_MS = 100
"""Who stops and goes on without end is told of so often at most."""


class Stops:
    """Counts and tells. `slots` are the machine's ranks; `tell` is called with a job that has news, and when."""

    def __init__(self, node: int, turn: Turn, slots: dict[int, Rank], tell: Callable[[SpaceJob, int], None]) -> None:
        self._node = node
        self._turn = turn
        self._slots = slots
        self._tell = tell

    def stopped(self, event: e.ProcessStopped) -> None:
        """The process of a rank has stopped."""
        rank = self._slots.get(event.slot)
        if rank is not None:
            # One that is stopped already went on meanwhile, unseen.
            went_on = rank.is_stopped
            rank.state = ON_STOPPED[rank.state]
            self._changed(rank, 2 if went_on else 1, event.signal)

    def continued(self, event: e.ProcessContinued) -> None:
        """The process of a rank goes on."""
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.state = ON_CONTINUED[rank.state]
            self._changed(rank, 1, 0)

    def ended(self, rank: Rank) -> None:
        """A rank whose process was reaped is stopped no longer, however long it takes until it is over."""
        if rank.is_stopped:
            self._changed(rank, 1, 0)

    def _changed(self, rank: Rank, changes: int, signal: int) -> None:
        rank.stop = (rank.stop[0] + changes if rank.stop else changes, signal, rank.written(0), rank.written(1))
        job = rank.job
        if job is None:
            return
        if not job.stops:
            job.stops_due_ms = max(self._turn.now + STOP_DELAY_MS, job.stops_due_ms + STOPS_APART_MS)
        job.stops[rank.number] = (self._node, rank.number, *rank.stop)
        self._tell(job, job.stops_due_ms)
