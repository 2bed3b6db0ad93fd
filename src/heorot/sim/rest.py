"""What must hold in the end, in the healed network, when all clients have what they wanted: nothing is left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from heorot.core.head.ends import ExitedRank, LostRank
from heorot.core.head.machine import HeadMachine
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.shape import living_path
from heorot.sim.truth import CLOCKS
from heorot.sim.watching import misled

if TYPE_CHECKING:
    from heorot.sim.whole_run import WholeRun


class Rest:
    """Compares what is left with the truth.

    Parameters
    ----------
    failed
        By job and rank: what clients were told of ranks that never ran.
    came_first
        Says whether a signal with this number may have ended a rank of a job before its program came.
    """

    def __init__(
        self,
        cluster: WholeRun,
        failed: Mapping[tuple[str, int], str],
        came_first: Callable[[str, int, int], bool],
    ) -> None:
        self.cluster = cluster
        self.truth = cluster.truth
        self._failed = failed
        self._came_first = came_first

    def unsettled(self) -> tuple[str, str] | None:
        """Return the invariant that does not hold yet in the healed network, and how."""
        cluster = self.cluster
        machine = cluster.head.machine
        serving = [head.name for head in cluster.heads if head.machine is not None]
        if machine is None or len(serving) != 1:
            return "OneHead", f"heads that serve: {serving}; elected last: {cluster.head.name}"
        living = NodeSet.of(host.node for host in cluster.hosts if not host.retired)
        for host in cluster.hosts:
            record = machine.members.records[host.node]
            if host.retired:
                if record.word != "down":
                    return "TableTrue", f"n{host.node} is dead and is said to be {record.state}"
                continue
            if record.word != "up" or record.link is None:
                return "TableTrue", f"n{host.node} is there and is said to be {record.state}, link {record.link}"
            assert host.space is not None
            assert host.agent is not None
            if record.incarnation != host.space.incarnation:
                return "TableTrue", f"n{host.node}: incarnation {record.incarnation}, not {host.space.incarnation}"
            path = living_path(host.node, machine.config.fanout, living)
            wanted = path[-1] if path else HEAD
            if record.parent != wanted or host.agent.uplink.parent != wanted:
                parents = f"head says {record.parent}, node says {host.agent.uplink.parent}"
                return "TableTrue", f"n{host.node} belongs below {wanted}: {parents}"
            if host.agent.epoch != machine.config.epoch:
                return "OneHead", f"n{host.node} has seen epoch {host.agent.epoch} only, not {machine.config.epoch}"
            wanted_heads, kept = list(cluster.store.listed[1]), host.kept_heads()
            if kept != wanted_heads or record.heads is None or [head.name for head in record.heads] != wanted_heads:
                return "HeadsTold", f"n{host.node} keeps {kept}, the head says {record.heads}, not {wanted_heads}"
            if host.table_alive:
                return "NoStray", f"{host.table_alive} processes are left on n{host.node}"
            if host.space.machine.jobs:
                return "NoStray", f"n{host.node} still holds {list(host.space.machine.jobs)}"
            if host.space.machine.pmi.held_bytes:
                return "Bounded", f"n{host.node} holds {host.space.machine.pmi.held_bytes} bytes of jobs that are over"
            if host.space.machine.live_slots:
                return "Bounded", f"n{host.node} has {host.space.machine.live_slots} slots without a job"
            images = host.agent.images
            if images.transfers.transfers or host.agent.programs.held or host.cache.pinned:
                held = list(host.agent.programs.held)
                return "Bounded", f"n{host.node} has {len(images.transfers)} images under way, launches {held}"
            if host.cache.copies:
                return "Bounded", f"n{host.node} has {host.cache.copies} copies that nobody needs in its cache"
            if images.peers or images.peers.links:
                return "Bounded", f"n{host.node} has {images.peers.links} peers without an image"
            reports = host.agent.reports
            # As long as somebody watches, nodes are asked.
            if reports.of_jobs.accumulators or (reports.waiting and not cluster.watchers):
                return "Bounded", f"n{host.node} waits for words on {reports.waiting}"
            for child in host.agent.context.below.by_link.values():
                if child.mask & ~living.mask:
                    return "TableTrue", f"n{host.node} believes to reach {NodeSet(child.mask)} through n{child.peer}"
        unsettled = self._unsettled_head(machine) or self._unsettled_clients()
        return unsettled or misled(cluster.watchers, machine)

    def _unsettled_head(self, machine: HeadMachine) -> tuple[str, str] | None:
        for job in machine.jobs.jobs.values():
            if not job.done:
                return "NoLostJob", f"{job.id} is {job.state}: {job.over} of {len(job.nodes)} ranks are over"
            if not job.released:
                return "NoLostJob", f"{job.id} is over and not released"
            for rank, end in job.ends.items():
                truth = self.truth.ranks.get((job.id, rank))
                # A node whose clock is wrong refuses to look whether it has released a job that is taken over.
                excused = any(word in getattr(end, "text", "") for word in ("released", CLOCKS))
                if isinstance(end, ExitedRank):
                    true = truth.fits(end, job.used(rank)) if truth else self._came_first(job.id, rank, end.wait_status)
                    if not true:
                        return "TableTrue", f"{job.id} r{rank} is listed with {end} {job.used(rank)}, in truth {truth}"
                elif not isinstance(end, LostRank) and truth is not None and not excused:
                    return "TableTrue", f"{job.id} r{rank} is listed as {end}, in truth {truth}"
        if machine.images.transfers.transfers:
            return "Bounded", f"{len(machine.images.transfers)} images are under way at the head"
        questions = [
            question for question in machine.requests.questions.queries.values() if question.caller is not None
        ]
        if questions:
            return "OneAnswer", f"{len(questions)} questions are open at the head"
        if machine.jobs.collectives.of_jobs or machine.jobs.collectives.held_bytes:
            return "Bounded", f"barriers are kept at the head: {list(machine.jobs.collectives.of_jobs)}"
        if machine.jobs.adoptions.waiting:
            return "Bounded", f"adoptions are open: {list(machine.jobs.adoptions.waiting)}"
        return None

    def _unsettled_clients(self) -> tuple[str, str] | None:
        for client in self.cluster.clients:
            if client.end is not None and client.pending:
                return "OneAnswer", f"{client.name} has no answer to {client.pending}"
            if not client.finished:
                return "NoLostJob", f"{client.name} is not finished with {client.job or 'nothing'}: {client.reading}"
        for (job, rank), text in self._failed.items():
            if (job, rank) in self.truth.ranks and "released" not in text and CLOCKS not in text:
                return "ExitOnce", f"{job} r{rank} was said to have failed ({text}), and ran"
        return None
