"""Taking over the jobs of an earlier head: nodes hold them, and one copy of a launch tells a new head what they are.

The head asks the first node that holds an unknown job for its launch, and another one if that node goes. What nodes
say of the job before the copy has come cannot be understood yet: their inventories are kept, and whoever reported more
in between is asked to say everything again.
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

MAX_ADOPTIONS = 4_096


@dataclass(slots=True)
class Adoption:
    """A job whose launch was asked for."""

    asked: int
    """The node that was asked."""
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

    def offer(self, record: NodeRecord, item: m.JobInventory) -> None:
        """A node holds a job that this head does not know."""
        adoption = self.waiting.get(item.job)
        if adoption is None:
            if len(self.waiting) >= MAX_ADOPTIONS:
                self._context.log("error", f"job {item.job} is not taken over now: {MAX_ADOPTIONS} others come first")
                return
            adoption = self.waiting[item.job] = Adoption(record.node)
            self._ask(item.job, record.node)
        elif adoption.asked == record.node or self._context.members.records[adoption.asked].link is None:
            adoption.asked = record.node
            self._ask(item.job, record.node)
        adoption.held[record.node] = item
        adoption.missed &= ~(1 << record.node)

    def missed(self, job: str, nodes: NodeSet) -> bool:
        """Nodes report of a job; return True if it is one that is not understood yet."""
        adoption = self.waiting.get(job)
        if adoption is not None:
            adoption.missed |= nodes.mask
        return adoption is not None

    def node_gone(self, node: int) -> None:
        """A node and all that it held is gone: ask another one."""
        for job, adoption in list(self.waiting.items()):
            adoption.held.pop(node, None)
            if adoption.asked == node:
                self._ask_another(job, adoption)

    def _ask(self, job: str, node: int) -> None:
        self._context.send_down(NodeSet(1 << node), m.FetchLaunch(job))

    def _ask_another(self, job: str, adoption: Adoption) -> None:
        records = self._context.members.records
        for node in sorted(adoption.held):
            if records[node].link is not None:
                adoption.asked = node
                self._ask(job, node)
                return
        del self.waiting[job]

    def take(self, node: int, copy: m.LaunchCopy) -> None:
        """Take over a job from the copy of its launch."""
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
            if adoption.asked == node:
                adoption.held.pop(node, None)
                self._ask_another(copy.job, adoption)
            return
        del self.waiting[copy.job]
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
        for number in job.node_set:
            record = context.members.record(number)
            item = adoption.held.get(number)
            if item is not None and record.link is not None:
                self._jobs.take_inventory(job, record, item)
                if adoption.missed >> number & 1 and not job.released:
                    self._jobs.resend_launch(job, number)
            elif record.state == "up":
                self._jobs.reconcile_absent(job, record)
            else:
                # It may still be on its way to this head; it is not waited for without end.
                context.set_timer(f"missing:{number}", context.config.adoption_grace_ms)
