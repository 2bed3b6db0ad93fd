"""The head's jobs: launch, follow, complete after a break, release, adopt; who reads them is in `attendance`.

Nodes are the truth. Whatever a node says of a rank is compared with what the head believes (`reconcile`), and there are
only four answers: take the news; send the launch again; tell the node to forget (and kill) what the head has closed;
ask for the launch of a job that an earlier head started.
"""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core.errors import ProtocolError, RequestError
from heorot.core.head import given_turns
from heorot.core.head.adoption import Adoptions
from heorot.core.head.attendance import SIGKILL, Attendance
from heorot.core.head.closed_nodes import closed_to, refusal
from heorot.core.head.collectives import Collectives
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.ends import LostRank
from heorot.core.head.holders import Holders
from heorot.core.head.input import JobInput
from heorot.core.head.job import HeadJob, window_of
from heorot.core.head.job_limits import JobLimits, bytes_of_launch
from heorot.core.head.launch_keys import LaunchKeys
from heorot.core.head.membership import KnownNode
from heorot.core.head.onlookers import Onlookers
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.releases import Releases
from heorot.core.head.reports import JobReports, listed
from heorot.core.head.safekeeping import Safekeeping
from heorot.core.head.states import PENDING
from heorot.core.head.stdin_feed import StdinFeed
from heorot.core.tickets import TICKET_VALIDITY_MS, renewed, seal_ticket
from heorot.core.tree.nodeset import NodeSet
from heorot.core.tree.runs import flat
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import rank_count
from heorot.core.wire.node_runs import runs_of


