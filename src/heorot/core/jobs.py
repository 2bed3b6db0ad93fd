"""The head's jobs: launch, follow, complete after a break, hang up, release, adopt.

Nodes are the truth. Whatever a node says of a rank is compared with what the head believes (`reconcile`), and there are
only four answers: take the news; send the launch again; tell the node to forget (and kill) what the head has closed;
ask for the launch of a job that an earlier head started.
"""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core import client_messages as c
from heorot.core import messages as m
from heorot.core.errors import ProtocolError, RequestError, SecurityError
from heorot.core.head_context import HeadContext
from heorot.core.job import OVER, PENDING, Ended, Job, LostRank, nodes_of, runs_of, window_of
from heorot.core.membership import NodeRecord
from heorot.core.nodeset import NodeSet
from heorot.core.stdin_feed import TAKES_NO_MORE, StdinFeed
from heorot.core.tickets import TICKET_VALIDITY_MS, open_launch, seal_ticket

SIGHUP, SIGKILL = 1, 9
MAX_ADOPTIONS = 4_096
RELEASE_DELAY_MS = 250
MAX_RELEASES = 256


class Jobs:
    """All jobs that are not forgotten, oldest first."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self.jobs: dict[str, Job] = {}
        self.clients: dict[int, set[str]] = {}
        """The unfinished or unreleased jobs that each client attends."""
        self._releases: dict[str, NodeSet] = {}
        """Jobs that their nodes may forget and have not been told so."""
        self._sequence = 0
        self._actions = 0
        self._adoptions: dict[str, dict[int, m.JobInventory]] = {}
        """Jobs of an earlier head whose launch was asked for, and what nodes said of them meanwhile."""

    @property
    def pending_adoptions(self) -> list[str]:
        """Jobs of an earlier head whose launch has not come yet."""
        return list(self._adoptions)

    # ------------------------------------------------------------------ launch

    def spawn(
        self, client: int, user: str, uid: int, gid: int, groups: list[int], ask: c.Spawn, nodes: list[int]
    ) -> Job:
        """Create a job and launch it on these nodes.

        Raises
        ------
        RequestError
            ``too-many-jobs``.
        """
        context, config = self._context, self._context.config
        active = sum(not job.done for job in self.jobs.values()) if len(self.jobs) >= config.max_jobs else 0
        if active >= config.max_jobs:
            raise RequestError("too-many-jobs", f"{active} jobs are running already; wait for some or raise max_jobs")
        self._sequence += 1
        ticket = m.Ticket(
            cluster=config.cluster,
            epoch=config.epoch,
            job=f"{config.epoch}.{self._sequence}",
            issued_at_ms=context.wall_ms,
            expires_at_ms=context.wall_ms + TICKET_VALIDITY_MS,
            user=user,
            uid=uid,
            gid=gid,
            groups=groups,
            argv=ask.argv,
            environment=ask.environment,
            directory=ask.directory,
            umask=ask.umask,
            limits=ask.limits,
            stdin=ask.stdin,
            stdout=ask.stdout,
            stderr=ask.stderr,
            terminal=ask.terminal,
            runs=runs_of(nodes),
            window_bytes=window_of(len(nodes)),
            attended=not ask.detached,
            max_processes=ask.max_processes or config.max_processes,
        )
        job = Job(ticket, nodes, ask.detached, context.wall_ms, None if ask.detached else client)
        job.launch = seal_ticket(context.sign, ticket)
        job.incarnations = {node: context.members.records[node].incarnation or 0 for node in job.node_set}
        if ticket.stdin == b"":
            job.stdin.open(list(job.node_set))
        self.jobs[job.id] = job
        if job.client is not None:
            self.clients.setdefault(client, set()).add(job.id)
        context.to_client(client, c.Spawned(ask.request, job.id, ticket.runs, ticket.window_bytes))
        self.send_releases(within=job.node_set)
        # A node that cannot be reached just now gets the launch with its next inventory.
        context.send_down(job.node_set, job.launch)
        if ask.detached:
            self.feed(job, c.ClientStdin(job.id, -1, 0, b"", True))
        self._forget_oldest()
        return job

    def _resend_launch(self, job: Job, node: int) -> None:
        context = self._context
        # Signed anew: the first ticket may have expired, or be of an earlier epoch.
        job.ticket = replace(
            job.ticket,
            epoch=context.config.epoch,
            issued_at_ms=context.wall_ms,
            expires_at_ms=context.wall_ms + TICKET_VALIDITY_MS,
            attended=job.attended,
        )
        job.launch = seal_ticket(context.sign, job.ticket)
        context.send_down(NodeSet(1 << node), job.launch)

    # ------------------------------------------------------------------ news from nodes

    def report(self, mask: int, report: m.Report) -> None:
        """Take a merged report; `mask` says for which nodes its sender may speak."""
        job = self.jobs.get(report.job)
        if job is None:
            self._unknown_report(mask, report)
            return
        started_news: list[int] = []
        exited_news: list[int] = []
        failed_news: list[tuple[int, int, str]] = []
        started, exited = report.started, report.exited
        if len(started) % 3 or len(exited) % 5:
            raise ProtocolError("a report with an incomplete record")
        for index in range(0, len(started), 3):
            node, rank, pid = started[index : index + 3]
            if not self._may_tell(job, mask, node, rank):
                continue
            if job.start(rank, pid):
                started_news += (rank, pid)
            elif job.states[rank] == OVER and job.released:
                self._context.send_down(NodeSet(1 << node), m.Release(job.id))
        for index in range(0, len(exited), 5):
            node, rank, wait_status, stdout_bytes, stderr_bytes = exited[index : index + 5]
            if self._may_tell(job, mask, node, rank) and job.end(rank, Ended(wait_status, stdout_bytes, stderr_bytes)):
                exited_news += (rank, wait_status, stdout_bytes, stderr_bytes)
                self._reads_no_more(job, node, rank)
        for failure in report.failed:
            if self._may_tell(job, mask, failure.node, failure.rank) and job.fail(failure):
                failed_news.append((failure.rank, failure.error, failure.text))
                self._reads_no_more(job, failure.node, failure.rank)
        for note in report.notes:
            if not job.text:
                job.text = note.text
        self._tell(job, started_news, exited_news, failed_news)

    def _may_tell(self, job: Job, mask: int, node: int, rank: int) -> bool:
        """Say whether the sender of a report may speak for this node; it may have moved elsewhere a moment ago."""
        if not job.valid(node, rank):
            raise ProtocolError(f"a report of rank {rank} of job {job.id} on n{node}, where it does not belong")
        return bool(mask >> node & 1)

    def _unknown_report(self, mask: int, report: m.Report) -> None:
        if report.job in self._adoptions:
            return  # the next inventory of these nodes says the same
        self._forget_on(report.job, NodeSet.of(report.started[0::3] + report.exited[0::5]) & NodeSet(mask))

    def _forget_on(self, job_id: str, nodes: NodeSet) -> None:
        """Tell nodes to forget a job that this head has closed; leave those of earlier heads to adoption."""
        if nodes and int(job_id.split(".")[0]) == self._context.config.epoch:
            self._context.send_down(nodes, m.Release(job_id))

    def _tell(
        self, job: Job, started: list[int], exited: list[int], failed: list[tuple[int, int, str]] | None = None
    ) -> None:
        client = job.client
        if client is not None:
            if started:
                self._context.to_client(client, c.Started(job.id, started))
            if exited:
                self._context.to_client(client, c.Exited(job.id, exited))
            if failed:
                self._context.to_client(client, c.Failed(job.id, failed))
        if (exited or failed) and job.done:
            self._done(job)

    def output(self, node: int, output: m.Output) -> None:
        """Pass on what a rank has written; without a reader it stays on the node."""
        job = self.jobs.get(output.job)
        if job is None or job.client is None:
            return
        if not job.valid(node, output.rank):
            raise ProtocolError(f"output of rank {output.rank} of job {job.id} from n{node}")
        self._context.to_client(
            job.client, c.ClientOutput(job.id, output.rank, output.stream, output.offset, output.data)
        )

    # ------------------------------------------------------------------ inventories

    def reconcile(self, record: NodeRecord, inventory: m.Inventory) -> None:
        """Compare what a node holds with what this head believes, and put both right."""
        held = {item.job: item for item in inventory.jobs}
        for item in inventory.jobs:
            job = self.jobs.get(item.job)
            if job is not None:
                self._take_inventory(job, record, item)
            elif int(item.job.split(".")[0]) == self._context.config.epoch:
                self._forget_on(item.job, NodeSet(1 << record.node))
            else:
                self._adopt(record, item)
        for job in [job for job in self.jobs.values() if not job.done and record.node in job.node_set]:
            if job.id not in held:
                self._reconcile_absent(job, record)

    def _take_inventory(self, job: Job, record: NodeRecord, item: m.JobInventory) -> None:
        node = record.node
        here = NodeSet(1 << node)
        if job.released:
            self._context.send_down(here, m.Release(job.id))
            return
        if len(item.running) % 2 or len(item.exited) % 4:
            raise ProtocolError("an inventory with an incomplete record")
        started = [value for i in range(0, len(item.running), 2) for value in (node, *item.running[i : i + 2])]
        exited = [value for i in range(0, len(item.exited), 4) for value in (node, *item.exited[i : i + 4])]
        known = set(item.running[0::2]) | set(item.exited[0::4]) | {failure.rank for failure in item.failed}
        zombies = [rank for rank in item.running[0::2] if job.valid(node, rank) and job.states[rank] == OVER]
        self.report(1 << node, m.Report(job.id, started, exited, item.failed))
        if zombies:
            # Given up for lost while the node was away, and its loss was reported: it must not run on unseen.
            self._signal(here, job.id, zombies, SIGKILL)
        if any(rank not in known and job.states[rank] == PENDING for rank in m.ranks_on(job.ticket, node)):
            self._resend_launch(job, node)
        if job.detached or not job.attended:
            self._context.send_down(here, m.Attend(job.id, job.attended))
        for offset, data, end in job.stdin.missing(item.stdin_offset):
            self._context.send_down(here, m.Stdin(job.id, None, offset, data, end), bulk=True)

    def _reconcile_absent(self, job: Job, record: NodeRecord) -> None:
        node = record.node
        ranks = job.live_ranks_on(node)
        if not ranks:
            return
        if job.incarnations.get(node, record.incarnation) != record.incarnation or any(
            job.states[rank] != PENDING for rank in ranks
        ):
            self._lose(job, node, f"n{node} was restarted: what ran on it is gone")
        else:
            self._resend_launch(job, node)

    def node_gone(self, node: int, why: str) -> None:
        """Give up every rank of this node."""
        for job in list(self.jobs.values()):
            if not job.done and node in job.node_set:
                self._lose(job, node, why)

    def _lose(self, job: Job, node: int, why: str) -> None:
        lost = [(rank, node, why) for rank in job.live_ranks_on(node) if job.end(rank, LostRank(node, why))]
        if not lost:
            return
        if job.client is not None:
            self._context.to_client(job.client, c.Lost(job.id, lost))
        for rank, feed in [(-1, job.stdin), *job.rank_stdin.items()]:
            if feed.drop(node):
                self._tell_stdin(job, rank, feed)
        if job.done:
            self._done(job)

    # ------------------------------------------------------------------ adoption

    def _adopt(self, record: NodeRecord, item: m.JobInventory) -> None:
        waiting = self._adoptions.get(item.job)
        if waiting is None:
            if len(self._adoptions) >= MAX_ADOPTIONS:
                self._context.log("error", f"job {item.job} is not taken over now: {MAX_ADOPTIONS} others come first")
                return
            waiting = self._adoptions[item.job] = {}
        waiting[record.node] = item
        self._context.send_down(NodeSet(1 << record.node), m.FetchLaunch(item.job))

    def adopted(self, node: int, copy: m.LaunchCopy) -> None:
        """Take over a job of an earlier head from the copy of its launch."""
        waiting = self._adoptions.pop(copy.job, None)
        if waiting is None or not copy.ticket or copy.job in self.jobs:
            return
        context = self._context
        launch = m.Launch(copy.ticket, copy.signature, copy.job)
        try:
            ticket = m.decode_ticket(copy.ticket)
            # Its validity is of the past; the signature and the cluster are what counts.
            open_launch(context.verify, launch, cluster=context.config.cluster, wall_ms=ticket.issued_at_ms)
        except SecurityError as error:
            context.log("error", f"job {copy.job} on n{node} is not taken over: {error}")
            return
        job = Job(ticket, nodes_of(ticket), not ticket.attended, ticket.issued_at_ms)
        job.launch = launch
        job.incarnations = {number: waiting_node.incarnation or 0 for number, waiting_node in self._records(job)}
        if ticket.stdin == b"":
            job.stdin.open(list(job.node_set))
        self.jobs = {job.id: job, **self.jobs}
        context.log("info", f"took over job {job.id} of an earlier head")
        for number, item in sorted(waiting.items()):
            self._take_inventory(job, context.members.record(number), item)
        for number, record in self._records(job):
            if number not in waiting and record.state == "up":
                self._reconcile_absent(job, record)

    def _records(self, job: Job) -> list[tuple[int, NodeRecord]]:
        return [(node, self._context.members.record(node)) for node in job.node_set]

    # ------------------------------------------------------------------ input

    def feed(self, job: Job, message: c.ClientStdin) -> None:
        """Pass a client's input on to the ranks."""
        rank = message.rank
        if rank < 0:
            feed, nodes, ranks = job.stdin, job.live_nodes(), None
        else:
            if rank >= len(job.nodes):
                raise ProtocolError(f"input for rank {rank} of job {job.id}, which has {len(job.nodes)} ranks")
            opened = job.rank_stdin.get(rank)
            if opened is None:
                opened = job.rank_stdin[rank] = StdinFeed()
                opened.open([job.nodes[rank]])
            feed, nodes, ranks = opened, NodeSet.of([job.nodes[rank]]), [rank]
        offset = feed.sent
        fresh = feed.take(message.offset, message.data, message.end)
        if fresh or message.end:
            self._context.send_down(nodes, m.Stdin(job.id, ranks, offset, fresh, message.end), bulk=True)

    def stdin_ack(self, node: int, ack: m.StdinAck) -> None:
        """Note how far a node has taken the input."""
        job = self.jobs.get(ack.job)
        if job is None:
            return
        feed = job.stdin if ack.rank < 0 else job.rank_stdin.get(ack.rank)
        if feed is not None and feed.ack(node, ack.offset):
            self._tell_stdin(job, ack.rank, feed)

    def _reads_no_more(self, job: Job, node: int, rank: int) -> None:
        """A rank is over: whoever waited for it to take its input waits no longer."""
        own = job.rank_stdin.get(rank)
        if own is not None and own.drop(node):
            self._tell_stdin(job, rank, own)
        if job.stdin.offsets and (job.one_rank_a_node or not job.live_ranks_on(node)) and job.stdin.drop(node):
            self._tell_stdin(job, -1, job.stdin)

    def _tell_stdin(self, job: Job, rank: int, feed: StdinFeed) -> None:
        if job.client is not None:
            closed = feed.slowest >= TAKES_NO_MORE
            self._context.to_client(job.client, c.ClientStdinAck(job.id, rank, min(feed.slowest, feed.sent), closed))

    # ------------------------------------------------------------------ end

    def _done(self, job: Job) -> None:
        context = self._context
        if job.client is not None:
            context.to_client(job.client, c.Done(job.id, job.text))
        for client, request in job.waiting:
            context.to_client(client, c.Result(request, job.to_json(full=True)))
        job.waiting.clear()
        if job.ending:
            self.release(job)

    def release(self, job: Job) -> None:
        """Everything is collected, or nobody wants it: the nodes may forget the job."""
        if job.released:
            return
        job.released = True
        job.launch = None
        job.stdin = StdinFeed()
        job.rank_stdin.clear()
        job.ticket = replace(job.ticket, environment=[])
        self._unattend(job)
        self._releases[job.id] = job.node_set
        if len(self._releases) == 1:
            self._context.set_timer("release", RELEASE_DELAY_MS)
        elif len(self._releases) >= MAX_RELEASES:
            self.send_releases()

    def send_releases(self, within: NodeSet | None = None) -> None:
        """Let nodes forget what is collected.

        Nobody waits for it. So it goes with the next launch on the same nodes (`within`), which wakes them anyway, or a
        little later.
        """
        for job_id, nodes in list(self._releases.items()):
            if within is None or not nodes - within:
                del self._releases[job_id]
                self._context.send_down(nodes, m.Release(job_id))

    def _unattend(self, job: Job) -> None:
        if job.client is not None:
            self.clients.get(job.client, set()).discard(job.id)
            job.client = None

    def attend(self, job: Job, client: int, request: int, from_start: bool) -> None:
        """Let a client read a job: tell it all that is known, then have the nodes send what they keep."""
        context = self._context
        job.client = client
        self.clients.setdefault(client, set()).add(job.id)
        context.to_client(client, c.Spawned(request, job.id, job.ticket.runs, job.ticket.window_bytes))
        started = [value for rank, pid in enumerate(job.pids) if pid for value in (rank, pid)]
        exited: list[int] = []
        failed: list[tuple[int, int, str]] = []
        lost: list[tuple[int, int, str]] = []
        for rank, end in sorted(job.ends.items()):
            if isinstance(end, Ended):
                exited += (rank, end.wait_status, end.stdout_bytes, end.stderr_bytes)
            elif isinstance(end, LostRank):
                lost.append((rank, end.node, end.text))
            else:
                failed.append((rank, end.error, end.text))
        if started:
            context.to_client(client, c.Started(job.id, started))
        if failed:
            context.to_client(client, c.Failed(job.id, failed))
        if lost:
            context.to_client(client, c.Lost(job.id, lost))
        if exited:
            context.to_client(client, c.Exited(job.id, exited))
        context.send_down(job.node_set, m.Attend(job.id, True, from_start))
        if job.done:
            context.to_client(client, c.Done(job.id, job.text))

    def detach(self, job: Job) -> None:
        """The job goes on without its reader."""
        self._unattend(job)
        job.detached = True
        self._context.send_down(job.node_set, m.Attend(job.id, False))

    def client_gone(self, client: int) -> None:
        """A client that goes while the head lives is a hang-up; a detached job goes on."""
        for job_id in sorted(self.clients.pop(client, ())):
            job = self.jobs[job_id]
            job.client = None
            if job.detached:
                self._context.send_down(job.node_set, m.Attend(job.id, False))
            else:
                self.hang_up(job)
        for job in self.jobs.values():
            if job.waiting:
                job.waiting = [(waiter, request) for waiter, request in job.waiting if waiter != client]

    def hang_up(self, job: Job) -> None:
        """End a job that nobody attends: SIGHUP, and SIGKILL after the grace."""
        job.ending = True
        if job.done:
            self.release(job)
            return
        job.text = job.text or "hung up: its client went away"
        self._signal(job.live_nodes(), job.id, None, SIGHUP)
        self._context.set_timer(f"kill:{job.id}", self._context.config.kill_grace_ms)

    def kill_due(self, job_id: str) -> None:
        """The grace after a hang-up is over."""
        job = self.jobs.get(job_id)
        if job is not None and job.ending and not job.done:
            self._signal(job.live_nodes(), job.id, None, SIGKILL)
            self._context.set_timer(f"kill:{job.id}", self._context.config.kill_grace_ms)

    def _signal(self, nodes: NodeSet, job_id: str, ranks: list[int] | None, signal: int) -> None:
        """Signal without a question: its replies are ignored (even numbers; requests have odd ones)."""
        self._actions += 2
        self._context.send_down(nodes, m.Query(self._actions, job_id, ranks, None, signal, False))

    def _forget_oldest(self) -> None:
        limit = self._context.config.max_finished_jobs
        if len(self.jobs) <= limit:
            return
        finished = [job for job in self.jobs.values() if job.done and (job.released or job.client is None)]
        for job in finished[: len(self.jobs) - limit]:
            self.release(job)
            del self.jobs[job.id]
