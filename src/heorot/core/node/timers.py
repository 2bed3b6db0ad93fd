"""What a node has set timers for, and what is done when they fire."""

from __future__ import annotations

from heorot.core.images.copies import CopiesDue
from heorot.core.images.sender import PaceDue
from heorot.core.timers import AwakeDue, Due, DueTable, HeartbeatDue
from heorot.core.tree.below_attachments import DoubtDue


class MergeDue(Due, frozen=True, gc=False):
    """The reports of a job have been waited for long enough."""

    job: str


class AnswersDue(Due, frozen=True, gc=False):
    """The answers to a question have been waited for long enough."""

    question: int


class BarrierDue(Due, frozen=True, gc=False):
    """What nodes say at a barrier of a job has been waited for long enough."""

    barrier: str


class HeadlessDue(Due, frozen=True, gc=False):
    """A node that has lost its way up may have no other by now."""


class LookPastDue(Due, frozen=True, gc=False):
    """The parent may have had no way to a head for long, and others one."""


class KeepHeadsDue(Due, frozen=True, gc=False):
    """The list of heads is to be kept on the disk once more."""


class PeersDue(Due, frozen=True, gc=False):
    """The peers from which images come may be silent."""


class ClaimsDue(Due, frozen=True, gc=False):
    """What was kept for a head that is lost is let go if no other wants it."""


class PulseDue(Due, frozen=True, gc=False):
    """The head may have been silent for its lease."""


class AnotherDue(Due, frozen=True, gc=False):
    """Whoever is asked for a way up does not answer: the next one is tried, too."""


class RetryDue(Due, frozen=True, gc=False):
    """A new round of looking for a way up begins."""


WHEN_DUE = DueTable(
    "a node",
    {
        MergeDue: lambda node, due: node.reports.of_jobs.waited(due.job),
        AnswersDue: lambda node, due: node.reports.of_questions.waited(due.question),
        BarrierDue: lambda node, due: node.reports.of_barriers.waited(due.barrier),
        HeartbeatDue: lambda node, _: node._heartbeat(),
        AwakeDue: lambda node, _: node.context.wakefulness.due(node.context.now_ms),
        DoubtDue: lambda node, due: node.child_links.links_below.doubt_due(due),
        HeadlessDue: lambda node, _: node._headless_due(),
        LookPastDue: lambda node, _: node._look_past(),
        KeepHeadsDue: lambda node, _: node.heads.keep(),
        PeersDue: lambda node, _: node.images.look(),
        PaceDue: lambda node, _: node.images.transfers.waited(),
        CopiesDue: lambda node, _: node.images.transfers.copies.look(),
        ClaimsDue: lambda node, _: node.images.claims_due(),
        PulseDue: lambda node, _: node._pulse(),
        AnotherDue: lambda node, _: node._try_another(),
        RetryDue: lambda node, _: node._retry(),
    },
)
