"""What a process space says of ranks: in a report each thing once, in an inventory all that it holds.

Lists described as *flat* hold records one after the other, as in `heorot.core.wire.tree`.
"""

from __future__ import annotations

import msgspec

from heorot.core.wire.base import Count, Failure, JobId, Message
from heorot.core.wire.collectives import Collective

STOP_NUMBERS = 6
"""So many are a record of `Report.stops`."""


class Report(Message, tag=7, frozen=True):
    """What became of a job's ranks; relays merge the reports of one job. Also sent by bpinit to its agent."""

    job: JobId
    started: list[int]
    """Flat: node, rank, pid."""
    exited: list[int]
    """Flat: node, rank, wait status as of wait(2), stdout bytes written, stderr bytes written. The rank is over."""
    failed: list[Failure]
    nodes_started: Count = 0
    """On how many nodes have all ranks been started or failed since the last report (a hint: merge no longer)."""
    nodes_over: Count = 0
    """On how many nodes all ranks came to an end with this report (a hint: merge no longer)."""
    notes: list[Failure] = msgspec.field(default_factory=list)
    """What else the user should know of a rank, such as why it was killed."""
    started_runs: list[int] = msgspec.field(default_factory=list)
    """Flat: first node, first rank, count: as many consecutive ranks on consecutive nodes have started."""
    pids: list[int] = msgspec.field(default_factory=list)
    """Of the ranks of `started_runs`, in order."""
    exited_runs: list[int] = msgspec.field(default_factory=list)
    """Flat: first node, first rank, count, and as in `exited` how all of these ended."""
    killed: list[int] = msgspec.field(default_factory=list)
    """Flat: node, rank, count: so many processes that this rank had left running were killed. With its end."""
    used_runs: list[int] = msgspec.field(default_factory=list)
    """Flat: first node, first rank, count: ranks of which `used` says what they have used. With their ends."""
    used: list[int] = msgspec.field(default_factory=list)
    """Of the ranks of `used_runs`, in order: CPU time as a user and in the kernel in ms, and the peak of memory in KiB
    (0: no more than bpinit takes itself)."""
    aborts: list[Failure] = msgspec.field(default_factory=list)
    """Ranks with which the whole job has to end (`heorot.core.pmi.job.Abort`); `error` is the job's exit status."""
    stops: list[int] = msgspec.field(default_factory=list)
    """Flat: node, rank, how often it has stopped or gone on, the signal that has stopped it (0: it runs), and the
    bytes that it had written then to stdout and to stderr. The count is odd as long as it is stopped;
    the highest counts."""


class JobInventory(Message, frozen=True):
    """One job on one node."""

    job: JobId
    running: list[int]
    """Flat: rank, pid."""
    exited: list[int]
    """Flat: rank, wait status, stdout bytes, stderr bytes."""
    failed: list[Failure]
    stdin_offset: Count
    """Up to here all ranks of this node have taken the broadcast input."""
    killed: list[int] = msgspec.field(default_factory=list)
    """Flat: rank, count, of ranks in `exited`; as in `Report`."""
    used: list[int] = msgspec.field(default_factory=list)
    """Flat: rank, and of it what `Report.used` says; of ranks in `exited`."""
    aborts: list[Failure] = msgspec.field(default_factory=list)
    """As in `Report`."""
    collective: Collective | None = None
    """Only of a job whose ranks have barriers (`LaunchSpec.pmi`)."""
    stops: list[int] = msgspec.field(default_factory=list)
    """Flat: rank, and of it what `Report.stops` says; of ranks in `running` that have ever stopped."""
