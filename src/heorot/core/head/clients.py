"""What the head's clients ask for: who they are, what they may do, and which part of the head does it."""

from __future__ import annotations

from heorot.core.errors import NotYetError, ProtocolError, RequestError
from heorot.core.head.contact import Contact, contact_of
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.images import HeadImages
from heorot.core.head.job import HeadJob
from heorot.core.head.jobs import Jobs
from heorot.core.head.launch_keys import LAUNCH_UNKNOWN
from heorot.core.head.receipts import VALID_MS
from heorot.core.head.requests import NOBODY, Requests
from heorot.core.head.routes import FROM_CLIENTS, SAID_BY_CLIENTS
from heorot.core.head.settling import IN_DOUBT, NO_SUCH_JOB, OLD_RECEIPT, Settling, unheard
from heorot.core.machine import ClientClosed, ClientOpened, CloseClient, FromClient
from heorot.core.routes import Side
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import check_spec
from heorot.core.wire.node_runs import nodes_in


class HeadClients:
    """The clients of this head, and their requests."""

    def __init__(self, context: HeadContext, jobs: Jobs, requests: Requests, images: HeadImages) -> None:
        self._context = context
        self._members = context.members
        self._jobs = jobs
        self._requests = requests
        self._images = images
        self.settling = Settling(context, jobs, self._attempt)
        self._callers: dict[int, Caller] = {}
        self._greeted: set[int] = set()

    @property
    def connected(self) -> int:
        """How many clients are known to be there."""
        return len(self._callers)

    def opened(self, event: ClientOpened) -> None:
        """A client has connected; the kernel says who it is."""
        self._callers[event.client] = Caller(event.client, event.user, event.uid, event.gid, event.groups)

    def closed(self, event: ClientClosed) -> None:
        """A client is gone."""
        self._callers.pop(event.client, None)
        self._greeted.discard(event.client)
        self._context.hear_used.discard(event.client)
        self.settling.client_gone(event.client)
        self._requests.client_gone(event.client)
        self._jobs.client_gone(event.client, event.lost)
        self._images.client_gone(event.client)

    def received(self, event: FromClient) -> None:
        """Take a client's message. Raises ProtocolError."""
        caller = self._callers.get(event.client)
        if caller is None:
            return
        message = event.message
        is_greeted = event.client in self._greeted
        # What breaks the protocol is told at once, and does not wait.
        handler = FROM_CLIENTS.find(Side.CLIENT if is_greeted else Side.NEWCOMER, message)
        if is_greeted:
            self.obey(caller, message)
        else:
            handler(self, caller, message)

    def obey(self, caller: Caller, message: c.ClientMessage) -> None:
        """Do what a client asks for, now or as soon as this head knows enough; refuse what cannot be done."""
        try:
            if self.settling.queued(caller, message):
                return
            why = self._try(caller, message)
            if why is not None:
                self.settling.wait(caller, message, why)
        except RequestError as error:
            self._refuse(caller, message, error)

    def _try(self, caller: Caller, message: c.ClientMessage) -> RequestError | None:
        """Do what a client asks for or refuse it; return the refusal if it is premature. Raises ProtocolError."""
        try:
            SAID_BY_CLIENTS[type(message)](self, caller, message)
        except RequestError as error:
            if self.settling.premature(message, error):
                return error
            self._refuse(caller, message, self.settling.explained(message, error))
        return None

    def _attempt(self, caller: Caller, message: c.ClientMessage) -> RequestError | None:
        """Do the same with what has waited. A client that has broken the protocol with it is told, and closed here:
        nobody else has anything to do with it."""
        try:
            return self._try(caller, message)
        except ProtocolError as error:
            self._context.refuse(caller.client, 0, "protocol", str(error))
            self._close(caller.client)
            return None

    def _close(self, client: int) -> None:
        self._context.out.append(CloseClient(client))
        self.closed(ClientClosed(client))

    def _refuse(self, caller: Caller, message: c.ClientMessage, error: RequestError) -> None:
        self._context.refuse(caller.client, getattr(message, "request", 0), error.code, error.message)

    def _client_hello(self, caller: Caller, message: c.ClientHello) -> None:
        config = self._context.config
        if message.version != c.CLIENT_PROTOCOL_VERSION:
            text = f"this head speaks client protocol {c.CLIENT_PROTOCOL_VERSION}, the client {message.version}"
            self._context.refuse(caller.client, 0, "version", f"{text}; use commands of release {config.release}")
            self._close(caller.client)
            return
        self._greeted.add(caller.client)
        if message.hears_used:
            self._context.hear_used.add(caller.client)
        welcome = c.Welcome(c.CLIENT_PROTOCOL_VERSION, config.release, config.name, config.epoch, self._context.now_ms)
        self._context.to_client(caller.client, welcome)

    def _spawn(self, caller: Caller, ask: c.Spawn) -> None:
        if (ask.again or ask.receipt) and self._knows_launch(caller, ask):
            return
        check_spec(ask.spec)
        if ask.receipt:
            self._take_back(caller, ask)
            return
        nodes, by_states = self._requests.select(ask.nodes, ask.select)
        if ask.again:
            # What was up for an earlier head is not known here: any node may have it.
            addressed = self._members.known if by_states else NodeSet.of(node for node in nodes if node != HEAD)
            self._require_unstarted(addressed, ask, may_leave_out=by_states)
            if by_states:
                # Perhaps it runs there.
                unclear = self._jobs.adoptions.unclear
                nodes = [node for node in nodes if node not in unclear]
        if by_states:
            self.settling.require()
        self._requests.check_launch(caller, ask, nodes)
        self._require_reach(nodes)
        if ask.spec.image:
            self._images.require_room(caller, ask.spec.image)
        self._offer(caller, ask)
        self._jobs.spawn(caller, ask, nodes, self._left_out(nodes, ask.again) if by_states else "")

    def _knows_launch(self, caller: Caller, ask: c.Spawn) -> bool:
        """Go on with the job of a launch that is asked for again, if it is known. Raises RequestError."""
        job = self._jobs.by_key(caller.uid, ask.key)
        if job is not None:
            self._go_on(caller, job, ask)
            return True
        dropped = self._jobs.dropped(caller.uid, ask.key)
        if dropped:
            raise RequestError(
                "collected", f"job {dropped} was started, is over, and made room for others before it was collected"
            )
        return False

    def _take_back(self, caller: Caller, ask: c.Spawn) -> None:
        """Go on with a launch that an earlier head has acknowledged, whether or not a node has it."""
        age_ms = self._context.receipts.age_ms(ask, caller.uid, self._context.wall_ms)
        if age_ms is None:
            raise RequestError("bad-request", "the receipt is not that of this launch")
        if self._jobs.has_given(ask.job) or ask.job in self._jobs.releases:
            raise RequestError("collected", f"job {ask.job} is over and made room for others")
        if m.job_order(ask.job)[0] >= self._context.config.epoch:
            # Somebody has lost the epochs of this cluster: the nodes obey another head, which may be back.
            raise RequestError(NO_SUCH_JOB, f"job {ask.job} was launched by a head that is newer than this one")
        if age_ms > VALID_MS:
            text = f"there is no job {ask.job}, and it was launched too long ago to be launched again"
            raise RequestError(OLD_RECEIPT, text)
        self._require_reach([node for node in nodes_in(ask.runs) if self._members.up_mask >> node & 1])
        self._offer(caller, ask)
        job = self._jobs.take_back(caller, ask)
        # What its client has sent of its input was acknowledged by nobody.
        stdin = [-1, 0] if ask.spec.stdin == b"" else []
        self._jobs.resume(job, caller.client, ask.request, stdin, ask.detached)

    def _require_unstarted(self, addressed: NodeSet, ask: c.Spawn, may_leave_out: bool) -> None:
        """See that no node can have started a launch that an earlier head did not acknowledge. Raises RequestError."""
        settling = self.settling
        if not settling.complete_on(addressed) and not (
            may_leave_out and settling.given_up and not self._jobs.adoptions.fresh(self._context.config.node_grace_ms)
        ):
            unclear = (settling.silent | self._jobs.adoptions.unclear) & addressed
            text = f"{unclear or 'some node'} cannot be asked now whether it was started"
            raise NotYetError(
                LAUNCH_UNKNOWN,
                f"the head was lost before it acknowledged the launch, and {text}: see 'bpjob list'",
                lambda: settling.complete_on(addressed),
            )
        self._require_memory(addressed, ask.asked_at_ms)

    def _left_out(self, nodes: list[int], again: bool) -> str:
        """Return what the user of a launch on nodes in a state should know of those whose state is not known."""
        taken = NodeSet.of(nodes)
        silent = NodeSet() if self.settling.given_up and not again else self.settling.silent - taken
        unclear = self._jobs.adoptions.unclear - taken if again else NodeSet()
        parts = [unheard(silent, ", which")] if silent else []
        if unclear:
            parts.append(f"{unclear}, which {'holds' if len(unclear) == 1 else 'hold'} a job that nobody knows")
        return f"left out {', and '.join(parts)}" if parts else ""

    def _offer(self, caller: Caller, ask: c.Spawn) -> None:
        if ask.spec.image:
            self._images.offer(caller, ask.spec.image)

    def _require_memory(self, nodes: NodeSet, asked_at_ms: int) -> None:
        """See that all nodes would know of a launch that was asked for at that time. Raises RequestError."""
        # Clocks go at different rates, by a thousandth at the very most.
        latest_ms = asked_at_ms - 1000 - (self._context.now_ms - asked_at_ms) // 1000
        young = (
            nodes
            & self._members.up
            & NodeSet.of(record.node for record in self._members.records.values() if record.began_ms > latest_ms)
        )
        if young:
            raise NotYetError(
                LAUNCH_UNKNOWN,
                f"the head was lost before it acknowledged the launch, and {young} began anew since it was asked for: "
                "what ran there is gone, and perhaps it was started there; see 'bpjob list'",
                lambda: self.settling.complete,
            )

    def _require_reach(self, nodes: list[int]) -> None:
        """While another head may lead, let a launch wait for nodes that may have gone to it. Raises RequestError."""
        addressed = NodeSet.of(nodes)
        silent = self._out_of_reach(addressed)
        if silent:
            raise NotYetError(
                IN_DOUBT,
                f"{silent} cannot be reached, and another head may lead; try again",
                lambda: not self._out_of_reach(addressed),
            )

    def _out_of_reach(self, nodes: NodeSet) -> NodeSet:
        """Return which of these nodes may have gone to another head."""
        tenure, config, now_ms = self._context.tenure, self._context.config, self._context.now_ms
        if tenure.is_certain(now_ms):
            return NodeSet()
        # A node pings three times in a lease and tells us of the answer with the next ping; it leaves a head that was
        # silent for five sixths of its lease.
        fresh_ms = (config.lease_ms or config.link_timeout_ms) * 3 // 4
        present = 0
        for link in self._context.below.by_link.values():
            if link.present_at_ms is not None and now_ms - link.present_at_ms <= fresh_ms:
                present |= link.mask
        return nodes - NodeSet(present)

    def _go_on(self, caller: Caller, job: HeadJob, ask: c.Spawn) -> None:
        """The launch that is asked for again was started: the acknowledgement was lost."""
        self._offer_again(caller, job)
        if ask.detached:
            self._jobs.holders.acknowledge(job, caller.client, ask.request)
        else:
            self._jobs.resume(job, caller.client, ask.request, [], False)

    def _offer_again(self, caller: Caller, job: HeadJob) -> None:
        if job.ticket.spec.image and caller.uid == job.ticket.uid:
            self._images.offer(caller, job.ticket.spec.image)

    def _attended(self, caller: Caller, job_id: str) -> bool:
        job = self._jobs.jobs.get(job_id)
        return job is not None and job.client == caller.client

    def _client_ack(self, caller: Caller, ack: c.ClientAck) -> None:
        if self._attended(caller, ack.job):
            job = self._jobs.jobs[ack.job]
            if ack.rank >= len(job.nodes):
                raise ProtocolError(f"job {job.id} has no rank {ack.rank}")
            here = NodeSet(1 << job.nodes[ack.rank])
            self._context.send_down(here, m.Ack(ack.job, ack.rank, ack.stream, ack.offset))

    def _client_stdin(self, caller: Caller, message: c.ClientStdin) -> None:
        if self._attended(caller, message.job):
            self._jobs.feed(self._jobs.jobs[message.job], message)

    def _client_resize(self, caller: Caller, message: c.ClientResize) -> None:
        if self._attended(caller, message.job):
            job = self._jobs.jobs[message.job]
            # Fewer and fewer nodes have live ranks: the newest size is for all that still want an older one.
            size = m.Resize(job.id, message.rows, message.columns)
            self._context.send_down(job.live_nodes(), size, newest_of=job.id)

    def _client_release(self, caller: Caller, message: c.ClientRelease) -> None:
        if self._attended(caller, message.job):
            job = self._jobs.jobs[message.job]
            if job.done:
                self._jobs.release(job)
            else:
                self._jobs.hang_up(job)

    def _detach_job(self, caller: Caller, ask: c.Detach) -> None:
        job = self._requests.owned_job(caller, ask.job)
        if job.client == caller.client:
            self._jobs.detach(job)
            self._jobs.safekeeping.launched(job)
            self._jobs.holders.leave(job, caller.client, ask.request)
        else:
            self._context.answer(caller.client, ask.request, None)

    def _attach_job(self, caller: Caller, ask: c.AttachJob) -> None:
        job = self._requests.owned_job(caller, ask.job)
        if job.client is not None and not ask.resume:
            raise RequestError("attended", f"somebody reads job {job.id} already")
        if job.released:
            raise RequestError(
                "collected", f"job {job.id} is over and its output was collected; see 'bpjob show {job.id}'"
            )
        if ask.resume:
            self._offer_again(caller, job)
            self._jobs.resume(job, caller.client, ask.request, ask.stdin, ask.detached)
        else:
            self._jobs.attend(job, caller.client, ask.request, ask.from_start)

    def _wait(self, caller: Caller, ask: c.Wait) -> None:
        job = self._requests.owned_job(caller, ask.job)
        if job.done:
            self._context.answer(caller.client, ask.request, job.details())
            return
        why = self._context.waits_quota.refusal(caller.uid, self._jobs.waits.held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        self._jobs.wait(job, caller.client, caller.uid, ask.request)

    def _signal(self, caller: Caller, ask: c.Signal) -> None:
        nodes = self._requests.signal_nodes(caller, ask)
        silent = nodes & self.settling.unknown
        if silent:
            raise NotYetError(
                "node-down",
                f"{silent} cannot be asked yet: this head is new",
                lambda: not silent & self.settling.unknown,
            )
        self._requests.signal(caller, ask, nodes)

    def _resolve(self, caller: Caller, ask: c.Resolve) -> None:
        nodes, by_states = self._requests.select(ask.nodes, ask.select)
        if by_states:
            self.settling.require()
            self.settling.tell_unknown(caller, ask.request)
        self._requests.require_some(nodes, ask.nodes, ask.select)
        self._context.answer(caller.client, ask.request, nodes)

    def _status(self, caller: Caller, ask: c.ShowStatus) -> None:
        contact = contact_of(self._context)
        silent = self.settling.unknown
        status = self._requests.status(silent, self._untold(silent, contact), contact)
        self._context.answer(caller.client, ask.request, status)

    def _untold(self, silent: NodeSet, contact: Contact) -> NodeSet:
        """Return the nodes whose state this head cannot tell: it is new, or may not lead any more."""
        records = self._members.records
        return NodeSet.of(node for node in silent if records[node].word == "down") | contact.unknown

    def _selected(self, nodes: str, unknown: NodeSet = NOBODY) -> list[int]:
        """Return the nodes that a question is about: none is an answer, too."""
        return self._requests.select(nodes, "list", unknown)[0]

    def _list_nodes(self, caller: Caller, ask: c.ListNodes) -> None:
        self.settling.require()
        contact, silent = contact_of(self._context), self.settling.unknown
        unknown = self._untold(silent, contact)
        nodes = self._selected(ask.nodes, unknown) if ask.nodes else self._members.known.numbers()
        self.settling.tell_unknown(caller, ask.request)
        if contact.lost:
            self._context.to_client(caller.client, c.Notice(ask.request, contact.text, contact.lost.ranges()))
        rows = self._requests.node_rows(nodes, silent, unknown)
        rows = self._context.send_rows(caller.client, ask.request, rows)
        self._context.answer(caller.client, ask.request, rows)

    def _list_processes(self, caller: Caller, ask: c.ListProcesses) -> None:
        self.settling.require()
        if ask.nodes:
            nodes = NodeSet.of(node for node in self._selected(ask.nodes) if node != HEAD)
        else:
            nodes = self._members.up | self.settling.unknown
        self._requests.processes(caller, ask, nodes)

    def _list_jobs(self, caller: Caller, ask: c.ListJobs) -> None:
        self.settling.require()
        rows = [job.row() for job in self._jobs.jobs.values()]
        rows = self._context.send_rows(caller.client, ask.request, rows)
        self._context.answer(caller.client, ask.request, rows)

    def _show_job(self, caller: Caller, ask: c.ShowJob) -> None:
        self._context.answer(caller.client, ask.request, self._requests.job(ask.job).details())
