"""The process space's machine, run by bpinit: what a node knows of its jobs, and what becomes of their bytes.

It is driven like every machine of the core: ``handle(event, now_ms)`` returns instructions that the shell carries out
in order; events and instructions are described in `heorot.core.space_events`. Instead of many timers there is one:
`deadline_ms` says when the machine wants a `Tick` at the latest. A shell looks at it after each turn of its loop, and
gives the `Tick` in the same turn if the deadline is now.

The life of a rank, as seen by a shell or a simulator::

    StartRanks ─▶ Started ─▶ Wrote* WriteEnded(1) WriteEnded(2); Exited (Sweep ─▶ Swept) ─▶ ForgetSlots
               └▶ StartFailed ─▶ ForgetSlots

A rank is over when its process was reaped, nothing that it started is left, and both of its streams are at their end. A
simulator gives ``Exited(clean=True)`` unless it wants to exercise sweeping, and passes its own `Spool`.

Output goes up as far as the reader's window allows (`Ack` moves it), and stays here until it is acknowledged. While
nobody reads, it is kept in memory, then in the spool; only when both are full the rank is left to wait in its write.
While somebody reads slowly, the rank waits as soon as the window is full.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from heorot.core import messages as m
from heorot.core import space_events as e
from heorot.core.space_jobs import EXITED, FAILED, OVER, QUEUED, RUNNING, Input, Job, Rank, Tombstones
from heorot.core.streams import CHUNK_BYTES, OutputStream, Spool

REPORT_DELAY_MS = 20
"""A start is reported alone only if the process still runs after this time; else together with its exit."""
EXIT_DELAY_MS = 2
"""Exits wait this long for others while more ranks of the job run here."""
OUTPUT_DELAY_MS = 2
OUTPUT_AT_ONCE_BYTES = 16 * 1024
BACKLOG_LIMIT_BYTES = 1024 * 1024
"""No output is produced while more than this waits to be written to the agent."""
RETRY_MS = 500
"""How often the spool is tried again after the disk was full."""
STRAY_PIPE_MS = 2000
"""How long a pipe may stay open after everything that the rank started is gone (somebody outside holds it)."""
MAX_REMEMBERED_QUERIES = 1024
MAX_PENDING_SIGNALS = 16
ESTALE = 116
"""The error of a rank whose job was released here before."""


class Space:
    """See the module's description. All times are in milliseconds of one monotonic clock.

    Parameters
    ----------
    config:
        With `incarnation` and `init_pid` set.
    spool:
        Where output is kept that exceeds the memory set aside for it.
    """

    def __init__(self, config: e.SpaceConfig, spool: Spool) -> None:
        self.config = config
        self.jobs: dict[str, Job] = {}
        self.tombstones = Tombstones()
        self.admitted_after = ""
        """What `Admit` said; the agent watches over it."""
        self._spool = spool
        self._slots: dict[int, Rank] = {}
        self._next_slot = 1
        self._agent = False
        self._backlog_bytes = 0
        self._line: deque[tuple[Rank, int]] = deque()
        """Streams that have something to send, in order."""
        self._untold: dict[str, Job] = {}
        """Jobs that have something to report."""
        self._stuck: dict[int, tuple[Rank, int]] = {}
        self._closing: deque[tuple[int, Rank]] = deque()
        self._replies: OrderedDict[int, m.Reply] = OrderedDict()
        self._report_due: int | None = None
        self._output_due: int | None = None
        self._retry_due: int | None = None
        self._now = 0
        self._out: list[e.SpaceInstruction] = []
        handlers: dict[type, Callable[[Any], None]] = {
            e.AgentConnected: self._agent_connected,
            e.AgentLost: self._agent_lost,
            e.FromAgent: self._from_agent,
            e.Started: self._started,
            e.StartFailed: self._start_failed,
            e.Wrote: self._wrote,
            e.WriteEnded: self._write_ended,
            e.Exited: self._exited,
            e.Swept: self._swept,
            e.Fed: self._fed,
            e.InputClosed: self._input_closed,
            e.Selected: self._selected,
            e.Counted: self._counted,
            e.Backlog: self._backlog,
            e.Tick: self._tick,
            m.Launch: self._launch,
            m.Stdin: self._stdin,
            m.Ack: self._ack,
            m.Attend: self._attend,
            m.Release: self._release,
            m.Resize: self._resize,
            m.Inventorize: self._inventorize,
            m.Query: self._query,
            m.FetchLaunch: self._fetch_launch,
            m.Admit: self._admit,
        }
        self._handlers = handlers

    def handle(self, event: e.SpaceEvent, now_ms: int) -> list[e.SpaceInstruction]:
        """Take an event; return what is to be done, in order.

        Raises
        ------
        ProtocolError
            Only for `FromAgent`: a ticket that cannot be decoded. The machine's state is unchanged.
        """
        self._now = now_ms
        self._out = []
        self._handlers[type(event)](event)
        return self._out

    @property
    def deadline_ms(self) -> int | None:
        """When the next `Tick` is wanted; None: not before another event."""
        due = [at for at in (self._report_due, self._output_due, self._retry_due) if at is not None]
        if self._closing:
            due.append(self._closing[0][0])
        return min(due) if due else None

    @property
    def live_slots(self) -> int:
        """How many slots the shell still holds something for."""
        return len(self._slots)

    # ------------------------------------------------------------------ agent

    def _agent_connected(self, event: e.AgentConnected) -> None:
        self._agent = True
        self._backlog_bytes = 0

    def _agent_lost(self, event: e.AgentLost) -> None:
        self._agent = False
        self._backlog_bytes = 0
        self._line.clear()
        self._output_due = None
        for job in self.jobs.values():
            job.muted = True
            self._set_sending(job)

    def _from_agent(self, event: e.FromAgent) -> None:
        self._handlers[type(event.command)](event.command)

    def _inventorize(self, command: m.Inventorize) -> None:
        self._untold.clear()
        self._report_due = None
        listed = []
        for job in self.jobs.values():
            listed.append(job.inventory())
            if job.notes:
                self._tell(job, self._now)
            if not job.unstarted:
                job.started_told = True
            if not job.live:
                job.over_told = True
        self._send(m.Inventory(self.config.incarnation, listed, self.config.init_pid, self.admitted_after))
        for job in self.jobs.values():
            job.muted = False
            self._set_sending(job)
            self._send_again(job)
            if job.sending and job.reading:
                self._say_ends(job)
        self._pump()

    def _send(self, message: m.SpaceAnswer) -> None:
        if self._agent:
            self._out.append(e.ToAgent(message))

    def _backlog(self, event: e.Backlog) -> None:
        self._backlog_bytes = event.size_bytes
        if event.size_bytes < BACKLOG_LIMIT_BYTES and self._line and self._output_due is None:
            self._pump()

    # ------------------------------------------------------------------ launching

    def _launch(self, command: m.Launch) -> None:
        ticket = m.decode_ticket(command.ticket)
        known = self.jobs.get(ticket.job)
        if known is not None:
            known.muted = False
            known.repeat_everything(self.config.node)
            self._set_sending(known)
            self._tell(known, self._now)
            return
        numbers = m.ranks_on(ticket, self.config.node)
        if not numbers:
            self._log("warning", f"the ticket of job {ticket.job} names no rank on node {self.config.node}")
            return
        refusal = self._refusal(ticket)
        if refusal:
            self._log("warning", f"job {ticket.job} refused: {refusal}")
            error = ESTALE if self.tombstones.refuses(ticket.job, ticket.issued_at_ms) else 0
            failed = [m.Failure(self.config.node, number, error, refusal) for number in numbers]
            self._send(m.Report(ticket.job, [], [], failed, 1, 1))
            return
        window_bytes = max(1, min(ticket.window_bytes, self.config.window_limit_bytes))
        job = self.jobs[ticket.job] = Job(command, ticket, window_bytes)
        slots: list[tuple[int, int]] = []
        for number in numbers:
            slot = self._next_slot
            self._next_slot += 1
            job.ranks[number] = self._slots[slot] = Rank(slot, number, job)
            slots.append((slot, number))
        job.live = job.unstarted = len(slots)
        self._set_sending(job)
        size = sum(ticket.runs[1::2])
        self._out.append(e.StartRanks(ticket.job, ticket, size, slots))

    def _refusal(self, ticket: m.Ticket) -> str:
        if self.tombstones.refuses(ticket.job, ticket.issued_at_ms):
            return f"job {ticket.job} was released already; its ticket starts nothing again"
        if len(self.jobs) >= self.config.max_jobs:
            return f"the node holds {len(self.jobs)} jobs, which is its limit; release some of them"
        return ""

    def _started(self, event: e.Started) -> None:
        rank = self._slots.get(event.slot)
        if rank is None or rank.job is None or rank.state != QUEUED:
            self._out.append(e.Destroy([event.slot]))
            return
        job = rank.job
        rank.pid = event.pid
        rank.state = RUNNING
        job.unstarted -= 1
        job.started += (self.config.node, rank.number, event.pid)
        self._tell(job, self._now + REPORT_DELAY_MS)
        for signal in rank.pending_signals:
            self._out.append(e.Signal(rank.slot, signal))
        rank.pending_signals = []
        if rank.input is not None:
            self._feed(rank)

    def _start_failed(self, event: e.StartFailed) -> None:
        rank = self._slots.pop(event.slot, None)
        self._out.append(e.ForgetSlots([event.slot]))
        if rank is None or rank.job is None:
            return
        job = rank.job
        rank.state = FAILED
        rank.failure = m.Failure(self.config.node, rank.number, event.error, event.text)
        job.unstarted -= 1
        job.live -= 1
        job.failed.append(rank.failure)
        self._leave_input(rank)
        self._tell(job, self._now)

    # ------------------------------------------------------------------ the end of a rank

    def _exited(self, event: e.Exited) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.state = EXITED
            rank.status = event.status
            self._leave_input(rank)
        if event.clean:
            self._swept(e.Swept(event.slot))
        else:
            self._out.append(e.Sweep(event.slot))

    def _swept(self, event: e.Swept) -> None:
        rank = self._slots.get(event.slot)
        if rank is None:
            self._out += (e.CloseOutputs(event.slot), e.ForgetSlots([event.slot]))
            return
        rank.swept = True
        if rank.job is None:
            self._out.append(e.CloseOutputs(event.slot))
        elif not all(rank.output_ended):
            # Nobody is left to write. A paused pipe is emptied, past its limit by what a pipe holds; the end of any
            # other follows at once, unless somebody outside the space holds it open: then it is cut off after a while.
            if any(rank.paused):
                self._out.append(e.CloseOutputs(rank.slot))
            else:
                self._closing.append((self._now + STRAY_PIPE_MS, rank))
        self._maybe_over(rank)

    def _write_ended(self, event: e.WriteEnded) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.output_ended[event.stream - 1] = True
            self._maybe_over(rank)

    def _maybe_over(self, rank: Rank) -> None:
        if rank.state != EXITED or not rank.swept or not all(rank.output_ended):
            return
        rank.state = OVER
        del self._slots[rank.slot]
        self._out.append(e.ForgetSlots([rank.slot]))
        job = rank.job
        if job is None:
            return
        job.live -= 1
        job.exited += (self.config.node, rank.number, rank.status, rank.written(0), rank.written(1))
        self._tell(job, self._now if job.live == 0 else self._now + EXIT_DELAY_MS)

    def _tell(self, job: Job, due_ms: int) -> None:
        self._untold[job.id] = job
        if self._report_due is None or due_ms < self._report_due:
            self._report_due = due_ms

    def _report(self) -> None:
        self._report_due = None
        untold, self._untold = self._untold, {}
        for job in untold.values():
            if job.muted or not self._agent:
                continue
            report = job.take_report()
            if report is not None:
                self._send(report)

    def _release(self, command: m.Release) -> None:
        job = self.jobs.pop(command.job, None)
        if job is None:
            return
        self.tombstones.bury(job.id, job.issued_at_ms, self._now)
        self._untold.pop(job.id, None)
        if job.unstarted:
            self._out.append(e.CancelStarts(job.id))
        destroyed: list[int] = []
        for rank in job.ranks.values():
            rank.job = None
            rank.input = None
            if rank.state == QUEUED:
                del self._slots[rank.slot]
            elif rank.state in (RUNNING, EXITED):
                destroyed.append(rank.slot)
                if rank.swept:
                    self._out.append(e.CloseOutputs(rank.slot))
            for index in (0, 1):
                stream = rank.outputs[index]
                if stream is not None:
                    stream.close()
                    rank.outputs[index] = None
                self._regulate(rank, index)
        if destroyed:
            self._out.append(e.Destroy(destroyed))

    # ------------------------------------------------------------------ output

    def _wrote(self, event: e.Wrote) -> None:
        rank = self._slots.get(event.slot)
        if rank is None or rank.job is None:
            return
        job = rank.job
        index = event.stream - 1
        stream = rank.outputs[index]
        if stream is None:
            stream = rank.outputs[index] = OutputStream(rank.slot * 2 + index, self._spool)
        limit = job.window_bytes + CHUNK_BYTES if job.sending else self.config.stream_memory_bytes
        stream.append(event.data, limit, self.config.spool_limit_bytes)
        if stream.stuck:
            self._mark_stuck(rank, index, stream)
        if job.sending:
            self._line_up(rank, index)
            if stream.end - stream.sent >= OUTPUT_AT_ONCE_BYTES:
                self._pump()
            elif self._line and self._output_due is None:
                self._output_due = self._now + OUTPUT_DELAY_MS
        self._regulate(rank, index)

    def _mark_stuck(self, rank: Rank, index: int, stream: OutputStream) -> None:
        self._stuck[stream.key] = (rank, index)
        if self._retry_due is None:
            self._retry_due = self._now + RETRY_MS
        job = rank.job
        full = stream.spooled_bytes < self.config.spool_limit_bytes
        if full and job is not None and not job.full_disk_logged:
            job.full_disk_logged = True
            self._log("warning", f"the spool's disk is full: job {job.id} waits until there is room or a reader")

    def _line_up(self, rank: Rank, index: int) -> None:
        stream = rank.outputs[index]
        job = rank.job
        if stream is None or job is None or not job.sending or rank.waiting[index]:
            return
        if stream.sent < min(stream.end, stream.acked + job.window_bytes):
            rank.waiting[index] = True
            self._line.append((rank, index))

    def _pump(self) -> None:
        """Send output, one chunk of each stream in turn, as long as the agent takes it."""
        self._output_due = None
        line = self._line
        while line and self._backlog_bytes < BACKLOG_LIMIT_BYTES:
            rank, index = line.popleft()
            rank.waiting[index] = False
            stream = rank.outputs[index]
            job = rank.job
            if stream is None or job is None or not job.sending:
                continue
            room = stream.acked + job.window_bytes - stream.sent
            data = stream.peek(min(CHUNK_BYTES, room)) if room > 0 else b""
            if not data:
                continue
            message = m.Output(job.id, rank.number, index + 1, stream.sent, data, stream.acked, job.reading)
            stream.sent += len(data)
            self._backlog_bytes += len(data)
            self._out.append(e.ToAgent(message, True))
            self._line_up(rank, index)

    def _set_sending(self, job: Job) -> None:
        job.sending = job.attended and not job.muted and self._agent
        for rank in job.ranks.values():
            for index in (0, 1):
                if not job.sending:
                    rank.waiting[index] = False
                self._regulate(rank, index)

    def _send_again(self, job: Job) -> None:
        for rank in job.ranks.values():
            for index in (0, 1):
                stream = rank.outputs[index]
                if stream is not None:
                    stream.rewind()
                    self._line_up(rank, index)

    def _say_ends(self, job: Job) -> None:
        """Tell a new reader where the streams stand of which a former one has read everything."""
        for rank in job.ranks.values():
            for index in (0, 1):
                stream = rank.outputs[index]
                if stream is not None and stream.end and not stream.kept_bytes:
                    end = m.Output(job.id, rank.number, index + 1, stream.end, b"", stream.end, job.reading)
                    self._out.append(e.ToAgent(end, True))

    def _regulate(self, rank: Rank, index: int) -> None:
        """Read the rank's pipe, or leave it alone, as the limits say."""
        stream = rank.outputs[index]
        job = rank.job
        if stream is None or job is None:
            pause = False
        elif job.sending:
            pause = stream.stuck or stream.kept_bytes >= job.window_bytes
        else:
            pause = stream.stuck
        if pause != rank.paused[index] and not rank.output_ended[index]:
            rank.paused[index] = pause
            kind = e.PauseReading if pause else e.ResumeReading
            self._out.append(kind(rank.slot, index + 1))

    def _ack(self, command: m.Ack) -> None:
        job = self.jobs.get(command.job)
        rank = job.ranks.get(command.rank) if job is not None else None
        if rank is None:
            return
        index = command.stream - 1
        stream = rank.outputs[index]
        if stream is None:
            return
        stream.ack(command.offset)
        self._regulate(rank, index)
        self._line_up(rank, index)
        self._pump()

    def _attend(self, command: m.Attend) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        job.attended = command.attended
        job.reading = command.reading
        self._set_sending(job)
        if job.sending:
            # Always from the acknowledged offset: what was on its way to a former reader may never have arrived there.
            self._send_again(job)
            self._say_ends(job)
            self._pump()

    # ------------------------------------------------------------------ input

    def _stdin(self, command: m.Stdin) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        if command.ranks is None:
            if job.broadcast is None:
                job.broadcast = Input(-1, self._readers(job, list(job.ranks.values())))
            self._take_input(job, job.broadcast, command)
            return
        for number in command.ranks:
            rank = job.ranks.get(number)
            if rank is None:
                continue
            if rank.input is None:
                self._take_input(job, Input(number, self._readers(job, [rank])), command)
            elif rank.input.rank_number == number:
                self._take_input(job, rank.input, command)

    def _readers(self, job: Job, ranks: list[Rank]) -> list[Rank]:
        if not job.takes_input:
            return []
        return [rank for rank in ranks if rank.state in (QUEUED, RUNNING) and rank.input is None and not rank.end_fed]

    def _take_input(self, job: Job, source: Input, command: m.Stdin) -> None:
        stream = source.stream
        before, had_ended = stream.end, stream.ended
        if not source.readers:
            self._tell_input(job, source)
            return
        if not stream.take(command.offset, command.data, command.end):
            held = f"{stream.start} to {stream.end}"
            self._log("warning", f"input of job {job.id} at {command.offset} does not fit: {held} is held")
        if stream.end == before and stream.ended == had_ended:
            # Nothing new: the sender has not heard how far we are.
            self._tell_input(job, source)
            return
        for rank in list(source.readers.values()):
            self._feed(rank)

    def _feed(self, rank: Rank) -> None:
        source = rank.input
        if source is None or rank.feeding or rank.state != RUNNING:
            return
        stream = source.stream
        if rank.position < stream.end:
            data = stream.peek(rank.position)
            rank.feeding = len(data)
            self._out.append(e.Feed(rank.slot, data))
        elif stream.ended and not rank.end_fed:
            rank.end_fed = True
            self._out.append(e.FeedEnd(rank.slot))

    def _fed(self, event: e.Fed) -> None:
        rank = self._slots.get(event.slot)
        if rank is None or rank.input is None or rank.job is None:
            return
        old = rank.position
        rank.position += rank.feeding
        rank.feeding = 0
        rank.input.moved(old)
        if rank.input.untold():
            self._tell_input(rank.job, rank.input)
        self._feed(rank)

    def _input_closed(self, event: e.InputClosed) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.end_fed = True
            self._leave_input(rank)

    def _leave_input(self, rank: Rank) -> None:
        source, job = rank.input, rank.job
        rank.feeding = 0
        if source is None or job is None:
            return
        source.leave(rank)
        # That a rank which is over reads no more goes without saying: its exit says it, and saves a message per node.
        if (source.readers or rank.state == RUNNING) and source.untold():
            self._tell_input(job, source)

    def _tell_input(self, job: Job, source: Input) -> None:
        source.stream.told = source.offset
        if not job.muted:
            self._send(m.StdinAck(job.id, source.offset, source.rank_number))

    # ------------------------------------------------------------------ questions and control

    def _query(self, command: m.Query) -> None:
        known = self._replies.get(command.id)
        if known is not None:
            self._send(known)
            return
        slots: list[int] | None = None
        if command.job is not None:
            job = self.jobs.get(command.job)
            if job is None:
                self._send(m.Reply(command.id, 0, []))
                return
            wanted = job.ranks if command.ranks is None else {n: job.ranks[n] for n in command.ranks if n in job.ranks}
            if command.ranks is not None:
                slots = [rank.slot for rank in wanted.values()]
            if command.signal and command.pids is None:
                for rank in wanted.values():
                    if rank.state == QUEUED and len(rank.pending_signals) < MAX_PENDING_SIGNALS:
                        rank.pending_signals.append(command.signal)
        if command.signal:
            # Remembered before it is done: whatever happens, it is not done twice.
            self._replies[command.id] = m.Reply(command.id, 0, [])
            while len(self._replies) > MAX_REMEMBERED_QUERIES:
                self._replies.popitem(last=False)
        self._out.append(
            e.Select(command.id, command.job or "", slots, command.pids, command.signal, command.detail),
        )

    def _selected(self, event: e.Selected) -> None:
        reply = m.Reply(event.query, event.matched, event.processes)
        if event.query in self._replies:
            # The rows of a repeated answer are left out: a thousand remembered tables would not be small.
            self._replies[event.query] = m.Reply(event.query, event.matched, [])
        self._send(reply)

    def _resize(self, command: m.Resize) -> None:
        job = self.jobs.get(command.job)
        if job is not None:
            slots = [rank.slot for rank in job.ranks.values() if rank.state == RUNNING]
            self._out.append(e.ResizeTerminals(slots, command.rows, command.columns))

    def _fetch_launch(self, command: m.FetchLaunch) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            self._send(m.LaunchCopy(command.job, b"", b""))
        else:
            self._send(m.LaunchCopy(command.job, job.launch.ticket, job.launch.signature))

    def _admit(self, command: m.Admit) -> None:
        if command.incarnation == self.config.incarnation and not self.admitted_after:
            self.admitted_after = command.after

    def _counted(self, event: e.Counted) -> None:
        job = self.jobs.get(event.job)
        if job is None or not job.max_processes or event.processes <= job.max_processes or job.limit_hit:
            return
        job.limit_hit = True
        text = f"the job was ended on this node: {event.processes} processes exceed its limit of {job.max_processes}"
        self._log("warning", f"job {job.id}: {text}")
        live = [rank for rank in job.ranks.values() if rank.state in (RUNNING, EXITED)]
        for rank in job.ranks.values():
            if rank.state == QUEUED:
                rank.pending_signals.append(9)
        first = next(iter(job.ranks.values()))
        job.notes.append(m.Failure(self.config.node, first.number, 0, text))
        self._out.append(e.Destroy([rank.slot for rank in live]))
        self._tell(job, self._now)

    # ------------------------------------------------------------------ time

    def _tick(self, event: e.Tick) -> None:
        now = self._now
        while self._closing and (self._closing[0][0] <= now or self._closing[0][1].state == OVER):
            _, rank = self._closing.popleft()
            if rank.state == EXITED:
                self._out.append(e.CloseOutputs(rank.slot))
        report = self._report_due is not None and self._report_due <= now
        if report or (self._output_due is not None and self._output_due <= now):
            self._pump()
        if report:
            self._report()
        if self._retry_due is not None and self._retry_due <= now:
            self._retry_due = None
            self._retry_spool()

    def _retry_spool(self) -> None:
        stuck, self._stuck = self._stuck, {}
        for rank, index in stuck.values():
            stream = rank.outputs[index]
            if stream is None:
                continue
            stream.settle(self.config.spool_limit_bytes)
            if stream.stuck:
                self._mark_stuck(rank, index, stream)
            self._regulate(rank, index)

    def _log(self, level: str, text: str) -> None:
        self._out.append(e.SpaceLog(level, text))
