"""What a head has set timers for, and what is done when they fire."""

from __future__ import annotations

from heorot.core.images.copies import CopiesDue
from heorot.core.images.sender import PaceDue
from heorot.core.timers import AwakeDue, Due, DueTable, HeartbeatDue
from heorot.core.tree.below_attachments import DoubtDue


class GraceDue(Due, frozen=True, gc=False):
    """A node may have been out of reach for too long."""

    node: int


class MissingDue(Due, frozen=True, gc=False):
    """A node of a job that this head has taken over may have stayed away for too long."""

    node: int


class RebalanceDue(Due, frozen=True, gc=False):
    """Nodes may stand at the wrong place."""


class KillDue(Due, frozen=True, gc=False):
    """A job that was told to end may not have ended."""

    job: str


class ReturnDue(Due, frozen=True, gc=False):
    """The client of a job may not have come back."""

    job: str


class ReleaseDue(Due, frozen=True, gc=False):
    """What was collected of jobs is to be forgotten by nodes."""


class QueryDue(Due, frozen=True, gc=False):
    """Nodes may not have answered a question."""

    query: int


class WatchDue(Due, frozen=True, gc=False):
    """Somebody who watches may be told what is new."""


class SafekeepingDue(Due, frozen=True, gc=False):
    """Those who keep programs for the next head are to be looked after."""


class SeekDue(Due, frozen=True, gc=False):
    """Those who are asked for programs are to be looked after."""


class NamesDue(Due, frozen=True, gc=False):
    """Nodes are to be told of names that have changed."""


class RivalsDue(Due, frozen=True, gc=False):
    """The other heads are to be told of this one again."""


class EndDue(Due, frozen=True, gc=False):
    """A job that has to end may not have ended."""

    job: str


class SettleDue(Due, frozen=True, gc=False):
    """A new head is to look again at what waits for nodes."""


class WishDue(Due, frozen=True, gc=False):
    """Nothing may be on its way any more to nodes that were closed."""


class EventsDue(Due, frozen=True, gc=False):
    """What has happened is to be told."""


class HoldDue(Due, frozen=True, gc=False):
    """No node may have said that it has a detached job."""

    job: str


class AdoptDue(Due, frozen=True, gc=False):
    """A node that was asked for the launch of a job may not have given it."""


WHEN_DUE = DueTable(
    "a head",
    {
        HeartbeatDue: lambda head, _: head._heartbeat(),
        GraceDue: lambda head, due: head._grace_over(due.node),
        MissingDue: lambda head, due: head._missing_over(due),
        AwakeDue: lambda head, _: head.context.wakefulness.due(head.context.now_ms),
        RebalanceDue: lambda head, _: head._rebalance(),
        KillDue: lambda head, due: head.jobs.attendance.kill_due(due.job),
        EndDue: lambda head, due: head.jobs.collectives.due(due.job),
        ReturnDue: lambda head, due: head.jobs.attendance.client_stays_away(due.job),
        ReleaseDue: lambda head, _: head.jobs.releases.send(),
        QueryDue: lambda head, due: head.requests.questions.timed_out(due.query),
        WatchDue: lambda head, _: head.clients.watches.due(),
        SafekeepingDue: lambda head, _: head.images.safekeeping.look(),
        SeekDue: lambda head, _: head.images.look(),
        NamesDue: lambda head, _: head.names.due(),
        RivalsDue: lambda head, _: head.rivals.announce(),
        PaceDue: lambda head, _: head.images.transfers.waited(),
        CopiesDue: lambda head, _: head.images.transfers.copies.look(),
        DoubtDue: lambda head, due: head.links_below.doubt_due(due),
        SettleDue: lambda head, _: head.settling.due(),
        WishDue: lambda head, _: head.clients.wishes.look(),
        EventsDue: lambda head, _: head.events.due(),
        HoldDue: lambda head, due: head.jobs.holders.due(due.job),
        AdoptDue: lambda head, _: head.jobs.adoptions.due(),
    },
)
