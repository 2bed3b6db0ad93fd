"""What the process space's machine takes and gives.

A *slot* is the machine's number for one rank on this node; it is never used again. The shell (`heorot.bpinit`, or a
simulator with virtual processes) carries the instructions out in order and feeds the results back as events.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from heorot.core.wire.tree import Process, SpaceAnswer, SpaceCommand, Ticket


class SpaceConfig(Struct, frozen=True, kw_only=True):
    """All that a process space has to be told."""

    node: int
    incarnation: int = 0
    """0: the daemon chooses one at random (the machine itself needs it set)."""
    init_pid: int = 0
    """The daemon's PID as the host sees it; 0: the daemon finds out."""
    base_pid: int = 0
    """First PID of the node's range; 0: take PIDs as they come."""
    range_size: int = 0
    spool_dir: str = ""
    """Where output goes that does not fit into memory; empty: nowhere."""
    spool_limit_bytes: int = 64 * 1024 * 1024
    """Per stream."""
    stream_memory_bytes: int = 256 * 1024
    """Per stream that nobody reads; what exceeds it goes to the spool."""
    memory_limit_bytes: int = 64 * 1024 * 1024
    """For the kept output of all streams together; beyond it, all goes to the spool at once."""
    window_limit_bytes: int = 1024 * 1024
    """The largest window that a ticket may ask for."""
    max_jobs: int = 16_384
    marker: str = ""
    """Put into the environment of every process as ``HEOROT_SPACE``; empty: the daemon chooses one at random."""
    isolated: bool = False
    """True: the daemon is PID 1 of its own PID namespace. Set by `spawn_space`."""
    die_with_parent: bool = False
    """End, and every process with it, as soon as the parent has ended."""
    bare: str = ""
    """The only directory that processes see, beside an empty root with /proc, /dev and /tmp; empty: they see all."""
    log_path: str = ""
    """Empty: the standard error stream as it is."""
    cluster_dir: str = ""
    """The directory whose caches give room to a spool that has none; empty: none do."""
    host_name: str = ""
    """The host name that its processes see; with it go IPC and a /dev/shm of their own. Empty: those of the host."""
    hosts_path: str = ""
    """The file that its processes see as /etc/hosts, of root's; empty: the host's own."""


# ------------------------------------------------------------------ events


class AgentConnected(Struct, gc=False):
    """An agent is there (the former one, if any, was reported lost before)."""


class AgentLost(Struct, gc=False):
    """The agent is gone; nothing that was sent may be assumed to have arrived."""


class FromAgent(Struct, gc=False):
    """The agent's command, decoded."""

    command: SpaceCommand


class Caveat(Struct, gc=False):
    """The user of a job should know this as soon as a rank of it exits with another status than 0. Nodes that say the
    same use the same words: it is shown once.
    """

    job: str
    text: str
    at_once: bool = False
    """Whatever becomes of the ranks."""


class ProcessStarted(Struct, gc=False):
    """The process of a slot runs."""

    slot: int
    pid: int
    unseen: bool = False
    """It took long to come to its program, and was not waited for: nobody will know whether it came to it."""


class StartFailed(Struct, gc=False):
    """The process of a slot could not be started."""

    slot: int
    error: int
    text: str


class Wrote(Struct, gc=False):
    """The rank wrote to stdout (1) or stderr (2)."""

    slot: int
    stream: int
    data: bytes


class WriteEnded(Struct, gc=False):
    """Nobody can write to the rank's stdout (1) or stderr (2) any more, or it never was a stream. Once per stream of a
    started slot."""

    slot: int
    stream: int


class ProcessStopped(Struct, gc=False):
    """The slot's own process has stopped; if it was so already, it went on meanwhile. What it wrote before was told."""

    slot: int
    signal: int
    """The one that has stopped it: SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU."""


class ProcessContinued(Struct, gc=False):
    """The slot's own process, which was said to be stopped, goes on."""

    slot: int


class ProcessExited(Struct, gc=False):
    """The slot's own process was reaped. `clean`: it is certain that it left no descendant behind."""

    slot: int
    status: int
    clean: bool
    used: tuple[int, int, int] | None = None
    """What it and those of its descendants that it has waited for have used, as in `heorot.core.wire.tree.Report`."""


class Swept(Struct, gc=False):
    """The answer to `Sweep`: no process of the slot is left."""

    slot: int
    killed: int = 0
    """How many were killed that would have gone on, beside what `Destroy` has ended."""


class Fed(Struct, gc=False):
    """The answer to `Feed`: all of it is in the rank's pipe."""

    slot: int


class InputClosed(Struct, gc=False):
    """The rank takes no more input: it has closed its stdin."""

    slot: int


class PmiSaid(Struct, gc=False):
    """A rank has written so much to its connection to PMI."""

    slot: int
    data: bytes


