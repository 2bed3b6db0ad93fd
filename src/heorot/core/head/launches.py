"""The decision on a launch: whether it may be, on which nodes, and whether it is one that was launched before.

What is asked for again after a change of heads is looked for first: under its key, then, with the receipt of an earlier
head, under its number. Only what no node can have started is launched anew. Then the nodes: there are some, they are
up, the user may use them, and none of them may have gone to another head meanwhile. What cannot be known yet is refused
in a way that lets it wait (`heorot.core.head.settling`). `heorot.core.head.jobs` makes the job.
"""

from __future__ import annotations

from heorot.core.errors import NotYetError, RequestError
from heorot.core.head.closed_nodes import closed_to, privileged, refusal
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.images import HeadImages
from heorot.core.head.job import HeadJob
from heorot.core.head.jobs import Jobs
from heorot.core.head.launch_keys import LAUNCH_UNKNOWN
from heorot.core.head.receipts import VALID_MS
from heorot.core.head.requests import Requests
from heorot.core.head.settling import IN_DOUBT, NO_SUCH_JOB, OLD_RECEIPT, Settling, unheard
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import check_spec, is_new, nodes_used
from heorot.core.wire.node_runs import nodes_in


class Launches:
    """Decides on launches; see the module."""

    def __init__(
        self, context: HeadContext, jobs: Jobs, requests: Requests, images: HeadImages, settling: Settling
    ) -> None:
        self._context = context
        self._members = context.members
        self._jobs = jobs
        self._requests = requests
        self._images = images
        self._settling = settling

    def ask(self, caller: Caller, ask: c.Spawn) -> None:
        """Launch what a client asks for, or go on with it if it was launched before. Raises RequestError."""
        if (ask.again or ask.receipt) and self._knows_launch(caller, ask):
            return
        check_spec(ask.spec)
        if ask.receipt:
            self._take_back(caller, ask)
            return
        nodes, by_states = self._requests.select(ask.nodes, ask.select)
        notes = [self._requests.left_out]
        if ask.again:
            # What was up for an earlier head is not known here: any node may have it.
            addressed = self._members.known if by_states else NodeSet.of(node for node in nodes if node != HEAD)
            if self._requests.by_leader:
                # An earlier head has taken it for its own host.
                addressed |= self._context.masters.nodes
            self._require_unstarted(addressed, ask, may_leave_out=by_states)
            if by_states:
                # Perhaps it runs there.
                unclear = self._jobs.adoptions.unclear
                nodes = [node for node in nodes if node not in unclear]
        if by_states:
            self._settling.require()
        nodes = self._with_ranks(ask, nodes)
        self._check_nodes(caller, ask, nodes)
        self._require_reach(nodes)
        if ask.spec.image:
            self._images.require_room(caller, ask.spec.image)
        self._offer(caller, ask)
        if by_states:
            notes.append(self._left_out(nodes, ask.again))
        self._jobs.spawn(caller, ask, nodes, "; ".join(filter(None, notes)))

    # ------------------------------------------------------------------ what was asked for before

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

    def _go_on(self, caller: Caller, job: HeadJob, ask: c.Spawn) -> None:
        """The launch that is asked for again was started: the acknowledgement was lost."""
        self.offer_again(caller, job)
        if ask.detached:
            self._jobs.holders.acknowledge(job, caller.client, ask.request)
        else:
            self._jobs.attendance.resume(job, caller.client, ask.request, [], False)

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
        self._jobs.attendance.resume(job, caller.client, ask.request, stdin, ask.detached)

    def _require_unstarted(self, addressed: NodeSet, ask: c.Spawn, may_leave_out: bool) -> None:
        """See that no node can have started a launch that an earlier head did not acknowledge. Raises RequestError."""
        settling = self._settling
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
                lambda: self._settling.complete,
            )

    # ------------------------------------------------------------------ nodes

    def _with_ranks(self, ask: c.Spawn, nodes: list[int]) -> list[int]:
        """Return the first of the nodes, those that get ranks. Raises RequestError: ``no-nodes`` or ``bad-request``."""
        self._requests.require_some(nodes, ask.nodes, ask.select)
        used = nodes_used(ask.spec, len(nodes))
        return nodes if used == len(nodes) else nodes[:used]

    def _check_nodes(self, caller: Caller, ask: c.Spawn, nodes: list[int]) -> None:
        """See that each of the nodes of a launch is up and that the caller may use it.

        Raises
        ------
        RequestError
            ``bad-nodes``, ``node-down``, ``node-closed``, ``bad-request`` or ``not-permitted``.
        """
        if HEAD in nodes:
            raise self._context.masters.missing()
        records = self._members.records
        # There may be many ranks on a node. Of all that are up, none is down: they were selected a moment ago.
        named = set(nodes)
        down = NodeSet.of(node for node in named if not records[node].is_up) if ask.select != "up" else NodeSet()
        if down:
            states = sorted({records[node].told for node in down})
            raise NotYetError(
                "node-down",
                f"{down} {'is' if len(down) == 1 else 'are'} {'/'.join(states)}, not up",
                lambda: not down - self._members.up,
            )
        closed = closed_to(self._context, caller.uid, NodeSet.of(named)) if self._members.closed_mask else NodeSet()
        if closed:
            raise RequestError("node-closed", refusal(self._context, closed))
        if is_new(ask.spec):
            own = self._context.config.release
            others = NodeSet.of(node for node in named if records[node].release not in ("", own))
            if others:
                text = f"{others} may not know what this launch asks for: release {own} is needed there"
                raise RequestError("bad-request", text)
        if not privileged(self._context, caller.uid):
            barred = NodeSet.of(node for node in named if not self._may_execute(caller, node))
            if barred:
                raise RequestError("not-permitted", f"{caller.user} may not start processes on {barred}")

    def _may_execute(self, caller: Caller, node: int) -> bool:
        wish = self._members.records[node].wish
        if caller.uid == wish.uid:
            return bool(wish.mode & 0o100)
        if wish.gid in (caller.gid, *caller.groups):
            return bool(wish.mode & 0o010)
        return bool(wish.mode & 0o001)

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

    def _left_out(self, nodes: list[int], again: bool) -> str:
        """Return what the user of a launch on nodes in a state should know of those whose state is not known."""
        taken = NodeSet.of(nodes)
        silent = NodeSet() if self._settling.given_up and not again else self._settling.silent - taken
        unclear = self._jobs.adoptions.unclear - taken if again else NodeSet()
        parts = [unheard(silent, ", which")] if silent else []
        if unclear:
            parts.append(f"{unclear}, which {'holds' if len(unclear) == 1 else 'hold'} a job that nobody knows")
        return f"left out {', and '.join(parts)}" if parts else ""

    # ------------------------------------------------------------------ its program

    def _offer(self, caller: Caller, ask: c.Spawn) -> None:
        if ask.spec.image:
            self._images.offer(caller, ask.spec.image)

    def offer_again(self, caller: Caller, job: HeadJob) -> None:
        """A client comes back to a job: it may have its program, which nodes may still lack."""
        if job.ticket.spec.image and caller.uid == job.ticket.uid:
            self._images.offer(caller, job.ticket.spec.image)
