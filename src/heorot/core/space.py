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
nobody reads, or there is no head (`heorot.core.space_alone`), it is kept in memory, then in the spool; only when both
are full the rank is left to wait in its write.
While somebody reads slowly, the rank waits as soon as the window is full.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from heorot.core import messages as m
from heorot.core import space_events as e
from heorot.core.space_alone import Solitude
from heorot.core.space_input import InputSide
from heorot.core.space_jobs import EXITED, FAILED, OVER, QUEUED, RUNNING, Job, Rank, Tombstones
from heorot.core.space_output import OutputSide
from heorot.core.space_turn import Turn
from heorot.core.space_view import views
from heorot.core.streams import Spool

REPORT_DELAY_MS = 100
"""A start is reported alone only if the process still runs after this time; else together with its exit."""
UNATTENDED_REPORT_DELAY_MS = 2
"""The same for a job whose client has not stayed: whoever asks how it is shall hear that it runs."""
EXIT_DELAY_MS = 2
"""Exits wait this long for others while more ranks of the job run here."""
STRAY_PIPE_MS = 2000
"""How long a pipe may stay open after everything that the rank started is gone (somebody outside holds it)."""
MAX_REMEMBERED_QUERIES = 1024
MAX_PENDING_SIGNALS = 16
MAX_FAILURE_CHARACTERS = 1024
"""A failure may quote an argument of 128 KiB, and thousands of them must fit into one inventory."""
HARMLESS_SIGNALS = frozenset({0, 17, 18, 19, 20, 21, 22, 23, 28})
"""Those that end no process that does not ask for it: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH."""
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
        self.epoch = 0
        """The highest that an agent told of, for whoever asks; the agent alone decides what is obeyed."""
        self._began_ms: int | None = None
        self.admitted_after = ""
        """What `Admit` said; the agent watches over it."""
        self._slots: dict[int, Rank] = {}
        self._next_slot = 1
        self._turn = Turn()
        self.output = OutputSide(config, spool, self._turn)
        self._input = InputSide(self._turn)
        self.solitude = Solitude(config.node, self._turn, self.jobs, self._tell)
        self._untold: dict[str, Job] = {}
        """Jobs that have something to report."""
        self._closing: deque[tuple[int, Rank]] = deque()
        self._replies: OrderedDict[int, m.Reply] = OrderedDict()
        self._report_due: int | None = None
        handlers: dict[type, Callable[[Any], None]] = {
            e.AgentConnected: self._agent_connected,
            e.AgentLost: self._agent_lost,
            e.FromAgent: self._from_agent,
            e.Remarked: self._remarked,
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
            m.Alone: self._alone,
            m.RefuseLaunch: self._refuse_launch,
        }
        self._handlers = handlers

    def handle(self, event: e.SpaceEvent, now_ms: int) -> list[e.SpaceInstruction]:
        """Take an event; return what is to be done, in order.

        Raises
        ------
        ProtocolError
            Only for `FromAgent`: a ticket that cannot be decoded. The machine's state is unchanged.
        """
        turn = self._turn
        turn.now = now_ms
        turn.out = []
        if self._began_ms is None:
            self._began_ms = now_ms
        self._handlers[type(event)](event)
        return turn.out

    @property
    def deadline_ms(self) -> int | None:
        """When the next `Tick` is wanted; None: not before another event."""
        due = self._report_due
        for at in (self.output.due_ms, self.output.retry_ms, self.solitude.due_ms):
            if at is not None and (due is None or at < due):
                due = at
        if self._closing and (due is None or self._closing[0][0] < due):
            due = self._closing[0][0]
        return due

    @property
    def live_slots(self) -> int:
        """How many slots the shell still holds something for."""
        return len(self._slots)

    def look(self, processes: list[m.Process], now_ms: int) -> list[m.View]:
        """Return what the space holds, for somebody who is no agent; `processes` are all of the space."""
        since_ms = self.solitude.since_ms
        headless_ms = None if since_ms is None else max(0, now_ms - since_ms)
        own = self.config
        blank = m.View(own.node, own.incarnation, self.epoch, self._turn.agent, headless_ms, [], [])
        return views(blank, self.jobs, processes)

    # ------------------------------------------------------------------ agent

    def _agent_connected(self, event: e.AgentConnected) -> None:
        self._turn.agent = True
        self.output.agent_changed()

    def _agent_lost(self, event: e.AgentLost) -> None:
        self._turn.agent = False
        self.output.agent_changed()
        self.solitude.change(True)
        for job in self.jobs.values():
            job.muted = True
            self.output.set_sending(job)

    def _from_agent(self, event: e.FromAgent) -> None:
        self._handlers[type(event.command)](event.command)

    def _alone(self, command: m.Alone) -> None:
        self.epoch = max(self.epoch, command.epoch)
        if not self.solitude.change(command.alone):
            return
        for job in self.jobs.values():
            self.output.set_sending(job)
            if job.sending:
                # What was sent last may have been lost with the way up. A new inventory follows as a rule, so that
                # this waits a moment for it.
                self.output.send_again(job)
        self.output.pump_soon()

    def _inventorize(self, command: m.Inventorize) -> None:
        self.epoch = max(self.epoch, command.epoch)
        self.solitude.change(command.alone)
        self._untold.clear()
        self._report_due = None
        listed = []
        for job in self.jobs.values():
            listed.append(job.inventory())
            if job.notes:
                self._tell(job, self._turn.now)
            if not job.unstarted:
                job.started_told = True
            if not job.live:
                job.over_told = True
        own = self.config
        assert self._began_ms is not None
        age_ms = self._turn.now - self._began_ms
        self._turn.send(
            m.Inventory(own.incarnation, listed, own.init_pid, self.admitted_after, True, True, age_ms, True)
        )
        for job in self.jobs.values():
            job.muted = False
            self.output.set_sending(job)
            self.output.send_again(job)
            if job.sending and job.reading:
                self.output.say_ends(job)
        self.output.pump()

    def _backlog(self, event: e.Backlog) -> None:
        self.output.backlog(event.size_bytes)

    # ------------------------------------------------------------------ launching

    def _refuse_launch(self, command: m.RefuseLaunch) -> None:
        self._launch(m.Launch(command.ticket, command.signature), command.text)

    def _launch(self, command: m.Launch, problem: str = "") -> None:
        """Start a job, or with a `problem` keep it as one whose ranks could not be started."""
        ticket = m.decode_ticket(command.ticket)
        known = self.jobs.get(ticket.job)
        if known is not None:
            if known.waiting and problem:
                self._fail_queued(known, problem)
            elif known.waiting and not command.waits:
                self._start_queued(known, command, ticket)
            known.muted = False
            known.repeat_everything(self.config.node)
            self.output.set_sending(known)
            self._tell(known, self._turn.now)
            return
        numbers = m.ranks_on(ticket, self.config.node)
        if not numbers:
            self._turn.log("warning", f"the ticket of job {ticket.job} names no rank on node {self.config.node}")
            return
        refusal = self._refusal(ticket)
        if refusal:
            self._turn.log("warning", f"job {ticket.job} refused: {refusal}")
            error = ESTALE if self.tombstones.refuses(ticket.job, ticket.issued_at_ms) else 0
            failed = [m.Failure(self.config.node, number, error, refusal) for number in numbers]
            self._turn.send(m.Report(ticket.job, [], [], failed, 1, 1))
            return
        window_bytes = max(1, min(ticket.window_bytes, self.config.window_limit_bytes))
        job = self.jobs[ticket.job] = Job(command, ticket, window_bytes)
        slots: list[tuple[int, int]] = []
        for number in numbers:
            slot = self._next_slot
            self._next_slot += 1
            job.ranks[number] = self._slots[slot] = Rank(slot, number, job)
            slots.append((slot, number))
        if problem:
            self._fail_all(job, problem)
            return
        job.live = job.unstarted = len(slots)
        self.output.set_sending(job)
        self.solitude.reckon()
        size = sum(ticket.runs[1::2])
        if not job.waiting:
            self._turn.out.append(e.StartRanks(ticket.job, ticket, size, slots, command.view))

    def _start_queued(self, job: Job, command: m.Launch, ticket: m.Ticket) -> None:
        """The program of a job has come."""
        job.waiting = False
        slots = [(rank.slot, rank.number) for rank in job.ranks.values() if rank.state == QUEUED]
        if slots:
            size = sum(ticket.runs[1::2])
            self._turn.out.append(e.StartRanks(ticket.job, ticket, size, slots, command.view))

    def _fail_queued(self, job: Job, problem: str) -> None:
        """The program of a job that waits for it will not come."""
        for rank in self._give_up_queued(job, list(job.ranks.values())):
            rank.state = FAILED
            rank.failure = m.Failure(self.config.node, rank.number, 0, problem[:MAX_FAILURE_CHARACTERS])
            job.failed.append(rank.failure)
        self._tell(job, self._turn.now)

    def _end_queued(self, job: Job, ranks: list[Rank], signal: int) -> int:
        """A signal ends ranks whose program is on its way, as it would have ended their processes; return how many."""
        ended = self._give_up_queued(job, ranks)
        for rank in ended:
            rank.state = OVER
            rank.status = signal
            job.exited += (self.config.node, rank.number, signal, 0, 0)
        self._tell(job, self._turn.now)
        return len(ended)

    def _give_up_queued(self, job: Job, ranks: list[Rank]) -> list[Rank]:
        """Start those of the ranks that wait for their program nevermore; return them, to be given an end."""
        queued = [rank for rank in ranks if rank.state == QUEUED]
        for rank in queued:
            del self._slots[rank.slot]
            self._input.leave(rank)
        job.live -= len(queued)
        job.unstarted -= len(queued)
        return queued

    def _fail_all(self, job: Job, problem: str) -> None:
        self._turn.log("warning", f"job {job.id}: {problem}")
        for rank in job.ranks.values():
            del self._slots[rank.slot]
            rank.state = FAILED
            rank.failure = m.Failure(self.config.node, rank.number, 0, problem[:MAX_FAILURE_CHARACTERS])
            job.failed.append(rank.failure)
        self.output.set_sending(job)
        self._tell(job, self._turn.now)

    def _refusal(self, ticket: m.Ticket) -> str:
        if self.tombstones.refuses(ticket.job, ticket.issued_at_ms):
            return f"job {ticket.job} was released already; its ticket starts nothing again"
        if len(self.jobs) >= self.config.max_jobs:
            return f"the node holds {len(self.jobs)} jobs, which is its limit; release some of them"
        return ""

    def _remarked(self, event: e.Remarked) -> None:
        job = self.jobs.get(event.job)
        if job is not None:
            job.caveat = event.text[:MAX_FAILURE_CHARACTERS]

    def _started(self, event: e.Started) -> None:
        rank = self._slots.get(event.slot)
        if rank is None or rank.job is None or rank.state != QUEUED:
            self._turn.out.append(e.Destroy([event.slot]))
            return
        job = rank.job
        rank.pid = event.pid
        rank.state = RUNNING
        job.unstarted -= 1
        job.started += (self.config.node, rank.number, event.pid)
        self._tell(job, self._turn.now + (REPORT_DELAY_MS if job.attended else UNATTENDED_REPORT_DELAY_MS))
        for signal in rank.pending_signals:
            self._turn.out.append(e.Signal(rank.slot, signal))
        rank.pending_signals = []
        if rank.input is not None:
            self._input.feed(rank)

    def _start_failed(self, event: e.StartFailed) -> None:
        rank = self._slots.pop(event.slot, None)
        self._turn.out.append(e.ForgetSlots([event.slot]))
        if rank is None or rank.job is None:
            return
        job = rank.job
        rank.state = FAILED
        rank.failure = m.Failure(self.config.node, rank.number, event.error, event.text[:MAX_FAILURE_CHARACTERS])
        job.unstarted -= 1
        job.live -= 1
        job.failed.append(rank.failure)
        self._input.leave(rank)
        self._tell(job, self._turn.now)

    # ------------------------------------------------------------------ the end of a rank

    def _exited(self, event: e.Exited) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.state = EXITED
            rank.status = event.status
            self._input.leave(rank)
        if event.clean:
            self._swept(e.Swept(event.slot))
        else:
            self._turn.out.append(e.Sweep(event.slot))

    def _swept(self, event: e.Swept) -> None:
        rank = self._slots.get(event.slot)
        if rank is None:
            self._turn.out += (e.CloseOutputs(event.slot), e.ForgetSlots([event.slot]))
            return
        rank.swept = True
        if rank.job is None:
            self._turn.out.append(e.CloseOutputs(event.slot))
        elif not all(rank.output_ended):
            # Nobody is left to write. A paused pipe is emptied, past its limit by what a pipe holds; the end of any
            # other follows at once, unless somebody outside the space holds it open: then it is cut off after a while.
            if any(rank.paused):
                self._turn.out.append(e.CloseOutputs(rank.slot))
            else:
                self._closing.append((self._turn.now + STRAY_PIPE_MS, rank))
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
        self._turn.out.append(e.ForgetSlots([rank.slot]))
        job = rank.job
        if job is None:
            return
        job.live -= 1
        if job.caveat and rank.status > 0xFF and not rank.status & 0x7F:
            # It has exited with something else than 0: now it matters.
            job.note(m.Failure(self.config.node, rank.number, 0, job.caveat))
            job.caveat = ""
        job.exited += (self.config.node, rank.number, rank.status, rank.written(0), rank.written(1))
        self._tell(job, self._turn.now if job.live == 0 else self._turn.now + EXIT_DELAY_MS)

    def _tell(self, job: Job, due_ms: int) -> None:
        self._untold[job.id] = job
        if self._report_due is None or due_ms < self._report_due:
            self._report_due = due_ms

    def _report(self) -> None:
        self._report_due = None
        untold, self._untold = self._untold, {}
        for job in untold.values():
            if job.muted or not self._turn.agent:
                continue
            report = job.take_report()
            if report is not None:
                self._turn.send(report)

    def _release(self, command: m.Release) -> None:
        job = self.jobs.pop(command.job, None)
        if job is None:
            return
        self.tombstones.bury(job.id, job.issued_at_ms, self._turn.now)
        self._untold.pop(job.id, None)
        if job.unstarted:
            self._turn.out.append(e.CancelStarts(job.id))
        destroyed: list[int] = []
        for rank in job.ranks.values():
            rank.job = None
            rank.input = None
            if rank.state == QUEUED:
                del self._slots[rank.slot]
            elif rank.state in (RUNNING, EXITED):
                destroyed.append(rank.slot)
                if rank.swept:
                    self._turn.out.append(e.CloseOutputs(rank.slot))
            self.output.drop(rank)
        if destroyed:
            self._turn.out.append(e.Destroy(destroyed))

    # ------------------------------------------------------------------ streams

    def _wrote(self, event: e.Wrote) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            self.output.wrote(rank, event.stream - 1, event.data)

    def _ack(self, command: m.Ack) -> None:
        job = self.jobs.get(command.job)
        rank = job.ranks.get(command.rank) if job is not None else None
        if rank is not None:
            self.output.ack(rank, command.stream - 1, command.offset)

    def _attend(self, command: m.Attend) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        job.attended = command.attended
        job.reading = command.reading
        self.output.set_sending(job)
        if job.sending:
            # Always from the acknowledged offset: what was on its way to a former reader may never have arrived there.
            self.output.send_again(job)
            self.output.say_ends(job)
            self.output.pump()

    def _stdin(self, command: m.Stdin) -> None:
        job = self.jobs.get(command.job)
        if job is not None:
            self._input.take(job, command)

    def _fed(self, event: e.Fed) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            self._input.fed(rank)

    def _input_closed(self, event: e.InputClosed) -> None:
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.end_fed = True
            self._input.leave(rank)

    # ------------------------------------------------------------------ questions and control

    def _query(self, command: m.Query) -> None:
        known = self._replies.get(command.id)
        if known is not None:
            self._turn.send(known)
            return
        slots: list[int] | None = None
        if command.job is not None:
            job = self.jobs.get(command.job)
            if job is None:
                self._turn.send(m.Reply(command.id, 0, []))
                return
            wanted = job.ranks if command.ranks is None else {n: job.ranks[n] for n in command.ranks if n in job.ranks}
            if command.ranks is not None:
                slots = [rank.slot for rank in wanted.values()]
            if job.waiting and command.pids is None and command.signal not in HARMLESS_SIGNALS:
                if command.uid in (-1, job.uid):
                    ended = self._end_queued(job, list(wanted.values()), command.signal)
                    self._remember(m.Reply(command.id, ended, []))
                self._turn.send(self._replies.get(command.id, m.Reply(command.id, 0, [])))
                return
            if command.signal and command.pids is None:
                for rank in wanted.values():
                    if rank.state == QUEUED and len(rank.pending_signals) < MAX_PENDING_SIGNALS:
                        rank.pending_signals.append(command.signal)
        if command.signal:
            # Remembered before it is done: whatever happens, it is not done twice.
            self._remember(m.Reply(command.id, 0, []))
        self._turn.out.append(
            e.Select(command.id, command.job or "", slots, command.pids, command.signal, command.detail, command.uid),
        )

    def _remember(self, reply: m.Reply) -> None:
        self._replies[reply.id] = reply
        while len(self._replies) > MAX_REMEMBERED_QUERIES:
            self._replies.popitem(last=False)

    def _selected(self, event: e.Selected) -> None:
        reply = m.Reply(event.query, event.matched, event.processes)
        if event.query in self._replies:
            # The rows of a repeated answer are left out: a thousand remembered tables would not be small.
            self._replies[event.query] = m.Reply(event.query, event.matched, [])
        self._turn.send(reply)

    def _resize(self, command: m.Resize) -> None:
        job = self.jobs.get(command.job)
        if job is not None:
            slots = [rank.slot for rank in job.ranks.values() if rank.state == RUNNING]
            self._turn.out.append(e.ResizeTerminals(slots, command.rows, command.columns))

    def _fetch_launch(self, command: m.FetchLaunch) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            self._turn.send(m.LaunchCopy(command.job, b"", b""))
        else:
            self._turn.send(m.LaunchCopy(command.job, job.launch.ticket, job.launch.signature))

    def _admit(self, command: m.Admit) -> None:
        if command.incarnation == self.config.incarnation and not self.admitted_after:
            self.admitted_after = command.after

    def _counted(self, event: e.Counted) -> None:
        job = self.jobs.get(event.job)
        if job is None or not job.max_processes or event.processes <= job.max_processes or job.limit_hit:
            return
        job.limit_hit = True
        node = self.config.node
        text = f"it was ended on n{node}: {event.processes} processes exceed its limit of {job.max_processes}"
        self._turn.log("warning", f"job {job.id}: {text}")
        live = [rank for rank in job.ranks.values() if rank.state in (RUNNING, EXITED)]
        for rank in job.ranks.values():
            if rank.state == QUEUED:
                rank.pending_signals.append(9)
        first = next(iter(job.ranks.values()))
        job.note(m.Failure(self.config.node, first.number, 0, text))
        self._turn.out.append(e.Destroy([rank.slot for rank in live]))
        self._tell(job, self._turn.now)

    # ------------------------------------------------------------------ time

    def _tick(self, event: e.Tick) -> None:
        now = self._turn.now
        while self._closing and (self._closing[0][0] <= now or self._closing[0][1].state == OVER):
            _, rank = self._closing.popleft()
            if rank.state == EXITED:
                self._turn.out.append(e.CloseOutputs(rank.slot))
        self.solitude.tick()
        report = self._report_due is not None and self._report_due <= now
        if report or (self.output.due_ms is not None and self.output.due_ms <= now):
            # Before the report: an exit shall not overtake the last words.
            self.output.pump()
        if report:
            self._report()
        if self.output.retry_ms is not None and self.output.retry_ms <= now:
            self.output.retry_spool()
