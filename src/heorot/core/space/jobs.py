"""The records of a process space: jobs, their ranks, the input that ranks share, and tombstones of released jobs."""

from __future__ import annotations

from collections import OrderedDict

from heorot.core.pmi.job import PmiJob
from heorot.core.space.states import FAILED, HELD, OVER, QUEUED, SpaceRankState
from heorot.core.streams import CHUNK_BYTES, TAKES_NO_MORE, InputStream, OutputStream
from heorot.core.wire.launch import reads_stdin
from heorot.core.wire.tree import Collective, Failure, JobInventory, Launch, Report, Ticket

TOMBSTONE_MS = 25 * 60 * 1000
"""Longer than a client can have a launch started with a receipt (`heorot.core.head.receipts.VALID_MS`, on clocks that
differ), and a node wait for it."""
MAX_TOMBSTONES = 65_536


class Rank:
    """One rank of a job on this node."""

    __slots__ = (
        "end_fed",
        "failure",
        "feeding",
        "input",
        "job",
        "killed",
        "number",
        "out_of_time",
        "output_ended",
        "outputs",
        "paused",
        "pending_signals",
        "pid",
        "position",
        "slot",
        "state",
        "status",
        "stop",
        "unseen",
        "used",
        "waiting",
    )

    def __init__(self, slot: int, number: int, job: SpaceJob) -> None:
        self.slot = slot
        self.number = number
        self.job: SpaceJob | None = job
        """None: the job was released while the rank still ran."""
        self.state: SpaceRankState = QUEUED
        self.pid = 0
        self.status = 0
        self.unseen = False
        """As in `ProcessStarted`."""
        self.out_of_time = False
        """It ran, or was to be started, when the time of its job was over."""
        self.stop: tuple[int, int, int, int] | None = None
        """As in `heorot.core.wire.reports.Report.stops`, without node and rank; None: it has never stopped."""
        self.used: tuple[int, int, int] | None = None
        """As `ProcessExited` said; None: its process never ran, or runs."""
        self.killed = 0
        """How many processes that it had left running were killed."""
        self.failure: Failure | None = None
        # Index 0 is stdout, 1 is stderr; most ranks never write, so a stream is made by its first byte.
        self.outputs: list[OutputStream | None] = [None, None]
        self.output_ended = [False, False]
        self.paused = [False, False]
        self.waiting = [False, False]
        """The stream stands in the line of those that have something to send."""
        self.input: Input | None = None
        self.position = 0
        """Up to here the rank has taken its input."""
        self.feeding = 0
        """So many bytes are being fed."""
        self.end_fed = False
        self.pending_signals: list[int] = []
        """Signals that were asked for before the rank was started."""

    @property
    def is_stopped(self) -> bool:
        """Whether its process was stopped when it was heard of last."""
        return self.stop is not None and self.stop[0] % 2 == 1

    def written(self, index: int) -> int:
        """How many bytes the rank wrote to stdout (0) or stderr (1)."""
        stream = self.outputs[index]
        return stream.end if stream is not None else 0


class Input:
    """One stream of input and the ranks that read it: all of a job (broadcast) or a single one.

    Counting the readers at the slowest position, instead of looking for the slowest after each of them has moved, keeps
    a broadcast to thousands of ranks linear.
    """

    __slots__ = ("laggards", "rank_number", "readers", "stream")

    def __init__(self, rank_number: int, readers: list[Rank]) -> None:
        self.rank_number = rank_number
        """-1: broadcast."""
        self.stream = InputStream()
        self.readers = {rank.slot: rank for rank in readers}
        self.laggards = len(readers)
        for rank in readers:
            rank.input = self

    @property
    def offset(self) -> int:
        """Up to here every reader has taken the input."""
        return self.stream.start if self.readers else TAKES_NO_MORE

    def moved(self, old_position: int) -> None:
        """A reader that stood at `old_position` has moved on or left."""
        stream = self.stream
        if old_position > stream.start:
            return
        self.laggards -= 1
        if self.laggards > 0:
            return
        if self.readers:
            slowest = min(rank.position for rank in self.readers.values())
            self.laggards = sum(1 for rank in self.readers.values() if rank.position == slowest)
            stream.forget(slowest)
        else:
            stream.forget(stream.end)

    def leave(self, rank: Rank) -> None:
        """The rank reads no more."""
        if self.readers.pop(rank.slot, None) is not None:
            self.moved(rank.position)
        rank.input = None

    def untold(self) -> bool:
        """True if the sender should hear how far the readers have come."""
        stream = self.stream
        offset = self.offset
        return offset > stream.told and (offset - stream.told >= CHUNK_BYTES or offset >= stream.end)


