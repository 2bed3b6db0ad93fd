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
from typing import TYPE_CHECKING, Protocol

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.head.job import HeadJob
from heorot.core.head.job_limits import JobLimits
from heorot.core.head.launch_keys import LaunchKeys
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.timers import AdoptDue, MissingDue
from heorot.core.machine import Send
from heorot.core.pmi.dictionary import size_of
from heorot.core.quota import MIB, Ledger
from heorot.core.streams import TAKES_NO_MORE
from heorot.core.tickets import open_launch
from heorot.core.tree.greeting import removal
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.launch import MAX_RANKS

if TYPE_CHECKING:
    from heorot.core.head.context import HeadContext
    from heorot.core.head.membership import KnownNode
    from heorot.core.head.releases import Releases

ASK_ANOTHER_MS = 1_000
"""How long a holder that was asked may take before another one is asked, too."""
MAX_HELD_BYTES = 32 * MIB
"""What a node has said of the jobs that wait may take so much memory; of one job it always may."""
NUMBER_BYTES = 40


@dataclass(slots=True)
class Adoption:
    """A job whose launch was asked for."""

    offered_at_ms: int
    introduced_by: int
    """The node that spoke of it first."""
    asked: int | None = None
    """The node that was asked; None: none that holds it can be reached."""
    asked_at_ms: int = 0
    held: dict[int, m.JobInventory] = field(default_factory=dict)
    """What the nodes that hold it said."""
    missed: int = 0
    """Mask of the nodes that have said more since."""


class Table(Protocol):
    """The table of jobs (`heorot.core.head.jobs.Jobs`), for what enters it from former heads."""

    keys: LaunchKeys
    limits: JobLimits
    releases: Releases

    def adopt(self, job: HeadJob) -> None:
        """Put a job of an earlier head into the list: before all of this one's."""

    def node_gone(self, node: int, why: str) -> None:
        """Give up every rank of this node, and the output of those that have ended but was not collected."""

    def reconcile_absent(self, job: HeadJob, records: list[KnownNode]) -> None:
        """These nodes do not hold a job that has ranks there; some may not be over."""

    def resend_launch(self, job: HeadJob, nodes: NodeSet) -> None:
        """Send the launch to nodes again, and what followed it; what is there already is not started twice."""

    def take_inventory(self, job: HeadJob, record: KnownNode, item: m.JobInventory) -> None:
        """Compare what a node holds of one job with what this head believes."""


