"""Clients' questions to the head: which nodes they mean, and what is known of nodes, jobs and processes; signals.

What only nodes can answer goes on to them (`heorot.core.head.questions`), and the answer names who did not.
"""

from __future__ import annotations

from heorot.core.errors import NodeListError, RequestError
from heorot.core.head.contact import UNKNOWN, Contact
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.head.jobs import Jobs
from heorot.core.head.list_of_heads import head_list_row, head_rows
from heorot.core.head.locating import Locator
from heorot.core.head.questions import ClientQuestion, Questions
from heorot.core.tree import nodelist
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import MAX_RANKS
from heorot.core.wire.rows import ClusterStatus, ContactRow, NodeRow, StoreRow
from heorot.core.wire.wishes import shown_state

NOBODY = NodeSet()
MAX_PIDS = 16_384
"""In one request: every node that may have one of them gets the list."""


class Requests:
    """Answers everything that clients ask, except for launches and streams."""

    def __init__(self, context: HeadContext, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self.locator = Locator(context)
        self.questions = Questions(context)
        self.left_out = ""
        """What groups of the node list that was read last name and is not there, for people; empty: nothing."""
        self.by_leader = False
        """Whether the list that was read last means other nodes under another head."""
        self.entries_read = 0
        """How many entries were looked at for all node lists so far: what a list costs is not seen from its length."""

    # ------------------------------------------------------------------ nodes

    @staticmethod
    def require_some(found: list[int], nodes: str, select: str) -> None:
        """See that something was found of what a client has named. Raises RequestError: ``no-nodes``."""
        if not found:
            nodes = nodes if len(nodes) <= 60 else f"{nodes[:57]}..."
            raise RequestError("no-nodes", f"no node is selected by {nodes!r}" if select == "list" else "no node is up")

    def select(self, nodes: str, select: str, unknown: NodeSet = NOBODY) -> tuple[list[int], bool]:
        """Return the nodes that a client names, which may be none, and whether that depends on the states of nodes.

        Nodes whose state is said to be `unknown` are in no other.

        Raises
        ------
        RequestError
            ``bad-nodes`` or ``bad-request``.
        """
        members, masters = self._context.members, self._context.masters.nodes
        self.left_out, self.by_leader = "", False
        if select == "up":
            return (members.usable - masters).numbers(), True
        if select == "notdown":
            return [node for node in members.known - masters if members.records[node].word != "down"], True
        if select == "list":
            return self._parse(nodes, unknown)
        raise RequestError("bad-request", f"unknown selection {select!r}: list, up or notdown")

    def _parse(self, text: str, unknown: NodeSet = NOBODY) -> tuple[list[int], bool]:
        members, masters = self._context.members, self._context.masters
        records = members.records
        view = nodelist.NodeView(
            known=members.known,
            states={node: records[node].told for node in members.known}
            | {node: shown_state(UNKNOWN, records[node].wish.state) for node in unknown},
            groups=self._context.groups,
            hosts=members.hosts.nodes,
            masters=masters.nodes,
            master=masters.leading if masters.leading in members.known else HEAD,
        )
        try:
            named = nodelist.parse_noting(text, view)
        except NodeListError as error:
            raise RequestError("bad-nodes", str(error)) from error
        self.entries_read += named.work + len(view.states)
        self.left_out, self.by_leader = named.left_out, named.by_leader
        return named.nodes, named.by_states

    def tell_left_out(self, client: int, request: int) -> None:
        """Say what groups of the node list that was read last name and is not there."""
        if self.left_out:
            self._context.to_client(client, c.Notice(request, self.left_out, []))

    def node_rows(self, nodes: list[int], silent: NodeSet, unknown: NodeSet) -> list[NodeRow]:
        """Return what is known of these nodes; of `silent` ones this head, which is new, knows nothing yet.

        Of the `unknown` ones it cannot tell the state.
        """
        members = self._context.members
        busy: dict[int, int] = {}
        for job in self._jobs.jobs.values():
            if not job.done:
                for node in job.node_set:
                    busy[node] = busy.get(node, 0) + len(job.live_ranks_on(node))
        rows: list[NodeRow] = []
        for node in nodes:
            if node == HEAD:
                continue
            record = members.records[node]
            wish = record.wish
            rows.append(
                NodeRow(
                    id=node,
                    name=record.name,
                    state=shown_state(UNKNOWN if node in unknown else record.word, wish.state),
                    parent=record.parent if record.link is not None else None,
                    agent_pid=record.agent_pid or None,
                    init_pid=record.init_pid or None,
                    address=f"{record.host}:{record.port}" if record.host else "",
                    mode=wish.mode,
                    uid=wish.uid,
                    gid=wish.gid,
                    user="root" if wish.uid == 0 else str(wish.uid),
                    group="root" if wish.gid == 0 else str(wish.gid),
                    release=record.release,
                    ranks=busy.get(node, 0),
                    silent=node in silent,
                    seen=record.was_seen,
                    wanted=wish.state,
                    reason=wish.reason,
                    set_by=wish.by if wish.state else "",
                    set_at_ms=wish.at_ms if wish.state else None,
                    host_name=members.hosts.name_of(node),
                    name_problem=members.hosts.problem_of(node),
                    head=self._context.masters.head_of(node),
                )
            )
        return rows

    def status(self, silent: NodeSet, unknown: NodeSet, contact: Contact) -> ClusterStatus:
        """Return what is known of the cluster; `silent` and `unknown` as for `node_rows`."""
        config = self._context.config
        known = self._context.tenure.known
        since_s = max(0, self._context.now_ms - known.since_ms) / 1000
        lost_s = contact.since_ms / 1000 if contact.lost else None
        return ClusterStatus(
            cluster=config.cluster,
            epoch=config.epoch,
            release=config.release,
            fanout=config.fanout,
            heads=head_rows(self._context),
            head_list=head_list_row(self._context),
            store=StoreRow(known.store, known.reachable, since_s, known.problem),
            contact=ContactRow(contact.lost.numbers(), lost_s, contact.text),
            nodes=self.node_rows(self._context.members.known.numbers(), silent, unknown),
        )

    # ------------------------------------------------------------------ jobs

    def job(self, job_id: str) -> HeadJob:
        """Return a job.

        Raises
        ------
        RequestError
            ``no-such-job``.
        """
        job = self._jobs.jobs.get(job_id)
        if job is None:
            raise RequestError("no-such-job", f"there is no job {job_id}; 'bpjob list' shows those that are known")
        return job

    def owned_job(self, caller: Caller, job_id: str) -> HeadJob:
        """Return a job that the caller may control.

        Raises
        ------
        RequestError
            ``no-such-job`` or ``not-permitted``.
        """
        job = self.job(job_id)
        if caller.uid not in (0, job.ticket.uid):
            raise RequestError("not-permitted", f"job {job_id} belongs to {job.ticket.user}")
        return job

    # ------------------------------------------------------------------ questions to nodes

    def processes(self, caller: Caller, ask: c.ListProcesses, nodes: NodeSet) -> None:
        """Ask these nodes for their processes."""
        self._ask(caller, ask.request, nodes, ask.job, None, None, 0, True, -1)

    def signal(self, caller: Caller, ask: c.Signal, nodes: NodeSet) -> None:
        """Signal the ranks of a job, or processes by PID, on the `nodes` of `signal_nodes`. Raises RequestError."""
        uid = -1 if caller.uid == 0 else caller.uid
        ranks, pids = (ask.ranks, None) if ask.job is not None else (None, ask.pids)
        self._ask(caller, ask.request, nodes, ask.job, ranks, pids, ask.signal, False, uid)

    def signal_nodes(self, caller: Caller, ask: c.Signal) -> NodeSet:
        """Return the nodes that a signal is for.

        Raises
        ------
        RequestError
            ``no-such-job``, ``not-permitted``, ``bad-request``, ``bad-nodes`` or ``no-nodes``.
        """
        if ask.job is not None:
            job = self.owned_job(caller, ask.job)
            if ask.ranks is None:
                return job.node_set
            if len(ask.ranks) > MAX_RANKS:
                raise RequestError("bad-request", f"{len(ask.ranks)} ranks are too many; at most {MAX_RANKS}")
            if any(not 0 <= rank < len(job.nodes) for rank in ask.ranks):
                raise RequestError("bad-request", f"job {job.id} has the ranks 0 to {len(job.nodes) - 1}")
            return NodeSet.of(job.nodes[rank] for rank in ask.ranks)
        if not ask.pids:
            raise RequestError("bad-request", "a signal needs a job or at least one PID")
        if len(ask.pids) > MAX_PIDS:
            raise RequestError("bad-request", f"{len(ask.pids)} PIDs are too many at once; at most {MAX_PIDS}")
        if ask.nodes:
            found = self._parse(ask.nodes)[0]
            self.require_some(found, ask.nodes, "list")
            return NodeSet.of(node for node in found if node != HEAD)
        return self.locator.nodes_of(ask.pids)

    def _ask(
        self,
        caller: Caller,
        request: int,
        nodes: NodeSet,
        job: str | None,
        ranks: list[int] | None,
        pids: list[int] | None,
        signal: int,
        detail: bool,
        uid: int,
    ) -> None:
        self.questions.require_room(caller)
        query = m.Query(self.questions.next_number(), job, ranks, pids, signal, detail, uid, caller.uid)
        up = nodes & self._context.members.up
        absent = nodes - up
        if not detail:
            # A signal misses nothing on a node that is down, unless the job is known to have live ranks there.
            known = self._jobs.jobs.get(job) if job is not None else None
            absent = absent & known.live_nodes() if known is not None and not known.done else NodeSet()
        self.questions.ask(ClientQuestion(self._context, caller, request, query, list(absent)), up)
