"""Barriers of the ranks of jobs (MPI): what nodes say in one is gathered here, and scattered when all have spoken.

Nodes are the truth here, too: a node that waits says so again whenever its way to a head is new, and one that has come
through a barrier keeps what it has said there until the next one opens. So a new head gathers the last barrier, and the
present one, from the inventories, and what a broken link has lost is sent again to whoever still waits::

    gathering ──the last node has spoken──▶ scattered, and kept ──the next one is scattered──▶ forgotten

Nothing has to be acknowledged: that a node speaks in a barrier proves that it has come through the one before.

A job of MPI ends as a whole. A rank on one of its nodes says why (`Report.aborts`), or a node with ranks that were not
over is lost, or nodes wait in a barrier for one whose rank is over and has not entered it: then what is left is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from heorot.core.head.context import HeadContext
from heorot.core.head.ends import LostRank
from heorot.core.head.job import HeadJob
from heorot.core.head.states import OVER
from heorot.core.head.timers import EndDue
from heorot.core.pmi.dictionary import flat_entries, join_entries, size_of
from heorot.core.quota import MIB, Ledger, Quota
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m

SIGKILL = 9
MAX_PART_BYTES = 256 * 1024
"""What of a barrier travels in one message."""
GATHERED_BYTES = 512 * MIB
"""What is kept of all jobs."""
MOST_ROUNDS = 3
"""Of so many barriers nodes may speak to a new head: some wait in the next one, others still in the last one, and these
say what they have said in the one before."""


class OpenRound:
    """What is known of one barrier that has not opened."""

    __slots__ = ("entries", "mask", "waiting")

    def __init__(self) -> None:
        self.mask = 0
        """The nodes that have spoken."""
        self.waiting = 0
        """Those of them that are known to wait in it: others may have come through, under a former head."""
        self.entries: dict[bytes, bytes] = {}


class JobBarriers:
    """Those of one job.

    Parameters
    ----------
    last
        The generation of the last barrier that has opened, -1 before the first; None: only the nodes know.
    """

    __slots__ = ("last", "parts", "rounds", "size_bytes")

    def __init__(self, last: int | None) -> None:
        self.last = last
        self.rounds: dict[int, OpenRound] = {}
        self.parts: list[m.Scattered] = []
        """What the last one has scattered."""
        self.size_bytes = 0


class Collectives:
    """The barriers of all jobs, and the end of those that cannot go on.

    Parameters
    ----------
    signal
        Signals ranks of a job (None: all) on these nodes.
    unknown
        Hears which nodes have spoken of a job that is not known.
    """

    def __init__(
        self,
        context: HeadContext,
        jobs: Callable[[], dict[str, HeadJob]],
        signal: Callable[[HeadJob, NodeSet, list[int] | None, int], None],
        unknown: Callable[[str, NodeSet], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._signal = signal
        self._unknown = unknown
        self.of_jobs: dict[str, JobBarriers] = {}
        """Of those that have had one."""
        self._held = Ledger[int]()
        self._quota = Quota("MiB of what ranks say in barriers", GATHERED_BYTES, owner=context.config.owner, unit=MIB)

    @property
    def held_bytes(self) -> int:
        """How much memory takes what is kept of all jobs."""
        return sum(self._held.held.values())

    # ------------------------------------------------------------------ what nodes say

    def gathered(self, mask: int, word: m.Gathered) -> None:
        """The ranks of nodes wait in a barrier; the sender may speak for those of `mask`. Raises ProtocolError."""
        nodes, job = NodeSet.from_ranges(word.nodes).mask & mask, self._jobs().get(word.job)
        if job is None:
            self._unknown(word.job, NodeSet(nodes))
            return
        nodes &= job.node_set.mask
        if nodes and self._has_barriers(job):
            self._take(job, word.generation, nodes, word.entries, nodes)
            self.look(job)

    def listed(self, job: HeadJob, node: int, held: m.Collective) -> None:
        """A node says anew how far it has come."""
        if self._has_barriers(job):
            if held.generation:
                self._take(job, held.generation - 1, 1 << node, held.former, 0)
            if held.waits:
                self._take(job, held.generation, 1 << node, held.entries, 1 << node)

    def _has_barriers(self, job: HeadJob) -> bool:
        # Ranks that are all on one node need nobody else, and what their node says of it is nobody's business.
        if not job.ticket.spec.pmi or job.done or job.must_end or job.released:
            return False
        return len(job.node_set) > 1

    def _take(self, job: HeadJob, generation: int, nodes: int, entries: list[bytes], waiting: int) -> None:
        barriers = self.of_jobs.get(job.id)
        if barriers is None:
            # How far a job of an earlier head has come only its nodes know.
            barriers = self.of_jobs[job.id] = JobBarriers(None if job.adopted else -1)
        last, rounds = barriers.last, barriers.rounds
        if last is not None and generation <= last:
            if generation == last and waiting:
                self._scatter(barriers, waiting)
            return
        known = rounds.get(generation)
        if known is None:
            if len(rounds) >= MOST_ROUNDS or (last is not None and generation != last + 1):
                self.end(job, f"{NodeSet(nodes)} speaks in barrier {generation}, where no other rank is", 1)
                return
            known = rounds[generation] = OpenRound()
        if not self._account(job, barriers, join_entries(known.entries, entries)):
            return
        known.mask |= nodes
        known.waiting |= waiting
        if known.mask == job.node_set.mask:
            self._open(job, barriers, generation)

    def _account(self, job: HeadJob, barriers: JobBarriers, more_bytes: int) -> bool:
        """See that a user keeps no more here than others leave; else the job ends, and this returns False."""
        uid = job.ticket.uid
        why = self._quota.refusal(uid, self._held.held, more_bytes, job.ticket.user) if more_bytes > 0 else ""
        self._held.add(uid, more_bytes)
        barriers.size_bytes += more_bytes
        if why:
            self.end(job, f"MPI cannot go on: {why}", 1)
        return not why

    def _open(self, job: HeadJob, barriers: JobBarriers, generation: int) -> None:
        """All nodes have spoken."""
        opened = barriers.rounds.pop(generation)
        for older in [number for number in barriers.rounds if number < generation]:
            del barriers.rounds[older]
        kept = sum(size_of(flat_entries(each.entries)) for each in (opened, *barriers.rounds.values()))
        barriers.last = generation
        barriers.parts = list(_parts(job.id, generation, flat_entries(opened.entries)))
        self._held.add(job.ticket.uid, kept - barriers.size_bytes)
        barriers.size_bytes = kept
        if opened.waiting:
            self._scatter(barriers, opened.waiting)

    def _scatter(self, barriers: JobBarriers, nodes: int) -> None:
        for part in barriers.parts:
            self._context.send_down(NodeSet(nodes), part, bulk=len(barriers.parts) > 1)

    # ------------------------------------------------------------------ the end

    def look(self, job: HeadJob) -> None:
        """See whether nodes wait for one that cannot come: a rank of it is over, and it is not in the barrier."""
        if job.done:
            self.forget(job)
        barriers = self.of_jobs.get(job.id)
        if barriers is None or job.must_end or not job.over or barriers.last is None:
            return
        present = barriers.rounds.get(barriers.last + 1)
        if present is None or not present.waiting:
            return
        for node in NodeSet(job.node_set.mask & ~present.mask):
            for rank in job.places.ranks_on(node):
                if job.states[rank] == OVER:
                    self.end(job, f"rank {rank} on n{node} is over, and others wait for it in MPI", 1)
                    return

    def aborted(self, job: HeadJob, abort: m.Failure) -> None:
        """A rank says, or its node, that the job has to end."""
        if job.ticket.spec.pmi:
            self.end(job, abort.text, abort.error & 0xFF)

    def lost(self, job: HeadJob, node: int, why: str) -> None:
        """A node is gone, perhaps with ranks of this job that were not over."""
        if job.ticket.spec.pmi and any(isinstance(job.ends.get(rank), LostRank) for rank in job.places.ranks_on(node)):
            self.end(job, f"{why}; MPI cannot go on without it", -1)

    def end(self, job: HeadJob, why: str, status: int) -> None:
        """Kill what is left of a job; `status` is what its exit status is then, -1: what its ranks' make of it."""
        if job.done:
            self.forget(job)
        if job.done or job.must_end:
            return
        job.must_end = True
        job.end_reason = job.end_reason or why
        job.ended_status = status
        self._kill(job)

    def due(self, job_id: str) -> None:
        """See whether a job that has to end has ended; called when `EndDue`."""
        job = self._jobs().get(job_id)
        if job is not None and not job.done:
            self._kill(job)

    def _kill(self, job: HeadJob) -> None:
        self._signal(job, job.live_nodes(), None, SIGKILL)
        self._context.set_timer(EndDue(job.id), self._context.config.kill_grace_ms)

    def forget(self, job: HeadJob) -> None:
        """Nobody asks any more for what the ranks of a job have said."""
        barriers = self.of_jobs.pop(job.id, None)
        if barriers is not None:
            self._held.add(job.ticket.uid, -barriers.size_bytes)


def _parts(job: str, generation: int, entries: list[bytes]) -> list[m.Scattered]:
    """Return messages with all entries (flat: key, value), none of them too long."""
    cuts, size_bytes = [0], 0
    for index in range(0, len(entries), 2):
        size_bytes += len(entries[index]) + len(entries[index + 1])
        if size_bytes > MAX_PART_BYTES:
            cuts.append(index)
            size_bytes = len(entries[index]) + len(entries[index + 1])
    cuts.append(len(entries))
    pieces = [entries[first:end] for first, end in pairwise(cuts)]
    return [m.Scattered(job, generation, part, len(pieces), piece) for part, piece in enumerate(pieces)]