class Jobs:
    """All jobs that are not forgotten, oldest first."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self.jobs: dict[str, HeadJob] = {}
        self._launching: dict[str, HeadJob] = {}
        """Those of which ranks may be pending: that came since it was looked last, or of which there were some then."""
        self.limits = JobLimits(context, lambda: self.jobs)
        self.keys = LaunchKeys()
        self.releases = Releases(context)
        self._input = JobInput(context)
        self.attendance = Attendance(context, lambda: self.jobs, self._input, self.release, self._signal)
        self.collectives = Collectives(context, lambda: self.jobs, self._signal, self._unknown)
        aborted = self.collectives.aborted
        self._reports = JobReports(context, self._input, self._done, self._was_released, self._kill_lost, aborted)
        self.onlookers = Onlookers(context)
        self._sequence = 0
        # Nodes remember which questions they have answered: no two heads may use the same numbers.
        self._actions = context.config.epoch << 32
        self.adoptions = Adoptions(context, self)
        self.safekeeping = Safekeeping(context, lambda: self.jobs, lambda image: self.holders.program_kept(image))
        self.holders = Holders(context, lambda: self.jobs, self.safekeeping.has, self.release)

    @property
    def latest(self) -> str:
        """The job that was launched last, or the number before the first."""
        return f"{self._context.config.epoch}.{self._sequence}"

    def has_given(self, job: str) -> bool:
        """Say whether this head has given this id to a job."""
        epoch, sequence = m.job_order(job)
        return epoch == self._context.config.epoch and 0 < sequence <= self._sequence

    # ------------------------------------------------------------------ launch

    def spawn(self, caller: Caller, ask: c.Spawn, nodes: list[int], note: str = "") -> HeadJob:
        """Create a job and launch it on these nodes, which all get ranks; `note` is for its user.

        An attended one is acknowledged at once, and its client keeps the launch: see `take_back`. A detached one is
        acknowledged when a node has it.

        Raises
        ------
        RequestError
            ``too-many-jobs``, or ``bad-request`` if the key was used before.
        """
        context, config, client = self._context, self._context.config, caller.client
        former = self.by_key(caller.uid, ask.key)
        if former is not None:
            raise RequestError("bad-request", f"the key of this launch is that of job {former.id}")
        size_bytes = bytes_of_launch(ask.spec, ask.key, rank_count(ask.spec, len(nodes)))
        self.limits.require_room(caller, size_bytes)
        self._sequence += 1
        ticket = self._ticket(f"{config.epoch}.{self._sequence}", caller, ask, runs_of(nodes))
        job = HeadJob(ticket, RankPlaces(ticket.runs, nodes, m.ranks_of(ticket)), ask.detached, context.wall_ms)
        job.tell_started, job.sent_mask = ask.tell_started, job.node_set.mask
        job.launch = seal_ticket(context.sign, ticket)
        if note:
            job.add_note(note)
        if ticket.spec.stdin == b"":
            job.stdin.open(list(job.input_nodes))
        self.jobs[job.id] = self._launching[job.id] = job
        self.limits.take(job, size_bytes)
        self.keys.remember(job, ask.again)
        if not ask.detached:
            self.attendance.begin(job, client)
            give = context.receipts.give
            receipt = give(ask, job.id, caller.uid, ticket.runs, context.wall_ms) if ask.key else b""
            context.tell_spawned(job, client, ask.request, receipt)
        self.releases.send(within=job.node_set)
        # A node that cannot be reached just now gets the launch after its next inventory.
        context.send_down(job.node_set, job.launch)
        self.safekeeping.launched(job)
        if ask.detached:
            self.feed(job, c.ClientStdin(job.id, -1, 0, b"", True))
            self.holders.acknowledge(job, client, ask.request)
        self._forget_oldest()
        return job

    def _ticket(self, job: str, caller: Caller, ask: c.Spawn, runs: list[int]) -> m.Ticket:
        context, config, spec = self._context, self._context.config, ask.spec
        if not spec.max_processes and config.max_processes:
            spec = replace(spec, max_processes=config.max_processes)
        return m.Ticket(
            cluster=config.cluster,
            epoch=config.epoch,
            job=job,
            issued_at_ms=context.wall_ms,
            expires_at_ms=context.wall_ms + TICKET_VALIDITY_MS,
            user=caller.user,
            uid=caller.uid,
            gid=caller.gid,
            groups=list(caller.groups),
            spec=spec,
            runs=runs,
            window_bytes=window_of(rank_count(spec, sum(runs[1::2])), config.job_window_bytes),
            attended=not ask.detached,
            key=ask.key,
        )

    def take_back(self, caller: Caller, ask: c.Spawn) -> HeadJob:
        """Take over a job that an earlier head has acknowledged, from its client's copy of the launch: perhaps no node
        has it. Its receipt was checked.

        Raises
        ------
        RequestError
            ``too-many-jobs``, or ``bad-request`` if another job has its key.
        """
        self.limits.require_room_again(caller, ask)
        ticket = self._ticket(ask.job, caller, ask, ask.runs)
        job = self.adoptions.understood(ticket, seal_ticket(self._context.sign, ticket))
        if job is None:
            raise RequestError("bad-request", f"the key of job {ask.job} is that of another job of yours")
        job.handed_over, job.tell_started = True, ask.tell_started
        return job

    def by_key(self, uid: int, key: bytes) -> HeadJob | None:
        """Return the job that this user's client has launched with this key, if there is one."""
        return self.jobs.get(self.keys.job_of(uid, key))

    def dropped(self, uid: int, key: bytes) -> str:
        """Return the id of the job of this key if it was started, is over and was not kept; else nothing."""
        return self.keys.dropped(uid, key)

    def adopt(self, job: HeadJob) -> None:
        """Put a job of an earlier head into the list: before all of this one's."""
        self.jobs = {job.id: job, **self.jobs}
        self._launching[job.id] = job
        self.limits.take(job, bytes_of_launch(job.ticket.spec, job.ticket.key, len(job.nodes)))
        self.keys.remember(job)
        self.safekeeping.launched(job)

    def resend_launch(self, job: HeadJob, nodes: NodeSet) -> None:
        """Send the launch to nodes again, and what followed it; what is there already is not started twice."""
        context = self._context
        job.sent_mask |= nodes.mask
        job.ticket = self._renewed(job)
        job.launch = seal_ticket(context.sign, job.ticket)
        context.send_down(nodes, job.launch)
        if job.reading or not job.attended:
            context.send_down(nodes, m.Attend(job.id, job.attended, reading=job.reading))
        for node in nodes:
            self._input.feed_again(job, node)
        self.holders.asked_again(job, nodes)

    def _renewed(self, job: HeadJob, refused: str = "") -> m.Ticket:
        # The first one may have expired, or be of an earlier epoch.
        return renewed(job.ticket, self._context.config.epoch, self._context.wall_ms, job.attended, refused)

    def launching(self) -> NodeSet:
        """Return the nodes with ranks of which nothing was heard yet."""
        for job in [job for job in self._launching.values() if not job.pending_mask]:
            del self._launching[job.id]
        mask = 0
        for job in self._launching.values():
            mask |= job.pending_mask
        return NodeSet(mask)

    # ------------------------------------------------------------------ news from nodes

    def report(self, mask: int, report: m.Report) -> None:
        """Take a merged report; `mask` says for which nodes its sender may speak.

        Raises
        ------
        ProtocolError
            If anything in it cannot be true; nothing of it is taken then.
        """
        job = self.jobs.get(report.job)
        if job is None:
            self._unknown_report(mask, flat(report, mask))
            return
        self._reports.take(job, mask, report)
        self.collectives.look(job)
        self.holders.heard(job)

    def take_copy(self, node: int, copy: m.LaunchCopy) -> None:
        """A node has given its copy of a launch, or has none."""
        job = self.jobs.get(copy.job)
        if job is None:
            self.adoptions.take(node, copy)
        else:
            self.holders.copied(job, node, bool(copy.ticket))

    def _unknown_report(self, mask: int, report: m.Report) -> None:
        told = [item.node for item in (*report.failed, *report.notes, *report.aborts)] + report.stops[0::6]
        self._unknown(report.job, NodeSet.of(report.started[0::3] + report.exited[0::5] + told) & NodeSet(mask))

    def _unknown(self, job_id: str, nodes: NodeSet) -> None:
        if not self.adoptions.missed(job_id, nodes):
            self._forget_on(job_id, nodes)

    def _forget_on(self, job_id: str, nodes: NodeSet) -> None:
        """Tell nodes to forget a job that this head has closed; leave those of earlier heads to adoption."""
        if nodes and m.job_order(job_id)[0] == self._context.config.epoch:
            self._context.send_down(nodes, m.Release(job_id))

    def output(self, node: int, output: m.Output) -> None:
        """Pass on what a rank has written; without a reader it stays on the node."""
        job = self.jobs.get(output.job)
        if job is None or job.client is None:
            return
        if not job.places.has(node, output.rank):
            raise ProtocolError(f"output of rank {output.rank} of job {job.id} from n{node}")
        if output.reading != job.reading:
            return  # it was on its way to a former reader
        if job.turns:
            given_turns.passed(job, output)
        at, data, kept_from = output.offset, output.data, output.kept_from
        message = c.ClientOutput(job.id, output.rank, output.stream, at, data, kept_from, output.in_turn)
        self._context.to_client(job.client, message)
        self.onlookers.show(job, output)

    # ------------------------------------------------------------------ inventories

    def reconcile(self, record: KnownNode, inventory: m.Inventory) -> None:
        """Compare what a node holds with what this head believes, and put both right."""
        held = {item.job: item for item in inventory.jobs}
        for item in inventory.jobs:
            job = self.jobs.get(item.job)
            if job is not None:
                self.take_inventory(job, record, item)
            elif m.job_order(item.job)[0] == self._context.config.epoch or item.job in self.releases:
                self._context.send_down(NodeSet(1 << record.node), m.Release(item.job))
            else:
                self.adoptions.offer(record, item)
        for job in [job for job in self.jobs.values() if not job.done and record.node in job.node_set]:
            if job.id not in held:
                self.reconcile_absent(job, [record])

    def take_inventory(self, job: HeadJob, record: KnownNode, item: m.JobInventory) -> None:
        """Compare what a node holds of one job with what this head believes."""
        node, here = record.node, NodeSet(1 << record.node)
        if job.released:
            self._context.send_down(here, m.Release(job.id))
            return
        report, known = listed(node, item)
        if item.collective is not None:
            self.collectives.listed(job, node, item.collective)
        self.report(1 << node, report)
        if job.released:
            return
        if any(rank not in known and job.states[rank] == PENDING for rank in job.places.ranks_on(node)):
            self.resend_launch(job, here)
            return
        self.holders.copied(job, node, True)
        if job.reading or not job.attended:
            self._context.send_down(here, m.Attend(job.id, job.attended, reading=job.reading))
        self._input.acked(job, node, -1, item.stdin_offset)
        self._input.feed_again(job, node)

    def reconcile_absent(self, job: HeadJob, records: list[KnownNode]) -> None:
        """These nodes do not hold a job that has ranks there; some may not be over."""
        to_launch = 0
        for record in records:
            ranks = job.live_ranks_on(record.node)
            launched_before = m.job_order(job.id) <= m.job_order(record.admitted_after)
            if ranks and (launched_before or any(job.states[rank] != PENDING for rank in ranks)):
                self._lose(job, record.node, f"n{record.node} was restarted: what ran on it is gone")
                self.collectives.lost(job, record.node, f"n{record.node} was restarted")
            elif ranks:
                to_launch |= 1 << record.node
        # An earlier head took it on: a node that was closed since takes it no more, and says if it has had it.
        closed = closed_to(self._context, job.ticket.uid, NodeSet(to_launch & ~job.sent_mask))
        if closed:
            refused = self._renewed(job, refusal(self._context, closed))
            self._context.send_down(closed, seal_ticket(self._context.sign, refused))
        if to_launch & ~closed.mask:
            self.resend_launch(job, NodeSet(to_launch & ~closed.mask))

    def node_gone(self, node: int, why: str) -> None:
        """Give up every rank of this node, and the output of those that have ended but was not collected."""
        for job in list(self.jobs.values()):
            if job.released or node not in job.node_set:
                continue
            unread = job.cut_off(node)
            if unread and job.client is not None:
                self._context.to_client(job.client, c.Lost(job.id, [(rank, node, why) for rank in unread]))
            self.holders.node_gone(job, node)
            if not job.done:
                self._lose(job, node, why)
                self.collectives.lost(job, node, why)
        self.adoptions.node_gone(node)

    def _lose(self, job: HeadJob, node: int, why: str) -> None:
        lost = [(rank, node, why) for rank in job.live_ranks_on(node) if job.end(rank, LostRank(node, why))]
        if not lost:
            return
        if job.client is not None:
            self._context.to_client(job.client, c.Lost(job.id, lost))
        self._input.node_gone(job, node)
        self.holders.lost(job)
        if job.done:
            self._done(job)

    def _was_released(self, job: HeadJob, node: int) -> None:
        """A node has released a job of an earlier head already: it was collected, and the other nodes may forget it."""
        for number in job.node_set:
            self._lose(job, number, "its output was collected before the change of heads")
        self.release(job)

    # ------------------------------------------------------------------ input

    def feed(self, job: HeadJob, message: c.ClientStdin) -> None:
        """Pass a client's input on to the ranks."""
        self._input.feed(job, message)

    def stdin_ack(self, node: int, ack: m.StdinAck) -> None:
        """Note how far a node has taken the input."""
        job = self.jobs.get(ack.job)
        if job is not None:
            self._input.acked(job, node, ack.rank, ack.offset)

    # ------------------------------------------------------------------ end

    def _done(self, job: HeadJob) -> None:
        self.attendance.done(job)
        self.onlookers.look()
        if job.ending:
            self.release(job)

    def release(self, job: HeadJob) -> None:
        """Everything is collected, or nobody wants it: the nodes may forget the job."""
        self._close(job)
        self._forget_oldest()

    def _close(self, job: HeadJob) -> None:
        if job.released:
            return
        job.released = True
        self._launching.pop(job.id, None)
        self.limits.give_back(job)
        self.collectives.forget(job)
        job.unread.clear()
        job.stdin = StdinFeed()
        job.rank_stdin.clear()
        job.launch, job.ticket = None, replace(job.ticket, spec=replace(job.ticket.spec, environment=[]))
        self.attendance.forget_reader(job)
        self.onlookers.look()
        self.releases.add(job)

    def _kill_lost(self, job: HeadJob, node: int, rank: int) -> None:
        """A rank was given up for lost while its node was away, and its loss was told: it must not run on unseen."""
        self._signal(job, NodeSet(1 << node), [rank], SIGKILL)

    def _signal(self, job: HeadJob, nodes: NodeSet, ranks: list[int] | None, signal: int) -> None:
        """Signal without a question: its replies are ignored (even numbers; requests have odd ones)."""
        self._actions += 2
        self._context.send_down(nodes, m.Query(self._actions, job.id, ranks, None, signal, False, asker=job.ticket.uid))

    def _forget_oldest(self) -> None:
        """Keep the list of jobs that are over short."""
        for job in self.limits.too_many():
            del self.jobs[job.id]
            self.keys.drop(job)
            self._close(job)
            self.releases.forget(job)
