"""Whether all know of ranks that have stopped who are to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.head.states import OVER

if TYPE_CHECKING:
    from heorot.core.head.machine import HeadMachine
    from heorot.sim.client import VirtualUser
    from heorot.sim.truth import RankTruth
    from heorot.sim.whole_run import WholeRun

KNOWN_AFTER_US = 5_000_000
"""In the healed network, so long after a rank has stopped or gone on everybody knows it."""


def untold_stops(cluster: WholeRun) -> str:
    """Return what head or clients do not know of ranks that have ever stopped; empty: they know it all."""
    machine = cluster.head.machine
    stopping = {where: truth for where, truth in cluster.truth.ranks.items() if truth.changes}
    if not stopping:
        return ""
    if machine is None:
        return "there is no head that could know"
    for (job, rank), truth in stopping.items():
        if truth.status is None and not truth.lost and cluster.world.now_us - truth.changed_at_us >= KNOWN_AFTER_US:
            problem = _untold(machine, cluster.clients, job, rank, truth)
            if problem:
                return problem
    return ""


def _untold(machine: HeadMachine, clients: list[VirtualUser], job: str, rank: int, truth: RankTruth) -> str:
    true = truth.changes, truth.stood[truth.changes]
    known = machine.jobs.jobs.get(job)
    if known is None or known.released or known.states[rank] == OVER:
        return ""  # that this is so for a reason is looked at elsewhere
    told = known.stops.get(rank)
    if told is None or told[:2] != true:
        return f"{job} r{rank} stands as {true}, the head says {told}"
    for client in clients:
        state = client.state
        reads = state is not None and state.id == job and not (state.detached or state.resuming)
        if state is None or not reads or client.end is None or known.client is None:
            continue
        told = state.stops.get(rank)
        if rank not in state.statuses and (told is None or told[:2] != true):
            return f"{job} r{rank} stands as {true}, {client.name} was told {told}"
    return ""
