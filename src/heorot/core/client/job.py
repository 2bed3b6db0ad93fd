"""What a client knows of one job: its ranks, their ends, and how far each stream has come. Pure: no I/O.

Everything here is addressed by rank and offset, so that a job can be taken up again over another connection: what
arrives twice is trimmed, what was not acknowledged is asked for again.
"""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.end import RankUsage, Status
from heorot.core.client.read_stream import ReadStream
from heorot.core.errors import ProtocolError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from heorot.core.client.stream_turns import StreamTurns

STDOUT = 1
STDERR = 2


class StdinStream:
    """Input on its way to a rank, or to all of them."""

    __slots__ = ("acknowledged", "closed", "ended", "kept", "sent")

    def __init__(self) -> None:
        self.kept: list[tuple[int, bytes]] = []
        """Offsets and bytes that were not acknowledged: another head may have to hear them again."""
        self.sent = 0
        self.acknowledged = 0
        self.ended = False
        """We said that there is no more."""
        self.closed = False
        """Nobody takes any more."""

    @property
    def room_bytes(self) -> int:
        """How much may be sent now."""
        if self.ended or self.closed:
            return 0
        return messages.STDIN_WINDOW_BYTES - (self.sent - self.acknowledged)

    def keep(self, data: bytes) -> int:
        """Note bytes as sent, and keep them until they are acknowledged; return their offset."""
        offset = self.sent
        if data:
            self.kept.append((offset, data))
        self.sent += len(data)
        return offset

    def acknowledge(self, offset: int, closed: bool) -> None:
        """All ranks have the input up to `offset`, or none takes any more."""
        # Ranks that want no more acknowledge the highest possible offset.
        self.acknowledged = max(self.acknowledged, min(offset, self.sent))
        self.closed = self.closed or closed
        gone = 0
        for start, data in self.kept:
            if not self.closed and start + len(data) > self.acknowledged:
                break
            gone += 1
        del self.kept[:gone]

    def unacknowledged(self) -> list[tuple[int, bytes]]:
        """Return what has to be sent again to a head that knows the acknowledged offset only."""
        return [
            (max(offset, self.acknowledged), data[max(0, self.acknowledged - offset) :]) for offset, data in self.kept
        ]


class JobRequest(Request):
    """What is asked of a job: to start it, to read it, or to go on with it."""

    __slots__ = ("asked_ms", "job")

    def __init__(self, job: JobState) -> None:
        super().__init__()
        self.asked_ms = 0
        """When a launch was asked for first, by the clock of who asks."""
        self.job = job

    def fail(self, error: RequestError) -> None:
        """There is no answer, and will be none."""
        super().fail(error)
        self.job.error = error


