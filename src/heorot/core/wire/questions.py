"""What clients ask of nodes, jobs and processes, once or as long as they watch; `heorot.core.wire.rows` answers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from heorot.core.wire.base import Chunk, Count, JobId, Message


class Resolve(Message, tag="resolve", frozen=True):
    """Answered by `Result` with the list of node numbers, in order, repeats included."""

    request: Count
    nodes: str
    select: str


class ShowStatus(Message, tag="status", frozen=True):
    """Answered by `Result` with a `ClusterStatus` (`heorot.core.wire.rows`, as all that is shown)."""

    request: Count


class ListNodes(Message, tag="nodes", frozen=True):
    """Answered by `Result` with a list of `NodeRow`."""

    request: Count
    nodes: str
    """A node list; empty: all."""


class ListProcesses(Message, tag="processes", frozen=True):
    """Answered by `Result` with a `ProcessList`."""

    request: Count
    nodes: str
    """A node list; empty: all that are up."""
    job: JobId | None


class ListJobs(Message, tag="jobs", frozen=True):
    """Answered by `Result` with a list of `JobRow`."""

    request: Count


class ShowJob(Message, tag="job", frozen=True):
    """Answered by `Result` with a `JobDetails`."""

    request: Count
    job: JobId


class Watch(Message, tag="watch", frozen=True):
    """Tell what there is on these topics, and then, again and again, what has changed. Answered by `Changed` any number
    of times; ends with `Error`, or after `Unwatch` with `Result` (null)."""

    request: Count
    topics: Annotated[list[str], Meta(max_length=8)]
    """``nodes``, ``jobs``, ``processes``: each is shown as by `ListNodes`, `ListJobs`, `ListProcesses`."""
    interval_ms: Count
    """Between two updates at least; the head may take longer."""
    nodes: str = ""
    """As in `ListNodes` and `ListProcesses`."""
    job: JobId | None = None
    """As in `ListProcesses`; of jobs, this one only."""


class Seen(Message, tag="seen", frozen=True):
    """The last update of a watch has arrived and was taken: until then no other is sent."""

    request: Count


class Unwatch(Message, tag="unwatch", frozen=True):
    """The end of a watch."""

    request: Count


class LookOn(Message, tag="look-on", frozen=True):
    """Show what ranks of a job write from now on, beside whoever reads it. Answered by `Shown` any number of times, and
    by `Result` with a `JobDetails` when the job is over. Only root may look at the jobs of others."""

    request: Count
    job: JobId


class LookTook(Message, tag="look-took", frozen=True):
    """So much more of what was shown was taken: until then little more is shown, and the rest is left out."""

    request: Count
    size_bytes: Count


class Shown(Message, tag="shown", frozen=True):
    """Bytes of a rank, as they are passed on to the job's reader; what was shown before may come again."""

    request: Count
    rank: Count
    stream: int
    offset: Count
    data: Chunk
    missed_bytes: Count = 0
    """So much of the job was left out since the last time, because what had been shown was not taken."""


class Changed(Message, tag="changed", frozen=True):
    """A part of an update of a watch."""

    request: Count
    topic: str
    full: bool
    """Forget what was told of this topic before; a new head knows nothing of it."""
    rows: list[Any]
    """New ones, and those that are other than before."""
    gone: list[list[Any]]
    """Keys of rows that are no more: node; or job; or node and PID."""
    more: bool
    """Further parts of the same update follow."""
    missing: list[int]
    """With ``processes``: the nodes that do not answer now."""
    named: list[int]
    """With ``nodes`` and `full`, if nodes were named: flat runs of them, first node and count, in order."""