class Adoptions:
    """All jobs of earlier heads that are not understood yet."""

    def __init__(self, context: HeadContext, jobs: Table) -> None:
        self._context = context
        self._jobs = jobs
        self.waiting: dict[str, Adoption] = {}
        self._limit = context.config.max_jobs + context.config.max_finished_jobs
        """An earlier head had no more."""
        self._introduced = Ledger[int]()
        """By node: of how many that wait it spoke first."""
        self.refused = 0
        """Mask of the nodes that hold more than there was room for."""
        self._held: dict[int, dict[str, int]] = {}
        """By node: which of those that wait it holds, and how much memory takes what it has said of each."""
        self._held_bytes = Ledger[int]()
        """By node: of all of them."""
        self._holding_since_ms: dict[int, int] = {}
        """By node that holds any: since when it has been so without a break. The latest are at the end."""
        self._holders = 0
        """Mask of these nodes."""
        self._armed = False

    @property
    def pending(self) -> bool:
        """Whether nodes hold jobs that this head does not know."""
        return bool(self.waiting or self.refused)

    @property
    def unclear(self) -> NodeSet:
        """The nodes that hold jobs which this head does not know."""
        return NodeSet(self._holders | self.refused)

    def fresh(self, grace_ms: int, job: str | None = None) -> bool:
        """Say whether this job was offered less than `grace_ms` ago and is not understood yet; without one, whether any
        node has begun so recently to hold such jobs. Who keeps back its copies for longer may never give them.
        """
        if job is not None:
            since_ms = self.waiting[job].offered_at_ms if job in self.waiting else None
        else:
            since_ms = next(reversed(self._holding_since_ms.values()), None)
        if since_ms is None:
            return False
        now_ms = self._context.now_ms
        # The copy may have come while this head slept, and be read in a moment.
        return now_ms - since_ms < grace_ms or self._context.wakefulness.missed_ms(now_ms, since_ms, grace_ms) > 0

    def _hold(self, node: int, job: str, size_bytes: int) -> None:
        if node not in self._held:
            self._held[node] = {}
            self._holding_since_ms[node] = self._context.now_ms
            self._holders |= 1 << node
        self._held_bytes.add(node, size_bytes - self._held[node].get(job, 0))
        self._held[node][job] = size_bytes

    def _hold_no_more(self, node: int, job: str) -> None:
        held = self._held[node]
        self._held_bytes.add(node, -held.pop(job))
        if not held:
            del self._held[node], self._holding_since_ms[node]
            self._holders &= ~(1 << node)

    def said(self, node: int, inventory: m.Inventory) -> None:
        """This is all that a node holds from now on."""
        named = {item.job for item in inventory.jobs}
        for job in [job for job in self._held.get(node, ()) if job not in named]:
            self._holds_no_more(job, self.waiting[job], node)

    def offer(self, record: KnownNode, item: m.JobInventory) -> None:
        """A node holds a job that this head does not know. Raises ProtocolError if it cannot hold so many ranks."""
        ranks = max(
            len(item.running) // 2, len(item.exited) // 4, len(item.killed) // 2, len(item.used) // 4, len(item.failed),
            len(item.stops) // 5,
        )  # fmt: skip
        if ranks > MAX_RANKS:
            raise ProtocolError(f"an inventory of job {item.job} with more than {MAX_RANKS} ranks")
        size_bytes = _size_bytes(item)
        others_bytes = self._held_bytes.held.get(record.node, 0) - self._held.get(record.node, {}).get(item.job, 0)
        if others_bytes and others_bytes + size_bytes > MAX_HELD_BYTES:
            self._refuse(record.node)
            return
        adoption = self.waiting.get(item.job)
        if adoption is None:
            # As with the head's other limits (`heorot.core.quota`): one node alone leaves as much room as it takes.
            if self._introduced.held.get(record.node, 0) >= self._limit - len(self.waiting):
                self._refuse(record.node)
                return
            adoption = self.waiting[item.job] = Adoption(self._context.now_ms, record.node)
            self._introduced.add(record.node, 1)
            self._context.wakefulness.watch(self._context.now_ms, self._context.config.adoption_grace_ms)
            self._arm()
        self._hold(record.node, item.job, size_bytes)
        adoption.held[record.node] = item
        adoption.missed &= ~(1 << record.node)
        asked = adoption.asked
        if asked is None or asked == record.node or self._context.members.records[asked].link is None:
            self._ask(item.job, adoption, record.node)

    def _refuse(self, node: int) -> None:
        """There is no room for what this node holds; it is asked to say it again when there is."""
        if not self.refused >> node & 1:
            self._context.log("error", f"n{node} holds more unknown jobs than can be taken over at once")
        self.refused |= 1 << node
        self._arm()

    def missed(self, job: str, nodes: NodeSet) -> bool:
        """Nodes report of a job; return True if it is one that is not understood yet."""
        adoption = self.waiting.get(job)
        if adoption is not None:
            adoption.missed |= nodes.mask
        return adoption is not None

    def detached(self, mask: int) -> None:
        """These nodes cannot be reached just now: ask others that hold what they were asked for."""
        for job, adoption in list(self.waiting.items()):
            if adoption.asked is not None and mask >> adoption.asked & 1:
                self._ask_another(job, adoption)

    def node_gone(self, node: int) -> None:
        """A node and all that it held is gone: ask another one."""
        self.refused &= ~(1 << node)
        for job in list(self._held.get(node, ())):
            self._holds_no_more(job, self.waiting[job], node)

    def due(self) -> None:
        """Ask other holders for what one has not given in time; called when `AdoptDue`."""
        self._armed = False
        late_ms = self._context.now_ms - ASK_ANOTHER_MS
        for job, adoption in self.waiting.items():
            if adoption.asked is not None and adoption.asked_at_ms <= late_ms:
                self._ask_another(job, adoption)
        if self.refused and len(self.waiting) < self._limit // 4 and self._jobs.limits.has_much_room:
            # There is room again for what they hold besides: have them say it once more.
            refused, self.refused = self.refused, 0
            for link in self._context.below.by_link.values():
                if link.mask & refused:
                    self._context.emit(Send(link.link, m.Reattached(self._context.config.epoch)))
        self._arm()

    def _arm(self) -> None:
        if not self._armed and (self.waiting or self.refused):
            self._armed = True
            self._context.set_timer(AdoptDue(), ASK_ANOTHER_MS)

    def _forget(self, job: str) -> Adoption | None:
        adoption = self.waiting.pop(job, None)
        if adoption is not None:
            self._introduced.add(adoption.introduced_by, -1)
            for node in adoption.held:
                self._hold_no_more(node, job)
        return adoption

    def _holds_no_more(self, job: str, adoption: Adoption, node: int) -> None:
        if adoption.held.pop(node, None) is not None:
            self._hold_no_more(node, job)
        if not adoption.held:
            self._forget(job)
        elif adoption.asked == node:
            self._ask_another(job, adoption)

    def _ask(self, job: str, adoption: Adoption, node: int) -> None:
        adoption.asked, adoption.asked_at_ms = node, self._context.now_ms
        self._context.send_down(NodeSet(1 << node), m.FetchLaunch(job))

    def _ask_another(self, job: str, adoption: Adoption) -> None:
        """Ask the next holder that can be reached; if there is none, whoever comes back is asked."""
        records, last = self._context.members.records, adoption.asked
        adoption.asked = None
        reached = [node for node in sorted(adoption.held) if records[node].link is not None]
        if reached:
            self._ask(job, adoption, next((node for node in reached if last is not None and node > last), reached[0]))

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
        if not self._jobs.limits.has_room_for(ticket):
            for holder in adoption.held:
                self._refuse(holder)
            self._forget(copy.job)
            return
        self.understood(ticket, launch)

    def understood(self, ticket: m.Ticket, launch: m.Launch) -> HeadJob | None:
        """Take over the job of this ticket, and put it right on all of its nodes.

        Return None if another job has its key: its launch was asked for again, and started without the nodes that were
        given up for lost. What they still hold of it ends.
        """
        context = self._context
        adoption = self._forget(ticket.job) or Adoption(context.now_ms, -1)
        other = self._jobs.keys.job_of(ticket.uid, ticket.key) or self._jobs.keys.asked_again(ticket.uid, ticket.key)
        if other:
            holders = NodeSet.of(adoption.held)
            context.log("warning", f"{holders} hold job {ticket.job}, which was launched again as {other}: it ends")
            self._jobs.releases.disown(ticket.job)
            context.send_down(holders, m.Release(ticket.job))
            return None
        places = RankPlaces(ticket.runs, total=m.ranks_of(ticket))
        job = HeadJob(ticket, places, not ticket.attended, ticket.issued_at_ms)
        job.adopted = True
        if ticket.key:
            job.awaited_until_ms = context.now_ms + context.config.adoption_grace_ms
        job.launch = launch
        if ticket.spec.stdin == b"":
            # What was on its way to slower nodes is gone with the earlier head: a reader goes on from the slowest.
            taken = [item.stdin_offset for item in adoption.held.values() if item.stdin_offset < TAKES_NO_MORE]
            job.stdin.open(list(job.input_nodes), min(taken, default=0))
        self._jobs.adopt(job)
        context.log("info", f"took over job {job.id} of an earlier head")
        self._put_right(job, adoption)
        return job

    def _put_right(self, job: HeadJob, adoption: Adoption) -> None:
        context = self._context
        absent: list[KnownNode] = []
        removed = NodeSet(job.node_set.mask & context.members.outcasts.removed)
        for number in removed:
            # Its ranks are over, whoever has brought the job: a node, or its client.
            self._jobs.node_gone(number, removal(number))
        for number in job.node_set - removed:
            record = context.members.record(number)
            item = adoption.held.get(number)
            if item is not None and record.link is not None:
                self._jobs.take_inventory(job, record, item)
                if adoption.missed >> number & 1 and not job.released:
                    self._jobs.resend_launch(job, NodeSet(1 << number))
            elif item is not None:
                continue  # it says again what it holds when it is back, or is given up
            elif record.is_up:
                absent.append(record)
            else:
                # It may still be on its way to this head; it is not waited for without end.
                context.await_somebody(MissingDue(number), context.config.adoption_grace_ms)
        self._jobs.reconcile_absent(job, absent)


def _size_bytes(item: m.JobInventory) -> int:
    """Return about how much memory takes what a node has said of a job."""
    numbers = len(item.running) + len(item.exited) + len(item.killed) + len(item.used) + len(item.stops)
    held = item.collective
    said = size_of(held.entries) + size_of(held.former) if held is not None else 0
    failures = [*item.failed, *item.aborts]
    return NUMBER_BYTES * (numbers + 8 * (1 + len(failures))) + sum(len(each.text) for each in failures) + said