class SpaceJob:
    """One job on this node."""

    __slots__ = (
        "_spec",
        "abort",
        "abort_told",
        "all_notes",
        "attended",
        "broadcast",
        "caveat",
        "exited",
        "failed",
        "full_disk_logged",
        "headless_ms",
        "hung_up",
        "id",
        "issued_at_ms",
        "killed",
        "launch",
        "limit_hit",
        "linger",
        "live",
        "max_processes",
        "muted",
        "notes",
        "over_told",
        "pmi",
        "ranks",
        "reading",
        "sending",
        "started",
        "started_told",
        "stops",
        "stops_due_ms",
        "takes_input",
        "time_limit_ms",
        "timed",
        "uid",
        "unstarted",
        "used",
        "waiting",
        "window_bytes",
    )

    def __init__(self, launch: Launch, ticket: Ticket, window_bytes: int) -> None:
        self.id = ticket.job
        self.launch = launch
        """As it came, for a head that asks for it."""
        self.issued_at_ms = ticket.issued_at_ms
        self.uid = ticket.uid
        self.window_bytes = window_bytes
        self.max_processes = ticket.spec.max_processes
        self.headless_ms = ticket.spec.headless_ms
        self.linger = ticket.spec.linger
        self.time_limit_ms = ticket.spec.time_limit_ms
        self.timed = False
        """Its time has begun."""
        self._spec = ticket.spec if ticket.spec.stdin_ranks is not None else None
        self.takes_input = ticket.spec.stdin == b""
        """Some rank here does."""
        self.attended = ticket.attended
        self.reading = 0
        self.muted = False
        """A new agent was not told of this job yet: nothing of it is sent before the inventory."""
        self.sending = False
        """Output goes out: the job is attended, not muted, and there are an agent and a head."""
        self.ranks: dict[int, Rank] = {}
        self.live = 0
        """Ranks that are neither over nor failed."""
        self.unstarted = 0
        self.waiting = launch.waits
        """Its program is on its way: no rank is started yet."""
        self.broadcast: Input | None = None
        self.limit_hit = False
        self.hung_up = False
        """It is being ended because there is no head."""
        self.full_disk_logged = False
        # What the next Report will say.
        self.started: list[int] = []
        self.exited: list[int] = []
        self.failed: list[Failure] = []
        self.notes: list[Failure] = []
        self.killed: list[int] = []
        self.used: list[tuple[int, int, tuple[int, int, int]]] = []
        """Node, rank, and what it has used."""
        self.stops: dict[int, tuple[int, ...]] = {}
        """By rank: how it stands, as in `Report.stops`; only the last of several changes."""
        self.stops_due_ms = -1_000_000
        """When they are told, or were told last."""
        self.started_told = False
        self.over_told = False
        self.all_notes: list[Failure] = []
        """Those that were reported, too: a new head is told all of them."""
        self.caveat = ""
        """Held back until a rank exits with another status than 0: then it becomes a note."""
        self.pmi: PmiJob | None = None
        """None: its ranks have no connection to PMI."""
        self.abort: Failure | None = None
        """Why all of it has to end, on every node; `error` is what its exit status is to be."""
        self.abort_told = True

    def reads(self, rank: int) -> bool:
        """Say whether a rank is one of those that take input."""
        return self.takes_input if self._spec is None else reads_stdin(self._spec, rank)

    @property
    def some_read(self) -> bool:
        """Whether there are ranks that read and others that do not."""
        return self._spec is not None

    def note(self, note: Failure) -> None:
        """Let the user know."""
        self.all_notes.append(note)
        self.notes.append(note)

    def ended(self, node: int, rank: Rank) -> None:
        """Let the next report say how a rank came to its end."""
        self.exited += (node, rank.number, rank.status, rank.written(0), rank.written(1))
        self.stops.pop(rank.number, None)
        if rank.killed:
            self.killed += (node, rank.number, rank.killed)
        if rank.used is not None:
            self.used.append((node, rank.number, rank.used))

    def repeat_everything(self, node: int) -> None:
        """Let the next report say everything again."""
        self.stops = {
            rank.number: (node, rank.number, *rank.stop)
            for rank in self.ranks.values()
            if rank.stop is not None and rank.state in HELD
        }
        self.started, self.exited, self.failed, self.killed, self.used = [], [], [], [], []
        self.notes = list(self.all_notes)
        self.started_told = self.over_told = False
        self.abort_told = self.abort is None
        for rank in self.ranks.values():
            if rank.state is FAILED and rank.failure is not None:
                self.failed.append(rank.failure)
            elif rank.state is not QUEUED:
                if rank.pid:  # a signal may have ended it before its program came
                    self.started += (node, rank.number, rank.pid)
                if rank.state is OVER:
                    self.ended(node, rank)

    def take_report(self) -> Report | None:
        """Return what there is to report, once."""
        nodes_started = nodes_over = 0
        if not self.unstarted and not self.started_told:
            nodes_started, self.started_told = 1, True
        if not self.live and not self.over_told:
            nodes_over, self.over_told = 1, True
        aborts = [self.abort] if self.abort is not None and not self.abort_told else []
        self.abort_told = True
        news = self.started or self.exited or self.failed or self.notes or self.stops or aborts
        if not (news or nodes_started or nodes_over):
            return None
        report = Report(
            self.id, self.started, self.exited, self.failed, nodes_started, nodes_over, self.notes, killed=self.killed,
            used_runs=[value for node, rank, _ in self.used for value in (node, rank, 1)],
            used=[value for _, _, used in self.used for value in used],
            aborts=aborts,
            stops=[value for record in self.stops.values() for value in record] if self.stops else [],
        )  # fmt: skip
        self.started, self.exited, self.failed, self.notes, self.killed, self.used = [], [], [], [], [], []
        self.stops = {}
        return report

    def inventory(self) -> JobInventory:
        """Return the job's part of the snapshot, and count it as reported."""
        running: list[int] = []
        exited: list[int] = []
        failed: list[Failure] = []
        killed: list[int] = []
        used: list[int] = []
        stops: list[int] = []
        for rank in self.ranks.values():
            if rank.state is OVER:
                exited += (rank.number, rank.status, rank.written(0), rank.written(1))
                if rank.killed:
                    killed += (rank.number, rank.killed)
                if rank.used is not None:
                    used += (rank.number, *rank.used)
            elif rank.state is FAILED and rank.failure is not None:
                failed.append(rank.failure)
            elif rank.state is not QUEUED:
                running += (rank.number, rank.pid)
                if rank.stop is not None:
                    stops += (rank.number, *rank.stop)
        self.started, self.exited, self.failed, self.killed, self.used = [], [], [], [], []
        self.notes = list(self.all_notes)
        self.stops = {}
        self.abort_told = True
        aborts = [self.abort] if self.abort is not None else []
        collective = collective_of(self.pmi) if self.pmi is not None else None
        return JobInventory(
            self.id, running, exited, failed, self.stdin_offset(), killed, used, aborts, collective, stops
        )

    def stdin_offset(self) -> int:
        """Up to here every rank has taken the broadcast input."""
        if self.broadcast is not None:
            return self.broadcast.offset
        return 0 if self.takes_input and self.live else TAKES_NO_MORE


class Tombstones:
    """Jobs that were released: their tickets start nothing any more."""

    def __init__(self) -> None:
        self._graves: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.refuse_until_ms = -1
        """Tickets issued at or before this (wall clock) are refused: their tombstones may have been given up."""

    def bury(self, job: str, issued_at_ms: int, now_ms: int) -> None:
        """Remember that the job was released."""
        graves = self._graves
        graves[job] = (now_ms + TOMBSTONE_MS, issued_at_ms)
        while graves:
            oldest, (expires_ms, issued_ms) = next(iter(graves.items()))
            if expires_ms > now_ms:
                if len(graves) <= MAX_TOMBSTONES:
                    break
                self.refuse_until_ms = max(self.refuse_until_ms, issued_ms)
            del graves[oldest]

    def refuses(self, job: str, issued_at_ms: int) -> bool:
        """True if a ticket of this job must start nothing."""
        return job in self._graves or issued_at_ms <= self.refuse_until_ms

    def __len__(self) -> int:
        return len(self._graves)


def collective_of(pmi: PmiJob) -> Collective:
    """Return what an inventory says of the barriers of a job."""
    return Collective(pmi.generation, pmi.waits, pmi.contribution() if pmi.waits else [], pmi.former())
