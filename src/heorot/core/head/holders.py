"""Jobs without a client that nobody but the head has yet: no client is told that it may go before a node has them.

Whoever launches a detached job goes away once it is acknowledged. If the head were lost then, before a node has the
launch, nobody would know of it. So a few of its nodes are asked for their copy right behind the launch, and the first
that gives one, or says anything else that proves that it has it, lets the job be acknowledged: the next head takes it
over from there, and completes it on the others.

A job that has a program which may have to travel is acknowledged when, besides, another than the head has the whole of
it (`heorot.core.head.safekeeping`), or all of its ranks are started or over, so that nobody needs it any more. Whatever
becomes of the nodes, one of both comes: a rank whose node is not heard of ends, too.

An attended launch is acknowledged at once, because its client keeps it. When that client leaves the job running, it is
told so by the same rule: until then it hands the launch to the next head.

If all of its nodes are lost before one is known to have it, it is refused, because what this head alone knows goes with
it: whether anything was started there is not known, and what comes back of it is ended. An attended one that was left
is over then, like any other whose nodes are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from heorot.core.errors import RequestError
from heorot.core.head.context import HeadContext
from heorot.core.head.ends import LostRank
from heorot.core.head.job import HeadJob
from heorot.core.head.launch_keys import LAUNCH_UNKNOWN
from heorot.core.head.timers import HoldDue
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

ASK_AGAIN_MS = 1_000
"""After so long all are asked once more, when none of them had a copy."""


@dataclass(slots=True)
class Unheld:
    """A job that no node is known to have, or whose program the head alone has, and who waits for that."""

    launch: tuple[int, int] | None = None
    """Client and request that asked for it."""
    leaving: dict[int, int] = field(default_factory=dict)
    """By client that leaves it running: its request."""
    asked: int = 0
    """Mask of the nodes that were asked and have not said that they have no copy."""
    held: int = 0
    """Mask of those that have given one."""
    without: int = 0
    """Mask of those that have said that they have none, since all were asked."""
    heard: bool = False
    """A rank was started, or has ended, on nodes that are there."""


class Holders:
    """Acknowledges detached jobs, and lets clients leave theirs.

    Parameters
    ----------
    jobs
        All jobs, by id.
    is_kept
        Says whether an image is kept by others than the head.
    release
        Has a job forgotten that was refused.
    """

    def __init__(
        self,
        context: HeadContext,
        jobs: Callable[[], dict[str, HeadJob]],
        is_kept: Callable[[bytes], bool],
        release: Callable[[HeadJob], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._is_kept = is_kept
        self._release = release
        self._unheld: dict[str, Unheld] = {}

    def acknowledge(self, job: HeadJob, client: int, request: int) -> None:
        """Acknowledge a job to this client, as soon as it is safe; if somebody waits for that already, instead."""
        unheld = self._unheld.get(job.id)
        if unheld is not None:
            unheld.launch = client, request
        else:
            self._begin(job, Unheld(launch=(client, request)))

    def leave(self, job: HeadJob, client: int, request: int) -> None:
        """Answer this client, which leaves a job running, as soon as it is safe.

        Raises
        ------
        RequestError
            ``busy``, if it waits for that already.
        """
        unheld = self._unheld.get(job.id)
        if unheld is None:
            self._begin(job, Unheld(leaving={client: request}))
        elif client in unheld.leaving:
            raise RequestError("busy", f"you are leaving job {job.id} already, and no node is known to have it yet")
        else:
            unheld.leaving[client] = request

    def _begin(self, job: HeadJob, unheld: Unheld) -> None:
        self._unheld[job.id] = unheld
        self._look(job, unheld)
        if job.id in self._unheld and not job.is_of_a_node:
            self._ask(job, unheld, job.node_set)

    def _ask(self, job: HeadJob, unheld: Unheld, nodes: NodeSet) -> None:
        reached = NodeSet(nodes.mask & self._context.below.mask).numbers()
        # Three of them, far from each other in the tree: one that does not answer just now shall not hold this up.
        chosen = NodeSet.of(reached[at] for at in (0, len(reached) // 2, -1) if reached)
        unheld.asked |= chosen.mask
        self._context.send_down(chosen, m.FetchLaunch(job.id))

    def asked_again(self, job: HeadJob, nodes: NodeSet) -> None:
        """The launch was sent to these nodes once more."""
        unheld = self._unheld.get(job.id)
        if unheld is not None:
            self._ask(job, unheld, nodes)

    def copied(self, job: HeadJob, node: int, has_it: bool) -> None:
        """A node has given its copy of the launch, or says that it has none."""
        unheld = self._unheld.get(job.id)
        if unheld is not None and has_it:
            unheld.held |= 1 << node
            self._look(job, unheld)
        elif unheld is not None:
            unheld.without |= 1 << node
            self._leave_out(job, unheld, node)

    def due(self, job_id: str) -> None:
        """Ask all nodes of a job once more; the owner calls this when the timer for `HoldDue` fires."""
        unheld, job = self._unheld.get(job_id), self._jobs().get(job_id)
        if unheld is not None and job is not None and not unheld.asked:
            unheld.without = 0
            self._ask(job, unheld, job.node_set)

    def heard(self, job: HeadJob) -> None:
        """There is news of this job: if a rank of it was started, or is over, a node has it or it needs none."""
        if self._unheld and (job.running or job.over):
            unheld = self._unheld.get(job.id)
            if unheld is not None:
                unheld.heard = True
                self._look(job, unheld)

    def lost(self, job: HeadJob) -> None:
        """Ranks of this job were given up: they need its program no longer, and prove nothing."""
        unheld = self._unheld.get(job.id)
        if unheld is not None:
            self._look(job, unheld)

    def program_kept(self, image: bytes) -> None:
        """Others than the head have all of an image."""
        for job_id, unheld in list(self._unheld.items()):
            job = self._jobs().get(job_id)
            if job is not None and job.ticket.spec.image == image:
                self._look(job, unheld)

    def _look(self, job: HeadJob, unheld: Unheld) -> None:
        is_held = unheld.held or unheld.heard or job.is_of_a_node or job.running
        is_lost = job.done and not is_held and all(isinstance(end, LostRank) for end in job.ends.values())
        if is_lost and unheld.launch is not None:
            self._refuse(job, unheld)
        elif (is_held or job.done) and (
            not job.ticket.spec.image or not job.lacks_starts or self._is_kept(job.ticket.spec.image)
        ):
            self._acknowledge(job, unheld)

    def node_gone(self, job: HeadJob, node: int) -> None:
        """A node is gone for good."""
        unheld = self._unheld.get(job.id)
        if unheld is not None:
            unheld.heard = False
            self._leave_out(job, unheld, node)

    def _leave_out(self, job: HeadJob, unheld: Unheld, node: int) -> None:
        unheld.asked &= ~(1 << node)
        unheld.held &= ~(1 << node)
        if unheld.asked or job.is_of_a_node:
            return
        others = job.node_set - NodeSet(1 << node | unheld.without)
        if others:
            self._ask(job, unheld, others)
        else:
            # Nodes that may have been broken into say so as fast as they are asked.
            self._context.set_timer(HoldDue(job.id), ASK_AGAIN_MS)

    def client_gone(self, client: int) -> None:
        """Nobody waits for these acknowledgements any more; a client that comes back asks again."""
        for job, unheld in list(self._unheld.items()):
            unheld.leaving.pop(client, None)
            if unheld.launch is not None and unheld.launch[0] == client:
                unheld.launch = None
            if unheld.launch is None and not unheld.leaving:
                del self._unheld[job]

    def _acknowledge(self, job: HeadJob, unheld: Unheld) -> None:
        del self._unheld[job.id]
        if unheld.launch is not None:
            self._tell(job, *unheld.launch)
        for client, request in unheld.leaving.items():
            self._context.answer(client, request, None)

    def _refuse(self, job: HeadJob, unheld: Unheld) -> None:
        del self._unheld[job.id]
        nodes = job.node_set
        text = (
            f"{nodes} {'was' if len(nodes) == 1 else 'were'} lost before it was known whether the job was started there"
        )
        launch = [unheld.launch] if unheld.launch is not None else []
        for client, request in (*launch, *unheld.leaving.items()):
            self._context.refuse(client, request, LAUNCH_UNKNOWN, text)
        self._release(job)

    def _tell(self, job: HeadJob, client: int, request: int) -> None:
        places, window_bytes = job.places, job.ticket.window_bytes
        message = c.Spawned(request, job.id, places.runs, window_bytes, ranks=places.more_ranks)
        self._context.to_client(client, message)
