"""A launch on its way: the signed ticket, the message that carries it to a process space, and what is asked for it."""

from __future__ import annotations

from heorot.core.wire.base import Count, JobId, Message
from heorot.core.wire.launch import MAX_RANKS, LaunchSpec, rank_count
from heorot.core.wire.node_runs import ranks_in


class Launch(Message, tag=48, frozen=True):
    """Start the ranks that the ticket gives to this node. Repeating it starts nothing twice."""

    ticket: bytes
    """An encoded `Ticket`."""
    signature: bytes
    """Ed25519 over `b"heorot ticket\\0" + ticket`."""
    job: str = ""
    """The ticket's job once more, unsigned: a hint for relays, which merge the reports of one launch."""
    view: bytes = b""
    """From the agent only: the directory that holds the files of the ticket's image; empty: start the node's own."""
    waits: bool = False
    """From the agent only: the program is not here yet. Keep the job and start nothing; this comes again when it is."""
    gathers: bool = False
    """The ticket's `LaunchSpec.pmi`, unsigned: a hint for relays, which merge what the nodes say at a barrier."""


class Ticket(Message, frozen=True):
    """The head's permission to start one job's processes, and all that is needed to do it."""

    cluster: str
    epoch: Count
    job: JobId
    issued_at_ms: Count
    """Wall clock, milliseconds since 1970."""
    expires_at_ms: Count
    user: str
    uid: Count
    gid: Count
    groups: list[int]
    spec: LaunchSpec
    runs: list[int]
    """Flat: first node, count, in order. Each node has one rank, or as many as `heorot.core.wire.node_runs` says."""
    window_bytes: Count
    """How much of one stream may be on its way unacknowledged."""
    attended: bool
    """False: nobody reads yet; keep output on the node until `Attend` says otherwise."""
    key: bytes = b""
    """What the launching client calls the job, unique among its user's; empty: nothing."""
    refused: str = ""
    """Start nothing of it, for this reason, unless it was started or released here before; empty: start it."""


class RefuseLaunch(Message, tag=60, frozen=True):
    """From the agent only, and only to a space whose `Inventory` says that it takes it: start nothing of this launch.

    The space knows what the agent does not: whether the job runs already, or was released. If neither is true, it keeps
    the job with its ranks as failed, so that no later head starts what a client was told to have failed.
    """

    ticket: bytes
    """As in `Launch`."""
    signature: bytes
    text: str
    """Why, for people."""


class FetchLaunch(Message, tag=56, frozen=True):
    """A new head asks for the `Launch` of a job that it does not know."""

    job: JobId


class LaunchCopy(Message, tag=84, frozen=True):
    """The answer to `FetchLaunch`; both fields empty if the job is not here."""

    job: JobId
    ticket: bytes
    signature: bytes


def ranks_of(ticket: Ticket) -> int:
    """Return how many ranks a ticket has: of more than a job can have, so many."""
    return min(MAX_RANKS, rank_count(ticket.spec, sum(ticket.runs[1::2])))


def ranks_on(ticket: Ticket, node: int) -> list[int]:
    """Return the ranks that a ticket gives to a node, ascending."""
    return ranks_in(ticket.runs, node, ranks_of(ticket))


def nodes_of(ticket: Ticket) -> int:
    """Return a mask of the nodes of a ticket."""
    mask = 0
    for index in range(0, len(ticket.runs) - 1, 2):
        mask |= ((1 << ticket.runs[index + 1]) - 1) << ticket.runs[index]
    return mask


def job_order(job: str) -> tuple[int, int]:
    """Return what orders jobs by the time of their launch: epoch and sequence."""
    epoch, _, sequence = job.partition(".")
    return int(epoch), int(sequence)