class JobState:
    """One job. `heorot.core.client.session.Session` keeps it up to date; its owner reads it.

    Attributes
    ----------
    id:
        Empty until the head has acknowledged the job.
    error:
        Why the head refused it; the job does not exist then.
    nodes:
        The node of each rank.
    """

    __slots__ = (
        "acknowledge_bytes", "cut_off", "detached", "done", "done_text", "ended_status", "error", "from_attach", "id",
        "launch", "leaving", "missing_streams", "nodes", "pids", "released", "request", "resuming", "spare_bytes",
        "staging", "statuses", "stdin", "stops", "streams", "turns", "unwanted", "used", "window_bytes",
    )  # fmt: skip

    def __init__(self, request: int) -> None:
        self.request = request
        self.id = ""
        self.error: RequestError | None = None
        self.nodes: list[int] = []
        self.pids: dict[int, int] = {}
        self.statuses: dict[int, Status] = {}
        self.used: dict[int, RankUsage] = {}
        """What ranks have used that are over; only if the session hears of it."""
        self.stops: dict[int, tuple[int, ...]] = {}
        """How ranks stand that run and have ever stopped: how often one has stopped or gone on (odd: it is stopped),
        the signal, and what it had written to stdout and to stderr."""
        self.streams: dict[tuple[int, int], ReadStream] = {}
        self.stdin: dict[int, StdinStream] = {}
        self.acknowledge_bytes = 1
        """Acknowledge a stream when this much was consumed since the last time: half of the head's window."""
        self.turns: StreamTurns | None = None
        """None: no stream had a turn yet, or none has any."""
        self.spare_bytes = self.window_bytes = 0
        """As in `heorot.core.wire.clients.Spawned`."""
        self.missing_streams = 0
        self.cut_off: set[int] = set()
        """Ranks whose node was given up: what comes of their output after all is too late."""
        self.done = False
        self.done_text = ""
        self.ended_status = -1
        """As in `heorot.core.wire.clients.Done`."""
        self.released = False
        self.unwanted = False
        """Whoever asked for it has gone before it was there."""
        self.from_attach = False
        """Somebody else may have read the beginning of its output."""
        self.detached = False
        """It was started to go on without us, and we do not follow it."""
        self.staging: Request | None = None
        """The next head's word that it has the program, too: one that was lost had it before the launch."""
        self.resuming = False
        """Its head was lost, and the next one has not said yet that it goes on."""
        self.launch: list[Any] | None = None
        """How to hand it over to a head that does not know it; None: there is no need any more."""
        self.leaving = False
        """It is to be released as soon as a head goes on with it."""

    @property
    def launched(self) -> bool:
        """Whether the head has acknowledged it, and has what we must leave behind if we go."""
        return bool(self.id) and (self.staging is None or self.staging.finished)

    @property
    def news(self) -> bool:
        """Whether anything was heard of it, so that a node has it."""
        return bool(self.pids or self.statuses or self.streams or not self.input_is_whole)

    @property
    def input_is_whole(self) -> bool:
        """Whether all of its input can still be sent: nobody has acknowledged any."""
        return not any(stream.acknowledged for stream in self.stdin.values())

    @property
    def may_be_handed_over(self) -> bool:
        """Whether a head that does not know it can be given it: with its launch, and all of its input."""
        return self.launch is not None and self.input_is_whole

    @property
    def stdin_offsets(self) -> list[int]:
        """How far its input is acknowledged, flat: rank, offset."""
        return [number for rank, stream in self.stdin.items() for number in (rank, stream.acknowledged)]

    def stdin_again(self) -> list[list[object]]:
        """Return what says all of its input once more that was not acknowledged."""
        again = []
        for rank, stream in self.stdin.items():
            if stream.closed:
                continue
            for offset, data in stream.unacknowledged():
                again.append(messages.client_stdin(self.id, rank, offset, data, False))
            if stream.ended:
                again.append(messages.client_stdin(self.id, rank, stream.sent, b"", True))
        return again

    @property
    def complete(self) -> bool:
        """Whether every rank is over and every byte of its output has arrived."""
        return self.done and not self.missing_streams

    @property
    def all_consumed(self) -> bool:
        """Whether every byte that has arrived is where it belongs."""
        return all(stream.consumed == stream.received for stream in self.streams.values())

    def rank_complete(self, rank: int) -> bool:
        """Whether this rank is over and all of its output has arrived."""
        if rank not in self.statuses:
            return False
        for number in (STDOUT, STDERR):
            stream = self.streams.get((rank, number))
            if stream is not None and stream.missing:
                return False
        return True

    @property
    def exit_status(self) -> int:
        """The largest of the ranks' exit statuses, 0 if there is none; or what the whole job was ended with."""
        if self.ended_status >= 0:
            return self.ended_status
        return max((status.exit_status for status in self.statuses.values()), default=0)

    def stream(self, rank: int, number: int) -> ReadStream:
        """Return the state of one output stream."""
        found = self.streams.get((rank, number))
        if found is None:
            if not 0 <= rank < len(self.nodes) or number not in (STDOUT, STDERR):
                raise ProtocolError(
                    f"the head sent output of rank {rank}, stream {number}, which job {self.id} does not have"
                )
            found = self.streams[rank, number] = ReadStream(rank, number)
            found.joined_late = self.from_attach
        return found

    def stdin_stream(self, rank: int = messages.BROADCAST) -> StdinStream:
        """Return the state of the broadcast input, or of one rank's own."""
        found = self.stdin.get(rank)
        if found is None:
            found = self.stdin[rank] = StdinStream()
        return found

    # -------------------------------------------------- what the head said; called by Session

    def spawned(self, job: str, runs: list[int], window_bytes: int, spare_bytes: int = 0, ranks: int = 0) -> None:
        """The job exists."""
        self.id = job
        self.nodes = [node for i in range(0, len(runs), 2) for node in range(runs[i], runs[i] + runs[i + 1])]
        if ranks:
            from heorot.core.wire.node_runs import block_places

            self.nodes = block_places(self.nodes, ranks)
        self.acknowledge_bytes = max(1, window_bytes // 2)
        self.window_bytes, self.spare_bytes = window_bytes, spare_bytes
        if self.turns is not None:
            self.turns.begin_anew(window_bytes, spare_bytes, list(self.streams.values()))

    def take_turns(self) -> StreamTurns | None:
        """Return what gives its streams their turns; None: they have none."""
        if self.turns is None and self.spare_bytes:
            # Where ranks write little nobody needs it: such a command starts without it.
            from heorot.core.client.stream_turns import StreamTurns

            self.turns = StreamTurns(self.window_bytes, self.spare_bytes)
        return self.turns

    def keep_launch(self, launch: list[Any], runs: list[int], receipt: bytes) -> None:
        """The head has acknowledged this launch with a receipt."""
        launch[messages.SPAWN_AGAIN] = True
        launch[messages.SPAWN_JOB], launch[messages.SPAWN_RUNS], launch[messages.SPAWN_RECEIPT] = self.id, runs, receipt
        self.launch = launch

    def output(
        self, rank: int, number: int, offset: int, data: bytes, kept_from: int = 0, in_turn: bool = False
    ) -> tuple[ReadStream, bytes]:
        """Bytes arrived; return what is new of them."""
        stream = self.streams.get((rank, number)) or self.stream(rank, number)
        if rank in self.cut_off:
            return stream, b""
        was_missing = stream.missing
        data = stream.accept(offset, data, kept_from)
        if was_missing and not stream.missing:
            self.missing_streams -= 1
        if self.turns is not None:
            self.turns.arrived(stream, in_turn)
        return stream, data

    def ended(self, rank: int, status: Status, stdout_bytes: int, stderr_bytes: int) -> bool:
        """A rank is over; return False if that was known."""
        if rank in self.statuses:
            return False
        self.statuses[rank] = status
        self.stops.pop(rank, None)
        for number, total in ((STDOUT, stdout_bytes), (STDERR, stderr_bytes)):
            if total > 0:
                stream = self.stream(rank, number)
                stream.total = total
                self.missing_streams += stream.missing
                if self.turns is not None and stream.whole:
                    self.turns.end(stream)
        return True

    def gone(self, status: Status, text: str) -> list[int]:
        """No head knows the job any more: all that we do not have of it is lost; return the ranks that ended so."""
        ranks = [rank for rank in range(len(self.nodes)) if not self.rank_complete(rank) and self.lost(rank, status)]
        self.done = True
        self.done_text = self.done_text or text
        return ranks

    def lost(self, rank: int, status: Status) -> bool:
        """A rank's node is gone, and the rest of its output with it; return False if the rank was over before."""
        self.cut_off.add(rank)
        for number in (STDOUT, STDERR):
            stream = self.streams.get((rank, number))
            if stream is not None:
                # Whole, so that no turn is given to a stream of which nothing comes any more: it would never end.
                self.missing_streams -= stream.missing
                stream.total = stream.received
                if self.turns is not None:
                    self.turns.end(stream)
        return self.ended(rank, status, 0, 0)


# -------------------------------------------------- what the head says of a job; each returns which ranks end by it


def _started(job: JobState, message: list[Any]) -> list[int]:
    flat = message[2]
    for i in range(0, len(flat), 2):
        job.pids[flat[i]] = flat[i + 1]
    return []


def _used(job: JobState, message: list[Any]) -> list[int]:
    flat = message[2]
    for i in range(0, len(flat), 4):
        user_time_ms, system_time_ms, peak_kib = flat[i + 1 : i + 4]
        job.used[flat[i]] = RankUsage(user_time_ms, system_time_ms, 1024 * peak_kib or None)
    return []


def _stopped(job: JobState, message: list[Any]) -> list[int]:
    flat = message[2]
    for i in range(0, len(flat), 5):
        rank, changes = flat[i], flat[i + 1]
        # What comes late, or from the next head once more, is older.
        if rank not in job.statuses and (rank not in job.stops or job.stops[rank][0] < changes):
            job.stops[rank] = tuple(flat[i + 1 : i + 5])
    return []


def _exited(job: JobState, message: list[Any]) -> list[int]:
    flat = message[2]
    return [
        flat[i]
        for i in range(0, len(flat), 4)
        if job.ended(flat[i], Status.of_wait_status(flat[i + 1]), flat[i + 2], flat[i + 3])
    ]


def _exited_alike(job: JobState, message: list[Any]) -> list[int]:
    _job, runs, wait_status, stdout_bytes, stderr_bytes = message[1:6]
    status = Status.of_wait_status(wait_status)
    return [
        rank
        for i in range(0, len(runs), 2)
        for rank in range(runs[i], min(runs[i] + runs[i + 1], len(job.nodes)))
        if job.ended(rank, status, stdout_bytes, stderr_bytes)
    ]


def _failed(job: JobState, message: list[Any]) -> list[int]:
    return [rank for rank, error, text in message[2] if job.ended(rank, Status.of_failure(error, text), 0, 0)]


def _lost(job: JobState, message: list[Any]) -> list[int]:
    return [rank for rank, _node, text in message[2] if job.lost(rank, Status.of_lost(text))]


def _stdin_acknowledged(job: JobState, message: list[Any]) -> list[int]:
    stream = job.stdin_stream(message[2])
    if job.from_attach and not stream.sent and not stream.closed:
        # Whoever fed it before us got so far; we go on from there.
        stream.sent = stream.acknowledged = 0 if message[4] else message[3]
    stream.acknowledge(message[3], message[4])
    return []


def _done(job: JobState, message: list[Any]) -> list[int]:
    job.done = True
    job.launch = None
    job.done_text = message[2] if len(message) > 2 else ""
    job.ended_status = message[3] if len(message) > 3 else -1
    return []


TOLD_OF_A_JOB = {
    "started": _started,
    "stopped": _stopped,
    "used": _used,
    "exited": _exited,
    "exited-alike": _exited_alike,
    "failed": _failed,
    "lost": _lost,
    "stdin-ack": _stdin_acknowledged,
    "done": _done,
}
