"""What a head says of nodes, jobs and processes to those who ask: the rows of tables.

On the wire each is a map from its fields' names to their values, in this order, so that whoever asks needs not know all
of them; the JSON of commands is the same map. A field that is `UNSET` is left out. New fields come last.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from msgspec import UNSET, Struct, UnsetType

from heorot.core.wire.events import ClusterEvent


class NodeRow(Struct, frozen=True, gc=False):
    """A node, of ``bpstat --json``."""

    id: int
    name: str
    state: str
    parent: int | None
    """The node above, -1 for the head; None: it has no link."""
    agent_pid: int | None
    init_pid: int | None
    """As the host sees it."""
    address: str
    """Where its agent listens; empty: not known."""
    mode: int
    """Who may start processes there, as the bits of chmod(1)."""
    uid: int
    gid: int
    user: str
    """The number as text, unless it is ``root``: names are looked up where they are shown. The same for `group`."""
    group: str
    release: str
    ranks: int
    """How many are not over."""
    silent: bool
    """This head is new, and has not heard of it yet."""
    seen: bool
    """It has attached to this head at least once."""
    wanted: str = ""
    """What somebody has set it to; empty: nothing. `state` is made of this and of what the head finds out:
    `heorot.core.wire.wishes`."""
    reason: str = ""
    set_by: str = ""
    """Who has set that, by name,"""
    set_at_ms: int | None = None
    """and when, since 1970; None: nobody has."""
    host_name: str = ""
    """By which node lists know it; empty: by its number only."""
    name_problem: str = ""
    """What is wrong with the name of its host, for people; empty: nothing."""
    head: str = ""
    """The head on whose host it is; empty: none."""


class NodesSet(Struct, frozen=True):
    """The answer to `SetNodes`: it is so, under every head from now on."""

    nodes: list[int]
    """In the order in which they were named."""
    late: list[int]
    """Of these nodes: those on which something may be started yet that was launched before."""
    command: list[str] = []
    """With `SetNodes.power`: what is to be run on them as root, the words of a command line."""


class RankStatus(Struct, frozen=True, gc=False):
    """How a rank ended: by `code` or by `signal`, or it is `lost`."""

    code: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    """Why it could not be started; `code` is the one that a shell gives for that."""
    signal: int | UnsetType = UNSET
    lost: str | UnsetType = UNSET
    """What became of its node."""


class RankUsed(Struct, frozen=True, gc=False):
    """What a rank has used, its own process and those of its descendants that it has waited for."""

    user_time_ms: int
    system_time_ms: int
    peak_memory_bytes: int | None
    """None: no more than bpinit takes itself."""

    @classmethod
    def of(cls, user_time_ms: int, system_time_ms: int, peak_kib: int) -> RankUsed:
        """Return it for the numbers of a report."""
        return cls(user_time_ms, system_time_ms, 1024 * peak_kib or None)


class JobRow(Struct, frozen=True):
    """A job, of ``bpjob list --json``."""

    job: str
    state: str
    user: str
    uid: int
    ranks: int
    running: int
    exited: int
    """Ranks that are over, in whatever way; so many of them have `failed` to start or are `lost`."""
    failed: int
    lost: int
    attended: bool
    detached: bool
    nodes: str
    """A node list."""
    argv: list[bytes]
    started_at_ms: int
    """Since 1970."""
    text: str
    """What its user should know."""
    left_running: int
    """So many processes were killed that its ranks had left."""


class JobDetails(JobRow, frozen=True):
    """A job with its ranks, of ``bpjob show --json``; keys are ranks."""

    statuses: dict[str, RankStatus]
    """Of those that are over."""
    rank_nodes: list[int]
    left_running_by_rank: dict[str, int]
    pids: dict[str, int]
    used: dict[str, RankUsed]
    """Of those that ran and are over."""
    time_limit_ms: int | None = None
    """How long it may run on a node; None: for ever."""
    stopped: dict[str, int] = {}
    """Of those that are stopped: the signal that did it."""


class ProcessRow(Struct, frozen=True):
    """A process, of ``bpps --json``."""

    pid: int
    node: int
    job: str | None
    """None: of no job; then `rank` is None, too."""
    rank: int | None
    uid: int
    user: str | None
    """Always None: names are looked up where they are shown."""
    state: str
    """A letter, as of ps(1)."""
    started_at_ms: int
    """Since 1970."""
    argv: list[bytes]
    leader: bool
    """It is the rank's own process, not one that this has started."""
    parent_pid: int
    user_time_ms: int
    memory_bytes: int


class ProcessList(Struct, frozen=True):
    """The answer to `ListProcesses`."""

    processes: list[ProcessRow]
    missing: list[int]
    """Nodes that did not answer."""


class HeadRow(Struct, frozen=True, gc=False):
    """A head: what is known of it."""

    name: str
    role: str
    """``active``, ``standby`` or ``absent``."""
    pid: int | UnsetType = UNSET
    address: str | UnsetType = UNSET


class HeadEntry(Struct, frozen=True, gc=False):
    """A head in a list of heads."""

    name: str
    address: str


class ForeignHeadList(Struct, frozen=True):
    """Nodes that keep another list of heads than this head."""

    nodes: list[int]
    heads: list[HeadEntry] | None
    """None: they cannot be told, and know what their configuration names."""


class HeadListRow(Struct, frozen=True):
    """Which heads there are to be."""

    heads: list[HeadEntry]
    others: list[ForeignHeadList]
    """Of the nodes that have attached to this head."""


class StoreRow(Struct, frozen=True, gc=False):
    """The coordination store, as the head's keeper sees it."""

    kind: str
    reachable: bool
    since_s: float
    problem: str


class ContactRow(Struct, frozen=True):
    """Nodes to which this head has lost contact, so that another one may lead."""

    lost: list[int]
    since_s: float | None
    text: str


class ClusterStatus(Struct, frozen=True):
    """The cluster, of ``heorot status --json``."""

    cluster: str
    epoch: int
    release: str
    fanout: int
    heads: list[HeadRow]
    head_list: HeadListRow
    store: StoreRow
    contact: ContactRow
    nodes: list[NodeRow]


AnyRow = TypeVar("AnyRow", NodeRow, JobRow, ProcessRow)
"""What a long answer is cut between."""
Answer: TypeAlias = (
    ClusterStatus
    | JobDetails
    | ProcessList
    | NodesSet
    | list[ClusterEvent]
    | list[NodeRow]
    | list[JobRow]
    | list[int]
    | None
)
"""What a question is answered with."""
