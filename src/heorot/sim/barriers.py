"""What must be true of jobs of MPI: their barriers hold, and open, and a job that breaks up ends."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from heorot.core.head.ends import ExitedRank
from heorot.sim.truth import JobTruth

if TYPE_CHECKING:
    from heorot.sim.whole_run import WholeRun


class BarrierChecks:
    """Compares what has become of jobs of MPI with what may.

    Parameters
    ----------
    failed
        By job and rank: those that never ran, as clients were told.
    """

    def __init__(self, cluster: WholeRun, failed: Container[tuple[str, int]]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._truth = cluster.truth
        self._failed = failed

    def breaks_up(self, known: JobTruth) -> bool:
        """Say whether a job has to end as a whole, because one of its ranks cannot go on."""
        if not known.mpi:
            return False
        barriers = self._truth.barriers
        for rank, node in enumerate(known.nodes):
            key = known.job, rank
            truth = self._truth.ranks.get(key)
            has_ended = truth is not None and (truth.lost or truth.status is not None)
            never_ran = key in self._truth.failures or key in self._failed
            lost = key in self._truth.lost or node in self._cluster.removed
            if lost or never_ran or (has_ended and key in barriers.owing):
                return True
        return known.job in barriers.aborted or self._given_up(known.job)

    def _given_up(self, job: str) -> bool:
        """Say whether a head that serves takes a rank for lost; others judge whether it may."""
        machines = [head.machine for head in self._cluster.heads if head.machine is not None]
        jobs = [found for machine in machines if (found := machine.jobs.jobs.get(job)) is not None]
        return any(not isinstance(end, ExitedRank) for found in jobs for end in found.ends.values())

    def are_open(self) -> None:
        """BarrierHolds: with the network healed for long, nobody waits in a barrier that all ranks have entered."""
        barriers = self._truth.barriers
        for (job, rank), number in barriers.inside.items():
            known, truth = self._truth.jobs[job], self._truth.ranks[job, rank]
            waits = truth.status is None and not truth.lost and len(barriers.entered[job, number]) == len(known.nodes)
            if waits and not (known.unwanted or self.breaks_up(known)):
                self._world.violated("BarrierHolds", f"{job} r{rank} waits in barrier {number}, where all ranks are")
