"""Mutants that concern the barriers of MPI; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.space import events as e
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m


def _changes_inventories(space: Any, change: Callable[[m.Collective], m.Collective]) -> None:
    honest = space.handle

    def changed(item: Any) -> Any:
        if not (isinstance(item, e.ToAgent) and isinstance(item.message, m.Inventory)):
            return item
        jobs = [
            replace(job, collective=change(job.collective)) if job.collective is not None else job
            for job in item.message.jobs
        ]
        return e.ToAgent(replace(item.message, jobs=jobs), item.bulk)

    space.handle = lambda event, now_ms: [changed(item) for item in honest(event, now_ms)]


def _says_once_that_it_waits(space: Any) -> None:
    """A node whose way to a head is new does not say again that its ranks wait."""
    _changes_inventories(space, lambda held: replace(held, waits=False, entries=[]))


def _keeps_no_former_words(space: Any) -> None:
    """A node that has come through a barrier forgets what it has said there."""
    _changes_inventories(space, lambda held: replace(held, former=[]))


def _takes_its_ranks_for_all(space: Any) -> None:
    """A barrier opens as soon as all ranks of the node are in it."""
    honest = space.pmi.begin

    def begin(job: Any, ticket: Any) -> None:
        honest(job, ticket)
        if job.pmi is not None:
            job.pmi.size = len(job.pmi.ranks)

    space.pmi.begin = begin


def _opens_one_node_too_early(head: Any) -> None:
    """A barrier opens when all nodes but one have spoken."""
    collectives = head.jobs.collectives
    honest = collectives._take

    def take(job: Any, generation: int, nodes: int, entries: Any, waiting: int) -> None:
        honest(job, generation, nodes, entries, waiting)
        barriers = collectives.of_jobs.get(job.id)
        known = barriers.rounds.get(generation) if barriers is not None else None
        if known is not None and len(NodeSet(job.node_set.mask & ~known.mask)) == 1:
            known.waiting = job.node_set.mask
            collectives._open(job, barriers, generation)

    collectives._take = take


def _scatters_only_once(head: Any) -> None:
    """Who says again that it waits in the last barrier is not told that this is open."""
    collectives = head.jobs.collectives
    honest = collectives._take

    def take(job: Any, generation: int, nodes: int, entries: Any, waiting: int) -> None:
        barriers = collectives.of_jobs.get(job.id)
        if barriers is None or barriers.last != generation:
            honest(job, generation, nodes, entries, waiting)

    collectives._take = take


SPACE: dict[str, Callable[[Any], None]] = {
    "space-says-once-that-it-waits": _says_once_that_it_waits,
    "space-keeps-no-former-words": _keeps_no_former_words,
    "space-takes-its-ranks-for-all": _takes_its_ranks_for_all,
}
HEAD: dict[str, Callable[[Any], None]] = {
    "head-opens-barriers-one-node-too-early": _opens_one_node_too_early,
    "head-scatters-only-once": _scatters_only_once,
}
WEATHER: dict[str, Any] = {
    "mpi_rate": 0.8, "signal_rate": 0.1, "reader_rate": 0.0, "image_rate": 0.0, "wrong_clock_rate": 0.0, "nodes": 6,
    "fanout": 2, "jobs": 25, "job_span_ms": 10_000, "faults": 60, "fault_span_ms": 12_000, "heads": 2, "head_weight": 4,
    "ambush_weight": 8, "cut_weight": 8, "agent_weight": 6, "node_weight": 0, "space_weight": 0, "client_weight": 0,
}  # fmt: skip
"""Many jobs of MPI, and much that interrupts their barriers without ending them."""
FOCUS: dict[str, dict[str, Any]] = dict.fromkeys((*SPACE, *HEAD), WEATHER)
