"""Whether what heads say of jobs that they do not know, and what their clients make of it, is right.

What a head says is judged when it says it, and by what it knows: another one may lead by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.head.machine import HeadMachine
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.hosts import NodeHost
from heorot.sim.truth import JobTruth

if TYPE_CHECKING:
    from heorot.sim.whole_run import WholeRun


class Denials:
    """Requests to attach to a job, and their refusals."""

    def __init__(self, cluster: WholeRun) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._truth = cluster.truth
        self._asked: dict[tuple[int, int], str] = {}
        """By client of a head and request: the job that it wants to read."""
        self._doubtful: set[tuple[int, int]] = set()
        """Of these, what was denied by a head that could not know better."""

    def asked(self, client: int, ask: c.AttachJob) -> None:
        """A head is asked for a job."""
        self._asked[client, ask.request] = ask.job

    def refused(self, machine: HeadMachine, client: int, error: c.Error) -> None:
        """NoLostJob: no head says that a job does not exist which nodes hold, unless it cannot have heard of it."""
        job = self._asked.pop((client, error.request), "")
        if job and error.code == "in-doubt" and m.job_order(job)[0] <= machine.config.epoch:
            self._world.violated("OneAnswer", f"{machine.config.name} must know whether there is a job {job}")
        if not job or error.code != "no-such-job":
            return
        hosts = [host for host in self._cluster.hosts if host.node not in self._cluster.removed]
        holders = [host for host in hosts if host.space and job in host.space.machine.jobs]
        if not holders or _has_forgotten(machine, job):
            return
        if self._cluster.calm or any(_should_have_heard(machine, holder, job) for holder in holders):
            nodes = NodeSet.of(holder.node for holder in holders)
            self._world.violated("NoLostJob", f"{machine.config.name} does not know {job}, which {nodes} hold")
        self._doubtful.add((client, error.request))

    def heard(self, client: int, ask: c.AttachJob, error: c.Error) -> bool:
        """A client of a head may not attach; return True if it shall try again."""
        job = ask.job
        known = self._truth.jobs[job]
        if error.code in ("attended", "in-doubt"):
            return True
        if error.code not in ("no-such-job", "collected"):
            self._world.violated("OneAnswer", f"attaching to {job} is refused: {error.code} {error.message}")
        if (client, ask.request) in self._doubtful:
            return True
        unknown = error.code == "no-such-job" and known.acknowledged and not known.released
        if unknown and self._must_exist(known):
            self._world.violated("NoLostJob", f"{job} was acknowledged, and nobody knows it: {error.message}")
        if ask.resume and not known.released and self._could_go_on(job):
            self._world.violated("NoLostJob", f"its client may not go on with {job}: {error.code} {error.message}")
        known.released = True
        return False

    def _must_exist(self, known: JobTruth) -> bool:
        """Say whether a job that was acknowledged cannot be gone: none of its nodes has died since its launch."""
        if self._cluster.settings.max_finished_jobs <= len(self._truth.jobs):
            return False
        spaces = self._spaces()
        return all(spaces.get(node) == incarnation for node, incarnation in known.incarnations.items())

    def _could_go_on(self, job: str) -> bool:
        """Say whether anything of the job must be left: a rank was started, and its node has not died since."""
        if self._cluster.settings.max_finished_jobs <= len(self._truth.jobs):
            return False
        spaces = self._spaces()
        ranks = [self._truth.ranks.get((job, rank)) for rank in range(len(self._truth.jobs[job].nodes))]
        return any(rank is not None and spaces.get(rank.node) == rank.incarnation for rank in ranks)

    def _spaces(self) -> dict[int, int]:
        """Return the incarnations of the nodes that belong to the cluster and live."""
        removed = self._cluster.removed
        hosts = [host for host in self._cluster.hosts if host.space is not None and host.node not in removed]
        return {host.node: host.space.incarnation for host in hosts if host.space is not None}


def _should_have_heard(machine: HeadMachine, holder: NodeHost, job: str) -> bool:
    """Say whether a head has heard what this node holds, or must still wait for it."""
    record, grace_ms = machine.members.records[holder.node], machine.config.adoption_grace_ms
    if record.node in machine.members.silent:
        return not machine.settling._passed(grace_ms)
    # One that has seen another head since says to that one what it holds.
    if record.link is None or holder.seen_epoch > machine.config.epoch:
        return False
    # One whose disk takes no epoch obeys nobody: for its copy a head waits as long as for a node that is silent.
    return holder.seen_epoch == machine.config.epoch or machine.jobs.adoptions.fresh(grace_ms, job)


def _has_forgotten(machine: HeadMachine, job: str) -> bool:
    """Say whether a head has let go of this job to keep its list short."""
    return m.job_order(job)[0] == machine.config.epoch or job in machine.jobs.releases
