"""The ranks' output on its way to the reader: windows, acknowledgements, what is kept and where, who has to wait."""

from __future__ import annotations

from collections import deque

from heorot.core.space import events as e
from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.states import OVER
from heorot.core.space.turn import Turn
from heorot.core.streams import OUTPUT_CHUNK_BYTES, OutputStream, Spool
from heorot.core.wire.tree import Output

OUTPUT_DELAY_MS = 2
OUTPUT_AT_ONCE_BYTES = 16 * 1024
BACKLOG_LIMIT_BYTES = 1024 * 1024
"""No output is produced while more than this waits to be written to the agent."""
TURN_LIMIT_BYTES = 4 * 1024 * 1024
"""The most that a reader may have a stream send beyond what it has acknowledged."""
PIPE_BYTES = 1024 * 1024
"""What a rank's pipe may hold, which comes at once when the rank has ended."""
DRY_MS = 10
"""A turn is over when there was nothing more to send for so long."""
RETRY_MS = 500
"""How often the spool is tried again after the disk was full."""


class OutputSide:
    """All output streams of a space.

    Parameters
    ----------
    config:
        For the limits on windows, memory and spool.
    spool:
        Where output is kept that exceeds the memory set aside for it.
    turn:
        Shared with the machine.
    """

    def __init__(self, config: e.SpaceConfig, spool: Spool, turn: Turn) -> None:
        self.due_ms: int | None = None
        """When small output that was held back for a moment goes out."""
        self.retry_ms: int | None = None
        self.dry_ms: int | None = None
        """When a turn ends of which nothing more comes."""
        self.memory_bytes = 0
        """How much output is held in memory, of all streams together."""
        self._config = config
        self._spool = spool
        self._turn = turn
        self._backlog_bytes = 0
        self._line: deque[tuple[Rank, int]] = deque()
        """Streams that have something to send, in order."""
        self._stuck: dict[int, tuple[Rank, int]] = {}
        self._dry: dict[int, tuple[int, Rank, int]] = {}
        """By stream that has a turn and has sent all that there is: when the turn ends. The first comes first."""

    def agent_changed(self) -> None:
        """The agent has come or gone: nothing waits to be written to it."""
        self._backlog_bytes = 0
        self._line.clear()
        self.due_ms = None

    def backlog(self, size_bytes: int) -> None:
        """So much waits to be written to the agent."""
        self._backlog_bytes = size_bytes
        if self._line and self.due_ms is None:
            self.pump()

    def wrote(self, rank: Rank, index: int, data: bytes) -> None:
        """A rank wrote to stdout (0) or stderr (1)."""
        job = rank.job
        if job is None:
            return
        config = self._config
        stream = rank.outputs[index]
        if stream is None:
            stream = rank.outputs[index] = OutputStream(rank.slot * 2 + index, self._spool)
        limit = _reach(stream, job) - stream.acked + PIPE_BYTES if job.sending else config.stream_memory_bytes
        if self.memory_bytes + len(data) > config.memory_limit_bytes:
            limit = 0
        before = stream.memory_bytes
        stream.append(data, limit, config.spool_limit_bytes)
        self.memory_bytes += stream.memory_bytes - before
        if stream.stuck:
            self._mark_stuck(rank, index, stream)
        if job.sending:
            if self._dry:
                self._goes_on(stream)
            self.line_up(rank, index)
            if stream.end - stream.sent >= OUTPUT_AT_ONCE_BYTES:
                self.pump()
            elif self._line and self.due_ms is None:
                self.due_ms = self._turn.now + OUTPUT_DELAY_MS
        self.regulate(rank, index)

    def ack(self, rank: Rank, index: int, offset: int, limit: int = 0) -> None:
        """The reader has the bytes before `offset`; with a `limit` the stream has a turn up to there."""
        stream, job = rank.outputs[index], rank.job
        if stream is None or job is None:
            return
        before = stream.memory_bytes
        stream.ack(offset)
        self.memory_bytes += stream.memory_bytes - before
        if limit > stream.turn_end:
            stream.turn_end = min(limit, stream.acked + TURN_LIMIT_BYTES)
            stream.had_turn = True
        self.regulate(rank, index)
        self.line_up(rank, index)
        self.pump()
        self._look_whether_dry(rank, index)

    def drop(self, rank: Rank) -> None:
        """Forget the rank's output; what it still writes is read and thrown away."""
        for index in (0, 1):
            stream = rank.outputs[index]
            if stream is not None:
                self._goes_on(stream)
                self.memory_bytes -= stream.memory_bytes
                stream.close()
                rank.outputs[index] = None
            self.regulate(rank, index)

    def line_up(self, rank: Rank, index: int) -> None:
        """Put a stream that has something to send into the line."""
        stream = rank.outputs[index]
        job = rank.job
        if stream is None or job is None or not job.sending or rank.waiting[index]:
            return
        if stream.sent < min(stream.end, _reach(stream, job)):
            rank.waiting[index] = True
            self._line.append((rank, index))

    def pump(self) -> None:
        """Send output, one chunk of each stream in turn, as long as the agent takes it."""
        self.due_ms = None
        line = self._line
        while line and self._backlog_bytes < BACKLOG_LIMIT_BYTES:
            rank, index = line.popleft()
            rank.waiting[index] = False
            stream = rank.outputs[index]
            job = rank.job
            if stream is None or job is None or not job.sending:
                continue
            room = _reach(stream, job) - stream.sent
            data = stream.peek(min(OUTPUT_CHUNK_BYTES, room)) if room > 0 else b""
            if not data:
                continue
            self._backlog_bytes += len(data)
            self._send(rank, index, data)
            self._look_whether_dry(rank, index)
            self.line_up(rank, index)

    def _send(self, rank: Rank, index: int, data: bytes) -> None:
        """Send bytes from where the stream stands, or none, to say where that is."""
        stream, job = rank.outputs[index], rank.job
        assert stream is not None
        assert job is not None
        offset = stream.sent
        stream.sent += len(data)
        in_turn = stream.sent < stream.turn_end
        if in_turn and rank.output_ended[index] and stream.sent == stream.end:
            in_turn = False
        if not in_turn:
            stream.turn_end = 0
        message = Output(job.id, rank.number, index + 1, offset, data, stream.acked, job.reading, in_turn)
        self._turn.out.append(e.ToAgent(message, True))

    # ------------------------------------------------------------------ turns

    def _look_whether_dry(self, rank: Rank, index: int) -> None:
        """If a stream has a turn and has sent all that there is, let the turn end in a moment."""
        stream, job = rank.outputs[index], rank.job
        if stream is not None and stream.turn_end and stream.sent == stream.end and job is not None and job.sending:
            self._dry[stream.key] = self._turn.now + DRY_MS, rank, index
            if self.dry_ms is None:
                self.dry_ms = self._turn.now + DRY_MS

    def _goes_on(self, stream: OutputStream) -> None:
        """There is more of a stream."""
        if self._dry.pop(stream.key, None) is not None:
            self.dry_ms = next(iter(self._dry.values()))[0] if self._dry else None

    def end_dry_turns(self) -> None:
        """End the turns of which nothing more has come."""
        while self._dry and (due := next(iter(self._dry.values())))[0] <= self._turn.now:
            _, rank, index = due
            stream, job = rank.outputs[index], rank.job
            if stream is None:
                self._dry.pop(next(iter(self._dry)))
                continue
            self._goes_on(stream)
            # One that does not go out, or waits for the agent, ends when it goes on; of a rank that is over all is
            # told already.
            if job is not None and job.sending and stream.sent == stream.end and rank.state is not OVER:
                stream.turn_end = 0
                self._send(rank, index, b"")
        self.dry_ms = next(iter(self._dry.values()))[0] if self._dry else None

    def read_by(self, job: SpaceJob, reading: int) -> None:
        """Another reader has come, who has given no turns."""
        job.reading = reading
        for rank in job.ranks.values():
            for stream in rank.outputs:
                if stream is not None:
                    stream.turn_end, stream.had_turn = 0, False
                    self._goes_on(stream)

    def pump_soon(self) -> None:
        """Send what stands in the line, in a moment."""
        if self._line and self.due_ms is None:
            self.due_ms = self._turn.now + OUTPUT_DELAY_MS

    def set_sending(self, job: SpaceJob) -> None:
        """Find out whether the job's output goes out, and read its pipes accordingly."""
        # Without a head nobody acknowledges: were it sent, the rank would wait as soon as the window is full.
        job.sending = job.attended and not job.muted and self._turn.agent and not self._turn.alone
        for rank in job.ranks.values():
            for index in (0, 1):
                if not job.sending:
                    rank.waiting[index] = False
                self.regulate(rank, index)

    def send_again(self, job: SpaceJob) -> None:
        """Send what the job's streams hold, from the first byte that is kept."""
        for rank in job.ranks.values():
            for index in (0, 1):
                stream = rank.outputs[index]
                if stream is None:
                    continue
                stream.rewind()
                self.line_up(rank, index)
                if stream.had_turn and not stream.kept_bytes and job.sending:
                    # The word that its turn is over may have been lost; and while a turn goes on, nothing else is due.
                    self._send(rank, index, b"")
                    self._look_whether_dry(rank, index)

    def say_ends(self, job: SpaceJob) -> None:
        """Tell a new reader where the streams stand of which a former one has read everything."""
        for rank in job.ranks.values():
            for index in (0, 1):
                stream = rank.outputs[index]
                if stream is not None and stream.end and not stream.kept_bytes:
                    end = Output(job.id, rank.number, index + 1, stream.end, b"", stream.end, job.reading)
                    self._turn.out.append(e.ToAgent(end, True))

    def regulate(self, rank: Rank, index: int) -> None:
        """Read the rank's pipe, or leave it alone, as the limits say."""
        stream = rank.outputs[index]
        job = rank.job
        if stream is None or job is None:
            pause = False
        else:
            # Read what the spool has no room for too while somebody reads: a reader acknowledges half a window at a
            # time, and what is left of a full spool may be less. It would wait for more, and we for its word.
            pause = stream.end >= _reach(stream, job) if job.sending else stream.stuck
        if pause != rank.paused[index] and not rank.output_ended[index]:
            rank.paused[index] = pause
            kind = e.PauseReading if pause else e.ResumeReading
            self._turn.out.append(kind(rank.slot, index + 1))

    def _mark_stuck(self, rank: Rank, index: int, stream: OutputStream) -> None:
        self._stuck[stream.key] = (rank, index)
        if self.retry_ms is None:
            self.retry_ms = self._turn.now + RETRY_MS
        job = rank.job
        full = stream.spooled_bytes < self._config.spool_limit_bytes
        if full and job is not None and not job.full_disk_logged:
            job.full_disk_logged = True
            self._turn.log("warning", f"the spool's disk is full: job {job.id} waits until there is room or a reader")

    def retry_spool(self) -> None:
        """Try again to spool what the spool had no room for."""
        self.retry_ms = None
        stuck, self._stuck = self._stuck, {}
        for rank, index in stuck.values():
            stream = rank.outputs[index]
            if stream is None:
                continue
            before = stream.memory_bytes
            stream.settle(self._config.spool_limit_bytes)
            self.memory_bytes += stream.memory_bytes - before
            if stream.stuck:
                self._mark_stuck(rank, index, stream)
            self.regulate(rank, index)


def _reach(stream: OutputStream, job: SpaceJob) -> int:
    """Return up to which offset a stream may be sent now."""
    return max(stream.acked + job.window_bytes, stream.turn_end)
