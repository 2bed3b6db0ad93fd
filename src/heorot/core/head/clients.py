"""What the head's clients ask for: who they are, what they may do, and which part of the head does it."""

from __future__ import annotations

from heorot.core.errors import NotYetError, ProtocolError, RequestError
from heorot.core.head import given_turns
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.events import HeadEvents
from heorot.core.head.images import HeadImages
from heorot.core.head.jobs import Jobs
from heorot.core.head.launches import Launches
from heorot.core.head.overview import Overview
from heorot.core.head.preparing import Preparing
from heorot.core.head.requests import Requests
from heorot.core.head.routes import FROM_CLIENTS, SAID_BY_CLIENTS
from heorot.core.head.settling import Settling
from heorot.core.head.spokesmen import Spokesmen
from heorot.core.head.watches import Watches
from heorot.core.head.wishes import NodeWishes
from heorot.core.machine import ClientClosed, ClientOpened, CloseClient, FromClient
from heorot.core.routes import Side
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m


class HeadClients:
    """The clients of this head, and their requests."""

    def __init__(
        self, context: HeadContext, jobs: Jobs, requests: Requests, images: HeadImages, events: HeadEvents
    ) -> None:
        self._context = context
        self._members = context.members
        self._jobs = jobs
        self._requests = requests
        self._images = images
        self.settling = Settling(context, jobs, self._attempt)
        self.wishes = NodeWishes(context, jobs, requests, self.settling, events)
        self._events = events
        self.preparing = Preparing(context, self.wishes)
        self.launches = Launches(context, jobs, requests, images, self.settling)
        self.overview = Overview(context, jobs, requests, self.settling)
        self.watches = Watches(context, jobs, requests.questions, self.overview)
        self._spokesmen = Spokesmen(context, jobs, self.settling)
        self._callers: dict[int, Caller] = {}
        self._greeted: set[int] = set()

    @property
    def connected(self) -> int:
        """How many clients are known to be there."""
        return len(self._callers)

    def opened(self, event: ClientOpened) -> None:
        """A client has connected; the kernel says who it is."""
        caller = Caller(event.client, event.user, event.uid, event.gid, event.groups, event.node)
        self._callers[event.client] = caller
        if event.node >= 0:
            why = self._spokesmen.objection(event)
            if why:
                self._context.log("warning", why)
                self._context.refuse(event.client, 0, "not-permitted", why)
                self._close(event.client)

    def closed(self, event: ClientClosed) -> None:
        """A client is gone."""
        self._callers.pop(event.client, None)
        self._greeted.discard(event.client)
        self._context.hear_used.discard(event.client)
        self.settling.client_gone(event.client)
        self._requests.questions.client_gone(event.client)
        self.watches.client_gone(event.client)
        self._jobs.onlookers.client_gone(event.client)
        self._jobs.attendance.client_gone(event.client, event.lost)
        self._jobs.onlookers.look()
        self._jobs.holders.client_gone(event.client)
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
            if caller.node >= 0 and hasattr(message, "request"):
                self._spokesmen.require(caller)
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
        if not c.OLDEST_CLIENT_PROTOCOL_VERSION <= message.version <= c.CLIENT_PROTOCOL_VERSION:
            text = f"this head speaks client protocol {c.CLIENT_PROTOCOL_VERSION}, the client {message.version}"
            self._context.refuse(caller.client, 0, "version", f"{text}; use commands of release {config.release}")
            self._close(caller.client)
            return
        self._greeted.add(caller.client)
        if message.hears_used:
            self._context.hear_used.add(caller.client)
        welcome = c.Welcome(message.version, config.release, config.name, config.epoch, self._context.now_ms)
        self._context.to_client(caller.client, welcome)

    def _attended(self, caller: Caller, job_id: str) -> bool:
        job = self._jobs.jobs.get(job_id)
        return job is not None and job.client == caller.client

    def _client_ack(self, caller: Caller, ack: c.ClientAck) -> None:
        if self._attended(caller, ack.job):
            job = self._jobs.jobs[ack.job]
            if ack.rank >= len(job.nodes):
                raise ProtocolError(f"job {job.id} has no rank {ack.rank}")
            here = NodeSet(1 << job.nodes[ack.rank])
            limit = given_turns.granted(job, ack, self._context.spare_bytes(job))
            self._context.send_down(here, m.Ack(ack.job, ack.rank, ack.stream, ack.offset, limit))

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
                self._jobs.attendance.hang_up(job)

    def _detach_job(self, caller: Caller, ask: c.Detach) -> None:
        job = self._requests.owned_job(caller, ask.job)
        if job.client == caller.client:
            self._jobs.attendance.detach(job)
            self._jobs.onlookers.look()
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
            self.launches.offer_again(caller, job)
            self._jobs.attendance.resume(job, caller.client, ask.request, ask.stdin, ask.detached)
        else:
            self._jobs.attendance.attend(job, caller.client, ask.request, ask.from_start)

    def _wait(self, caller: Caller, ask: c.Wait) -> None:
        job = self._requests.owned_job(caller, ask.job)
        if job.done:
            self._context.answer(caller.client, ask.request, job.details())
            return
        why = self._context.waits_quota.refusal(caller.uid, self._jobs.attendance.waits.held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        self._jobs.attendance.wait(job, caller.client, caller.uid, ask.request)

    def _look_on(self, caller: Caller, ask: c.LookOn) -> None:
        self._jobs.onlookers.begin(caller, self._requests.owned_job(caller, ask.job), ask.request)

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
        self._requests.tell_left_out(caller.client, ask.request)
        self._requests.require_some(nodes, ask.nodes, ask.select)
        self._context.answer(caller.client, ask.request, nodes)

    def _status(self, caller: Caller, ask: c.ShowStatus) -> None:
        self._context.answer(caller.client, ask.request, self.overview.status())

    def _list_nodes(self, caller: Caller, ask: c.ListNodes) -> None:
        self.settling.require()
        nodes = self.overview.nodes_named(ask.nodes)
        self.overview.tell_doubts(caller.client, ask.request)
        if ask.nodes:
            self._requests.tell_left_out(caller.client, ask.request)
        rows = self._context.send_rows(caller.client, ask.request, self.overview.node_rows(nodes))
        self._context.answer(caller.client, ask.request, rows)

    def _list_events(self, caller: Caller, ask: c.ListEvents) -> None:
        epoch, sequence = ask.after
        self._context.answer(caller.client, ask.request, self._events.after(epoch, sequence))

    def _list_processes(self, caller: Caller, ask: c.ListProcesses) -> None:
        self.settling.require()
        self._requests.processes(caller, ask, self.overview.nodes_of_processes(ask.nodes, ask.job))

    def _list_jobs(self, caller: Caller, ask: c.ListJobs) -> None:
        self.settling.require()
        rows = self._context.send_rows(caller.client, ask.request, self.overview.job_rows())
        self._context.answer(caller.client, ask.request, rows)

    def _watch(self, caller: Caller, ask: c.Watch) -> None:
        self.settling.require()
        self.watches.begin(caller, ask)

    def _unwatch(self, caller: Caller, word: c.Unwatch) -> None:
        if not self.watches.end(caller.client, word.request) and self.settling.withdraw(caller.client, word.request):
            self._context.answer(caller.client, word.request, None)

    def _show_job(self, caller: Caller, ask: c.ShowJob) -> None:
        self._context.answer(caller.client, ask.request, self._requests.job(ask.job).details())
