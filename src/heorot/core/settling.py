"""What a new head does not know yet: requests wait until its nodes have said what they hold.

A head begins its term with an empty table, and "no such job" or "the node is down" from such a head is no answer. Its
knowledge grows in two steps::

    fresh ── every registered node has spoken, or all is quiet, or `settle_ms` is over ──▶ settled
      └───── every registered node has spoken and no launch is still to be fetched ──────▶ complete

Settled is good enough for new work; a node that is named and silent is waited for until `settle_ms` is over. That
something does *not* exist is only certain when the table is complete; who must know that (a client that goes on with
its job, a launch that may have been started) waits longer, within bounds.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core import client_messages as c
from heorot.core.errors import ProtocolError, RequestError
from heorot.core.head_context import HeadContext
from heorot.core.jobs import Jobs
from heorot.core.nodeset import NodeSet
from heorot.core.quota import Ledger, Quota
from heorot.core.requests import Caller

CHECK_MS = 100
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Input among what waits."""
UNSETTLED = "unsettled"
LAUNCH_UNKNOWN = "launch-unknown"
IN_DOUBT = "in-doubt"
PREMATURE = (UNSETTLED, "no-such-job", "no-nodes")
"""Refusals that a head which has not settled does not give yet."""


class Settling:
    """Decides which refusals are premature, and keeps what waits. `handle` carries out a client's message."""

    def __init__(self, context: HeadContext, jobs: Jobs, handle: Callable[[Caller, c.ClientMessage], None]) -> None:
        self._context = context
        self._jobs = jobs
        self._handle = handle
        self._waiting: list[tuple[Caller, c.ClientMessage]] = []
        self._held = Ledger[int]()
        """By user: how many messages wait, and how many bytes of input."""
        self._held_bytes = Ledger[int]()
        self._bytes = Quota(
            "bytes of input for jobs that the head does not know yet", MAX_WAITING_BYTES, "", context.config.owner
        )
        self._started_ms = 0
        self._heard_ms: int | None = None
        self._settled = False
        self._armed = False

    def start(self) -> None:
        """The term begins."""
        self._started_ms = self._context.now_ms
        self._arm()

    @property
    def unheard(self) -> NodeSet:
        """The registered nodes that have not said what they hold."""
        return self._context.members.known - self._context.members.up

    @property
    def complete(self) -> bool:
        """Whether everything that any node holds is known."""
        return self.complete_on(self.unheard)

    def complete_on(self, nodes: NodeSet) -> bool:
        """Whether everything that any of these nodes holds is known."""
        return not self.unheard & nodes and not self._jobs.adoptions.waiting

    @property
    def settled(self) -> bool:
        """Whether enough is known for new work; once true, it stays so."""
        if not self._settled:
            config, now_ms = self._context.config, self._context.now_ms
            quiet = self._heard_ms is not None and now_ms - self._heard_ms >= config.settle_quiet_ms
            self._settled = quiet or self._passed(config.settle_ms) or not self.unheard
        return self._settled

    def _passed(self, time_ms: int) -> bool:
        return self._context.now_ms - self._started_ms >= time_ms

    def require(self) -> None:
        """Raise RequestError, which lets the request wait, unless the head has settled."""
        if not self.settled:
            raise RequestError(UNSETTLED, "the head is new and does not know its nodes yet; try again")

    # ------------------------------------------------------------------ what waits

    def premature(self, message: c.ClientMessage, error: RequestError) -> bool:
        """Say whether this refusal could turn out to be wrong in a moment."""
        config = self._context.config
        if error.code == IN_DOUBT:
            return self._context.tenure.doubt_ms(self._context.now_ms) < config.node_grace_ms
        if error.code == LAUNCH_UNKNOWN:
            # A node that is silent for longer counts as lost, and what it holds with it.
            return not self.complete and not self._passed(config.node_grace_ms)
        if isinstance(message, c.AttachJob) and message.resume and error.code == "no-such-job":
            return not self.complete and not self._passed(config.adoption_grace_ms)
        if error.code == "node-down":
            # Somebody has named it: that it is silent is no answer as soon as for nodes that nobody has named.
            return bool(self.unheard) and not self._passed(config.settle_ms)
        if error.code == "no-such-job" and self._jobs.adoptions.waiting and not self._passed(config.node_grace_ms):
            return True  # a node holds it, perhaps, and its launch is on its way
        return error.code in PREMATURE and not self.settled

    def queued(self, caller: Caller, message: c.ClientMessage) -> bool:
        """Put a message behind an earlier one of the same client about the same job, if that waits."""
        if not self._waiting or not any(_same(caller, message, *other) for other in self._waiting):
            return False
        self.wait(caller, message)
        return True

    def wait(self, caller: Caller, message: c.ClientMessage) -> None:
        """Let a message wait.

        Raises
        ------
        RequestError, ProtocolError
            ``busy``, if too much waits already.
        """
        size = _size(message)
        why = self._context.early_quota.refusal(caller.uid, self._held.held, name=caller.user)
        if not why and size:
            why = self._bytes.refusal(caller.uid, self._held_bytes.held, size, caller.user)
        if why:
            if not hasattr(message, "request"):
                raise ProtocolError(why)
            raise RequestError("busy", why)
        self._keep(caller, message)
        self._arm()

    def client_gone(self, client: int) -> None:
        """Its messages wait for nothing."""
        if self._waiting:
            for caller, message in self._take():
                if caller.client != client:
                    self._keep(caller, message)

    def heard(self) -> None:
        """A node has said what it holds, or a job was taken over."""
        self._heard_ms = self._context.now_ms
        if self._waiting:
            self._try_again()

    def due(self) -> None:
        """Look again at what waits; the owner calls this when the timer ``settle`` has fired."""
        self._armed = False
        self._try_again()
        if self._waiting or not self.settled:
            self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._context.set_timer("settle", CHECK_MS)

    def _try_again(self) -> None:
        waiting = self._take()
        for caller, message in waiting:
            # What still cannot be done comes back into the list, and whatever depends on it after it.
            self._handle(caller, message)

    def _keep(self, caller: Caller, message: c.ClientMessage) -> None:
        self._waiting.append((caller, message))
        self._held.add(caller.uid, 1)
        self._held_bytes.add(caller.uid, _size(message))

    def _take(self) -> list[tuple[Caller, c.ClientMessage]]:
        waiting, self._waiting = self._waiting, []
        self._held, self._held_bytes = Ledger(), Ledger()
        return waiting


def _size(message: c.ClientMessage) -> int:
    return len(message.data) if isinstance(message, c.ClientStdin) else 0


def _same(caller: Caller, message: c.ClientMessage, other: Caller, earlier: c.ClientMessage) -> bool:
    job = getattr(message, "job", None)
    return other.client == caller.client and job is not None and getattr(earlier, "job", None) == job
