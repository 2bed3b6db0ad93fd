"""Taking over the jobs of an earlier head: nodes hold them, and one copy of a launch tells a new head what they are.

The head asks the first node that holds an unknown job for its launch, and another one if that node cannot be reached or
does not have it. What nodes say of the job before the copy has come cannot be understood yet: their inventories are
kept, and whoever reported more in between is asked to say everything again. A job waits here until its last holder is
gone for good::

    offered ──FetchLaunch──▶ asked ──LaunchCopy, or its client's copy──▶ taken over
                             │  ▲
        the asked node's link is lost, or it has no copy: another holder is asked, now or when one is back
                             ▼  │
                           unasked ──the last holder is gone──▶ forgotten

A launch that reached no node is handed over by its client (`Spawn.receipt`), in the same way and with the same end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heorot.core import messages as m
from heorot.core.errors import SecurityError
from heorot.core.job import Job, nodes_of
from heorot.core.nodeset import NodeSet
from heorot.core.stdin_feed import TAKES_NO_MORE
from heorot.core.tickets import open_launch

if TYPE_CHECKING:
    from heorot.core.head_context import HeadContext
    from heorot.core.jobs import Jobs
    from heorot.core.membership import NodeRecord


@dataclass(slots=True)
class Adoption:
    """A job whose launch was asked for."""

    offered_at_ms: int
    asked: int | None = None
    """The node that was asked; None: none that holds it can be reached."""
    held: dict[int, m.JobInventory] = field(default_factory=dict)
    """What the nodes that hold it said."""
    missed: int = 0
    """Mask of the nodes that have said more since."""


class Adoptions:
    """All jobs of earlier heads that are not understood yet."""

    def __init__(self, context: HeadContext, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self.waiting: dict[str, Adoption] = {}
        self._limit = context.config.max_jobs + context.config.max_finished_jobs
        """An earlier head had no more."""
        self._overflowed = False

    @property
    def pending(self) -> bool:
        """Whether nodes hold jobs that this head does not know."""
        return bool(self.waiting) or self._overflowed

    def fresh(self, grace_ms: int, job: str | None = None) -> bool:
        """Say whether this job, or any, was offered less than `grace_ms` ago and is not understood yet."""
        since_ms = self._context.now_ms - grace_ms
        if job is not None:
            return job in self.waiting and self.waiting[job].offered_at_ms > since_ms
        return any(adoption.offered_at_ms > since_ms for adoption in self.waiting.values())

    def offer(self, record: NodeRecord, item: m.JobInventory) -> None:
        """A node holds a job that this head does not know."""
        adoption = self.waiting.get(item.job)
        if adoption is None:
            if len(self.waiting) >= self._limit:
                if not self._overflowed:
                    self._context.log("error", f"more than {self._limit} jobs of an earlier head: some are not known")
                self._overflowed = True
                return
            adoption = self.waiting[item.job] = Adoption(self._context.now_ms)
        adoption.held[record.node] = item
        adoption.missed &= ~(1 << record.node)
        asked = adoption.asked
        if asked is None or asked == record.node or self._context.members.records[asked].link is None:
            self._ask(item.job, adoption, record.node)

    def missed(self, job: str, nodes: NodeSet) -> bool:
        """Nodes report of a job; return True if it is one that is not understood yet."""
        adoption = self.waiting.get(job)
        if adoption is not None:
            adoption.missed |= nodes.mask
        return adoption is not None

    def detached(self, mask: int) -> None:
        """These nodes cannot be reached just now: ask others that hold what they were asked for."""
        for job, adoption in self.waiting.items():
            if adoption.asked is not None and mask >> adoption.asked & 1:
                self._ask_another(job, adoption)

    def node_gone(self, node: int) -> None:
        """A node and all that it held is gone: ask another one."""
        for job, adoption in list(self.waiting.items()):
            self._holds_no_more(job, adoption, node)

    def _holds_no_more(self, job: str, adoption: Adoption, node: int) -> None:
        adoption.held.pop(node, None)
        if not adoption.held:
            del self.waiting[job]
        elif adoption.asked == node:
            self._ask_another(job, adoption)

    def _ask(self, job: str, adoption: Adoption, node: int) -> None:
        adoption.asked = node
        self._context.send_down(NodeSet(1 << node), m.FetchLaunch(job))

    def _ask_another(self, job: str, adoption: Adoption) -> None:
        """Ask a holder that can be reached; if there is none, whoever comes back is asked."""
        records = self._context.members.records
        adoption.asked = None
        for node in sorted(adoption.held):
            if records[node].link is not None:
                self._ask(job, adoption, node)
                return

    def take(self, node: int, copy: m.LaunchCopy) -> None:
        """Take over a job from a node's copy of its launch."""
        adoption = self.waiting.get(copy.job)
        if adoption is None:
            return
        context = self._context
        try:
            if not copy.ticket:
                raise SecurityError("it holds the job no more")
            ticket = m.decode_ticket(copy.ticket)
            # Its validity is of the past; the signature and the cluster are what counts.
            launch = m.Launch(copy.ticket, copy.signature, copy.job)
            open_launch(context.verify, launch, cluster=context.config.cluster, wall_ms=ticket.issued_at_ms)
            if ticket.job != copy.job:
                raise SecurityError(f"the copy is of job {ticket.job}")
        except SecurityError as error:
            context.log("warning", f"job {copy.job} is not taken over from n{node}: {error}")
            self._holds_no_more(copy.job, adoption, node)
            return
        self.understood(ticket, launch)

    def understood(self, ticket: m.Ticket, launch: m.Launch) -> Job | None:
        """Take over the job of this ticket, and put it right on all of its nodes.

        Return None if another job has its key: its launch was asked for again, and started without the nodes that were
        given up for lost. What they still hold of it ends.
        """
        context = self._context
        adoption = self.waiting.pop(ticket.job, None) or Adoption(context.now_ms)
        other = self._jobs.by_key(ticket.uid, ticket.key)
        if other is not None:
            holders = NodeSet.of(adoption.held)
            context.log("warning", f"{holders} hold job {ticket.job}, which was launched again as {other.id}: it ends")
            self._jobs.releases.disown(ticket.job)
            context.send_down(holders, m.Release(ticket.job))
            return None
        job = Job(ticket, nodes_of(ticket), not ticket.attended, ticket.issued_at_ms)
        job.adopted = True
        if ticket.key:
            job.awaited_until_ms = context.now_ms + context.config.adoption_grace_ms
        job.launch = launch
        if ticket.stdin == b"":
            # What was on its way to slower nodes is gone with the earlier head: a reader goes on from the slowest.
            taken = [item.stdin_offset for item in adoption.held.values() if item.stdin_offset < TAKES_NO_MORE]
            job.stdin.open(list(job.node_set), min(taken, default=0))
        self._jobs.adopt(job)
        context.log("info", f"took over job {job.id} of an earlier head")
        self._put_right(job, adoption)
        return job

    def _put_right(self, job: Job, adoption: Adoption) -> None:
        context = self._context
        absent: list[NodeRecord] = []
        for number in job.node_set:
            record = context.members.record(number)
            item = adoption.held.get(number)
            if item is not None and record.link is not None:
                self._jobs.take_inventory(job, record, item)
                if adoption.missed >> number & 1 and not job.released:
                    self._jobs.resend_launch(job, NodeSet(1 << number))
            elif item is not None:
                continue  # it says again what it holds when it is back, or is given up
            elif record.state == "up":
                absent.append(record)
            else:
                # It may still be on its way to this head; it is not waited for without end.
                context.set_timer(f"missing:{number}", context.config.adoption_grace_ms)
        self._jobs.reconcile_absent(job, absent)
