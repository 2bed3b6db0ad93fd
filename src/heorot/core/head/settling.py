"""What a new head does not know yet: requests wait until its nodes have said what they hold.

A head begins its term with an empty table, and "no such job" or "the node is down" from such a head is no answer. Its
knowledge grows in two steps::

    fresh ── every registered node has spoken, or `settle_ms` is over ─────────────────────▶ settled
      └───── every registered node has spoken and no launch is still to be fetched ────────▶ complete

Settled is good enough for words that mean nodes by their states: ``up`` is what has spoken, and the silent ones are
named. A node that is named itself and silent is waited for until `node_grace_ms` is over, and so is a launch that may
have been started: then silent nodes are *given up*. That a job of an earlier head does *not* exist is certain when the
table is complete; whoever asks for one waits for that, `adoption_grace_ms` at most.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.errors import NotYetError, RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.launch_keys import LAUNCH_UNKNOWN
from heorot.core.head.timers import SettleDue
from heorot.core.head.waiting_room import Waiting, WaitingRoom
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

CHECK_MS = 100
PART_MS = 10
"""Between two parts of what waits, if there is too much of it to be looked at in one turn."""
SAY_MS = 2_000
"""Who has waited for so long is told why."""
UNSETTLED = "unsettled"
IN_DOUBT = "in-doubt"
NO_SUCH_JOB = "no-such-job"
OLD_RECEIPT = "old-receipt"


class Settling:
    """Decides which refusals are premature, and keeps what waits.

    Parameters
    ----------
    attempt
        Carries out a client's message that waited; returns a refusal if that is still premature.
    """

    def __init__(
        self, context: HeadContext, jobs: Jobs, attempt: Callable[[Caller, c.ClientMessage], RequestError | None]
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._room = WaitingRoom(context, self._is_ripe, lambda item: attempt(item.caller, item.message))
        self._started_ms = 0
        self._settled = False
        self._due_ms: int | None = None
        """When the timer fires; None: it is not set."""
        self._told_ms = 0
        """When it was looked last who is to be told why it waits."""

    def start(self) -> None:
        """The term begins."""
        self._started_ms = self._context.now_ms
        self._context.wakefulness.watch(self._started_ms, self._context.config.adoption_grace_ms)
        self._arm(CHECK_MS)

    @property
    def waits(self) -> bool:
        """Whether anything waits."""
        return bool(self._room)

    @property
    def silent(self) -> NodeSet:
        """The registered nodes that have not said in this term what they hold."""
        return self._context.members.silent

    @property
    def given_up(self) -> bool:
        """Whether nodes that are still silent count as lost, and what they hold with them."""
        return self._passed(self._context.config.node_grace_ms)

    @property
    def unknown(self) -> NodeSet:
        """The silent nodes, as long as they may come back as if nothing had happened."""
        return NodeSet() if self.given_up else self.silent

    @property
    def complete(self) -> bool:
        """Whether everything that any node holds is known."""
        return not self.silent and not self._jobs.adoptions.pending and not self._knows_no_node

    def complete_on(self, nodes: NodeSet) -> bool:
        """Whether everything that any of these nodes holds is known."""
        return not (self.silent | self._jobs.adoptions.unclear) & nodes and not self._knows_no_node

    @property
    def _knows_no_node(self) -> bool:
        """Whether the registry of nodes may not have reached this head yet: those that attach are still to come."""
        return not self._context.members.known_mask and not self.given_up

    @property
    def settled(self) -> bool:
        """Whether enough is known for words that mean nodes by their states; once true, it stays so."""
        if not self._settled:
            all_have_spoken = not self.silent and not self._knows_no_node
            self._settled = self._passed(self._context.config.settle_ms) or all_have_spoken
        return self._settled

    def _passed(self, time_ms: int) -> bool:
        now_ms = self._context.now_ms
        is_over = now_ms - self._started_ms >= time_ms
        return is_over and not self._context.wakefulness.missed_ms(now_ms, self._started_ms, time_ms)

    def require(self) -> None:
        """Raise RequestError, which lets the request wait, unless the head has settled."""
        if not self.settled:
            raise RequestError(UNSETTLED, "the head is new and does not know its nodes yet; try again")

    # ------------------------------------------------------------------ what waits

    def premature(self, message: c.ClientMessage, error: RequestError) -> bool:
        """Say whether this refusal could turn out to be wrong in a moment."""
        config, adoptions = self._context.config, self._jobs.adoptions
        if error.code == IN_DOUBT:
            return self._doubt_is_young
        if error.code == LAUNCH_UNKNOWN:
            return not self.complete and (not self.given_up or adoptions.fresh(config.node_grace_ms))
        if error.code == "node-down":
            # Somebody has named it: that it is silent is no answer as soon as for nodes that nobody has named.
            return bool(self.silent) and not self.given_up
        if error.code in (NO_SUCH_JOB, OLD_RECEIPT):
            return self._may_exist(message)
        return error.code in (UNSETTLED, "no-nodes") and not self.settled

    @property
    def _doubt_is_young(self) -> bool:
        """Whether a doubt who leads may be over in a moment, or is over already."""
        context = self._context
        return context.tenure.doubt_ms(context.now_ms) < context.config.node_grace_ms

    def _is_of_successor(self, job: str) -> bool:
        """Say whether a job may be one of a newer head, of which this one has not heard."""
        context = self._context
        return m.job_order(job)[0] > context.config.epoch and not context.tenure.is_certain(context.now_ms)

    def _may_exist(self, message: c.ClientMessage) -> bool:
        """Say whether a job that is not known may be one of another head, which some node still holds."""
        job = getattr(message, "job", None)
        adoptions = self._jobs.adoptions
        if not job or self._jobs.has_given(job):
            return False
        if self._is_of_successor(job) and self._doubt_is_young:
            return True
        if job not in adoptions.waiting and not self.silent and not adoptions.refused and not self._knows_no_node:
            return False
        # Whoever goes on with a job of this very epoch has it from a head that was there before the epochs were lost.
        goes_on = isinstance(message, c.Spawn) or (isinstance(message, c.AttachJob) and message.resume)
        if m.job_order(job)[0] == self._context.config.epoch and not goes_on:
            return False
        grace_ms = self._context.config.adoption_grace_ms
        return not self._passed(grace_ms) or adoptions.fresh(grace_ms, job)

    def _is_ripe(self, item: Waiting) -> bool:
        """Say whether a message that waits may be answered now, or carried out."""
        message, why = item.message, item.why
        if why is None or getattr(message, "job", None) in self._jobs.jobs:
            return True
        if isinstance(message, c.Spawn) and self._jobs.by_key(item.caller.uid, message.key) is not None:
            return True
        return (isinstance(why, NotYetError) and why.is_over()) or not self.premature(message, why)

    def queued(self, caller: Caller, message: c.ClientMessage) -> bool:
        """Put a message behind an earlier one of the same client about the same job, if that waits."""
        if not self._room.is_kept_back(caller, message):
            return False
        self.wait(caller, message, None)
        return True

    def wait(self, caller: Caller, message: c.ClientMessage, why: RequestError | None) -> None:
        """Let a message wait: it was refused, for a reason that may not stay, or has to wait for an earlier one.

        Raises
        ------
        RequestError, ProtocolError
            ``busy``, if too much waits already.
        """
        self._room.add(caller, message, why)
        self._arm(CHECK_MS)

    def withdraw(self, client: int, request: int) -> bool:
        """A client wants to watch no more what it has asked to watch; return False if that does not wait."""
        return self._room.withdraw(client, request)

    def client_gone(self, client: int) -> None:
        """Its messages wait for nothing."""
        self._room.client_gone(client)

    def heard(self) -> None:
        """A node has said what it holds, or a job was taken over."""
        if self._room:
            self._look(True)

    def due(self) -> None:
        """Look again at what waits; the owner calls this when the timer for `SettleDue` has fired."""
        self._due_ms = None
        # What only time decides is looked at anew, too.
        self._look(not self._room.is_behind)
        if self._context.now_ms - self._told_ms >= CHECK_MS:
            self._told_ms = self._context.now_ms
            self._tell()
        if self._room or not self.settled:
            self._arm(CHECK_MS)

    def _look(self, news: bool) -> None:
        self._room.look(news)
        if self._room.is_behind:
            self._arm(PART_MS)

    def _arm(self, in_ms: int) -> None:
        due_ms = self._context.now_ms + in_ms
        if self._due_ms is None or due_ms < self._due_ms:
            self._due_ms = due_ms
            self._context.set_timer(SettleDue(), in_ms)

    def _tell(self) -> None:
        """Say to whoever has waited for long what for."""
        silent = self.silent
        for item in self._room:
            request = getattr(item.message, "request", None)
            if item.told or request is None or self._context.now_ms - item.since_ms < SAY_MS:
                continue
            item.told = True
            text = (
                f"waiting for {silent}, of which the new head has not heard yet"
                if silent
                else "waiting until it is certain which head leads"
            )
            self._context.to_client(item.caller.client, c.Notice(request, text, silent.ranges()))

    def tell_unknown(self, caller: Caller, request: int) -> None:
        """Name the nodes without which a question on nodes and their states is answered."""
        unknown = self.unknown
        if unknown:
            self._context.to_client(caller.client, c.Notice(request, unheard(unknown), unknown.ranges()))

    def explained(self, message: c.ClientMessage, error: RequestError) -> RequestError:
        """Return a refusal with who might know better, if there is anybody."""
        silent, job = self.silent, getattr(message, "job", None)
        if error.code not in (NO_SUCH_JOB, OLD_RECEIPT):
            return error
        if job and self._is_of_successor(job):
            return RequestError(
                IN_DOUBT, f"job {job} is of a newer head than this one: ask on the host of another head"
            )
        if not silent:
            return error
        return RequestError(error.code, f"{error.message}; {unheard(silent)} and may hold it")


def unheard(nodes: NodeSet, link: str = "") -> str:
    """Return a sentence about silent nodes; `link` comes behind their names, such as ``, which``."""
    return f"{nodes}{link} {'has' if len(nodes) == 1 else 'have'} not been heard of since the change of heads"