class Selected(Struct, gc=False):
    """The answer to `Select`."""

    query: int
    matched: int
    processes: list[Process]


class Counted(Struct, gc=False):
    """So many processes of the job were found on this node. Sent now and then, for jobs with a limit."""

    job: str
    processes: int


class Backlog(Struct, gc=False):
    """So many bytes wait to be written to the agent. Sent after a turn in which something was sent or written."""

    size_bytes: int


class Tick(Struct, gc=False):
    """The time that `Space.deadline_ms` named has come."""


SpaceEvent: TypeAlias = (
    AgentConnected
    | AgentLost
    | FromAgent
    | Caveat
    | ProcessStarted
    | StartFailed
    | Wrote
    | WriteEnded
    | ProcessStopped
    | ProcessContinued
    | ProcessExited
    | Swept
    | Fed
    | InputClosed
    | PmiSaid
    | Selected
    | Counted
    | Backlog
    | Tick
)

# ------------------------------------------------------------------ instructions


class ToAgent(Struct, gc=False):
    """Send to the agent. What is not `bulk` may overtake what is; bulk stays in order."""

    message: SpaceAnswer
    bulk: bool = False


class StartRanks(Struct):
    """Start processes, in order; each is answered by `ProcessStarted` or `StartFailed`, at once or later. `slots` pairs
    slot and rank, and `size` is the number of ranks of the whole job."""

    job: str
    ticket: Ticket
    size: int
    slots: list[tuple[int, int]]
    view: bytes = b""
    """The directory that holds the files of the ticket's image; empty: start what the node itself has."""


class CancelStarts(Struct, gc=False):
    """Do not start those slots of the job that are not started yet; they are answered by nothing."""

    job: str


class Feed(Struct, gc=False):
    """Write to the rank's stdin; answered by `Fed` or `InputClosed`. Never two at a time for one slot."""

    slot: int
    data: bytes


class FeedEnd(Struct, gc=False):
    """The rank's stdin ends here: close it (a terminal gets its end-of-file character). No answer."""

    slot: int


class PmiAnswer(Struct, gc=False):
    """Write to the rank's connection to PMI. While it takes nothing, no more is heard of it; no answer."""

    slot: int
    data: bytes


class PmiClose(Struct, gc=False):
    """Write what is still to be written to the rank's connection to PMI, as far as it takes that now, and close it."""

    slot: int


class PauseReading(Struct, gc=False):
    """Leave in the pipe what the rank writes: no `Wrote` and no `WriteEnded` for this stream until `ResumeReading`.
    One `Wrote` may still come. Ignore it for a stream that has ended."""

    slot: int
    stream: int


class ResumeReading(Struct, gc=False):
    """Read again."""

    slot: int
    stream: int


class SendSignal(Struct, gc=False):
    """Send a signal to the rank's process group; if its process was reaped, to all that it has left."""

    slot: int
    signal: int


class Destroy(Struct, gc=False):
    """Kill these slots' processes with all of their descendants; `ProcessExited` follows for each."""

    slots: list[int]


class Sweep(Struct, gc=False):
    """Kill what the slot's process left behind and does not end in a moment; answered by `Swept` when nothing is left.
    With `linger`, kill nothing before `Destroy`: it may take any time until nothing is left."""

    slot: int
    linger: bool = False


class CloseOutputs(Struct, gc=False):
    """Read what is in the rank's pipes and close them: each that is open is answered by `Wrote` (if there was anything)
    and `WriteEnded`, even if it was paused."""

    slot: int


class Select(Struct, gc=False):
    """Find processes, send them `signal` unless it is 0, and answer with `Selected` (rows only with `detail`).

    Every given criterion restricts: `job` (empty: any), `slots` of it (None: all), `pids` (None: any; negative: a
    process group), `uid` (the real user; -1: any).
    """

    query: int
    job: str
    slots: list[int] | None
    pids: list[int] | None
    signal: int
    detail: bool
    uid: int = -1


class ResizeTerminals(Struct, gc=False):
    """The terminals of these slots have a new size."""

    slots: list[int]
    rows: int
    columns: int


class ForgetSlots(Struct, gc=False):
    """No instruction will name these slots again; their processes are gone."""

    slots: list[int]


class SpaceLog(Struct, gc=False):
    """One line for the daemon's log."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    text: str


SpaceInstruction: TypeAlias = (
    ToAgent
    | StartRanks
    | CancelStarts
    | Feed
    | FeedEnd
    | PmiAnswer
    | PmiClose
    | PauseReading
    | ResumeReading
    | SendSignal
    | Destroy
    | Sweep
    | CloseOutputs
    | Select
    | ResizeTerminals
    | ForgetSlots
    | SpaceLog
)
