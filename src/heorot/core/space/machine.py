"""The process space's machine, run by bpinit: what a node knows of its jobs, and what becomes of their bytes.

It is driven like every machine of the core: ``handle(event, now_ms)`` returns instructions that the shell carries out
in order; events and instructions are described in `heorot.core.space.events`. Instead of many timers there is one:
`deadline_ms` says when the machine wants a `Tick` at the latest. A shell looks at it after each turn of its loop, and
gives the `Tick` in the same turn if the deadline is now.

A rank's states are in `heorot.core.space.states`. Its life, as seen by a shell or a simulator::

    StartRanks ─▶ Started ─▶ Wrote* WriteEnded(1) WriteEnded(2); Exited (Sweep ─▶ Swept) ─▶ ForgetSlots
               └▶ StartFailed ─▶ ForgetSlots

Between its start and its exit a process may stop and go on. A rank is over when its process was reaped, nothing that it
started is left, and both of its streams are at their end. A
simulator gives ``Exited(clean=True)`` unless it wants to exercise sweeping, and passes its own `Spool`.

Output goes up as far as the reader's window allows (`Ack` moves it), and stays here until it is acknowledged. While
nobody reads, or there is no head (`heorot.core.space.headless`), it is kept in memory, then in the spool; only when
both are full the rank is left to wait in its write; while somebody reads slowly, as soon as the window is full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.space import events as e
from heorot.core.space.endings import Endings
from heorot.core.space.grace import Grace
from heorot.core.space.headless import Solitude
from heorot.core.space.input import InputSide
from heorot.core.space.jobs import Rank, SpaceJob, Tombstones
from heorot.core.space.launches import SpaceLaunches
from heorot.core.space.output import OutputSide
from heorot.core.space.pmi import PmiSide
from heorot.core.space.queries import Queries
from heorot.core.space.reports import ReportSide
from heorot.core.space.routes import SAID_BY_AGENT
from heorot.core.space.states import ALIVE, HELD, QUEUED, SWEPT
from heorot.core.space.stops import Stops
from heorot.core.space.time_limits import TimeLimits
from heorot.core.space.turn import Turn
from heorot.core.space.view import views
from heorot.core.streams import Spool
from heorot.core.wire import tree as m


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
        self.jobs: dict[str, SpaceJob] = {}
        self.tombstones = Tombstones()
        self.epoch = 0
        """The highest that an agent told of, for whoever asks; the agent alone decides what is obeyed."""
        self._began_ms: int | None = None
        self.admitted_after = ""
        """What `Admit` said; the agent watches over it."""
        self._slots: dict[int, Rank] = {}
        self._turn = Turn()
        self.output = OutputSide(config, spool, self._turn)
        self._input = InputSide(self._turn)
        self._reports = ReportSide(self._turn)
        self.pmi = PmiSide(config.node, self._turn, self._slots, self._reports.tell)
        self._stops = Stops(config.node, self._turn, self._slots, self._reports.tell)
        self._endings = Endings(
            config.node, self._turn, self._slots, self._input, self.pmi, self._reports.tell, self._stops.ended
        )
        self._grace = Grace(config.node, self._turn, self.jobs, self._reports.tell)
        self.solitude = Solitude(config.node, self._turn, self.jobs, self._grace.end)
        self._limits = TimeLimits(self._turn, self.jobs, self._grace.end)
        self._launches = SpaceLaunches(
            config,
            self._turn,
            self.jobs,
            self._slots,
            self.tombstones,
            self.output,
            self._input,
            self.pmi,
            self._reports.tell,
            self.solitude.reckon,
            self._limits.started,
        )
        self._queries = Queries(self._turn, self.jobs, self._launches.end_queued)
        handlers: dict[type, Callable[[Any], None]] = {
            e.AgentConnected: self._agent_connected,
            e.AgentLost: self._agent_lost,
            e.FromAgent: self._from_agent,
            e.Caveat: self._launches.caveat,
            e.ProcessStarted: self._launches.started,
            e.StartFailed: self._launches.start_failed,
            e.Wrote: self._wrote,
            e.WriteEnded: self._endings.write_ended,
            e.ProcessStopped: self._stops.stopped,
            e.ProcessContinued: self._stops.continued,
            e.ProcessExited: self._endings.exited,
            e.Swept: self._endings.swept,
            e.Fed: self._fed,
            e.InputClosed: self._input_closed,
            e.PmiSaid: self.pmi.said,
            e.Selected: self._queries.selected,
            e.Counted: self._counted,
            e.Backlog: self._backlog,
            e.Tick: self._tick,
        }
        self._handlers = handlers

    def handle(self, event: e.SpaceEvent, now_ms: int) -> list[e.SpaceInstruction]:
        """Take an event; return what is to be done, in order.

        Raises
        ------
        ProtocolError
            Only for `FromAgent`: a ticket that cannot be decoded, or what an agent may not say. The machine's state is
            unchanged.
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
        output = self.output
        due = self._reports.due_ms
        parts = self.solitude.due_ms, self._endings.due_ms, self._limits.due_ms, self._grace.due_ms
        for at in (output.due_ms, output.retry_ms, output.dry_ms, *parts):
            if at is not None and (due is None or at < due):
                due = at
        return due

    @property
    def live_slots(self) -> int:
        """How many slots the shell still holds something for."""
        return len(self._slots)

    def payer(self, command: m.SpaceCommand) -> int | None:
        """Return the user for whose turn a command waits; None: it is obeyed at once.

        Those wait that a client may send without end, of a few bytes each, for work that grows with the processes.
        """
        if isinstance(command, m.Query):
            if command.asker < 0 <= command.uid or (command.asker < 0 and not command.signal):
                return command.uid
            # An older head says no user only for root, and for jobs that it ends itself.
            return max(0, command.asker)
        if isinstance(command, m.Resize):
            job = self.jobs.get(command.job)
            return job.uid if job is not None else None
        return None

    def look(self, processes: list[m.Process], now_ms: int) -> list[m.SpaceView]:
        """Return what the space holds, for somebody who is no agent; `processes` are all of the space."""
        since_ms = self.solitude.since_ms
        headless_ms = None if since_ms is None else max(0, now_ms - since_ms)
        own = self.config
        blank = m.SpaceView(own.node, own.incarnation, self.epoch, self._turn.agent, headless_ms, [], [])
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
        SAID_BY_AGENT[type(event.command)](self, event.command)

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
        self._reports.clear()
        listed = []
        for job in self.jobs.values():
            listed.append(job.inventory())
            if job.notes:
                self._reports.tell(job, self._turn.now)
            if not job.unstarted:
                job.started_told = True
            if not job.live:
                job.over_told = True
        own = self.config
        assert self._began_ms is not None
        age_ms = self._turn.now - self._began_ms
        self._turn.send(m.Inventory(own.incarnation, listed, own.init_pid, self.admitted_after, age_ms))
        for job in self.jobs.values():
            job.muted = False
            self.output.set_sending(job)
            self.output.send_again(job)
            if job.sending and job.reading:
                self.output.say_ends(job)
        self.output.pump()

    def _backlog(self, event: e.Backlog) -> None:
        self.output.backlog(event.size_bytes)

    # ------------------------------------------------------------------ the end of a job

    def _release(self, command: m.Release) -> None:
        job = self.jobs.pop(command.job, None)
        if job is None:
            return
        self.tombstones.bury(job.id, job.issued_at_ms, self._turn.now)
        self._reports.forget(job)
        self.pmi.forget(job)
        if job.timed:
            self._limits.forget(job)
        if job.unstarted:
            self._turn.out.append(e.CancelStarts(job.id))
        destroyed: list[int] = []
        for rank in job.ranks.values():
            rank.job = None
            rank.input = None
            if rank.state is QUEUED:
                del self._slots[rank.slot]
            elif rank.state in HELD:
                destroyed.append(rank.slot)
                if rank.state is SWEPT:
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
            self.output.ack(rank, command.stream - 1, command.offset, command.limit)

    def _attend(self, command: m.Attend) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        job.attended = command.attended
        self.output.read_by(job, command.reading)
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

    # ------------------------------------------------------------------ control

    def _resize(self, command: m.Resize) -> None:
        job = self.jobs.get(command.job)
        if job is not None:
            slots = [rank.slot for rank in job.ranks.values() if rank.state in ALIVE]
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
        live = [rank for rank in job.ranks.values() if rank.state in HELD]
        for rank in job.ranks.values():
            if rank.state is QUEUED:
                rank.pending_signals.append(9)
        first = next(iter(job.ranks.values()))
        job.note(m.Failure(self.config.node, first.number, 0, text))
        self._turn.out.append(e.Destroy([rank.slot for rank in live]))
        self._reports.tell(job, self._turn.now)

    # ------------------------------------------------------------------ time

    def _tick(self, event: e.Tick) -> None:
        now = self._turn.now
        self._endings.tick()
        self.solitude.tick()
        if self._limits.due_ms is not None or self._grace.due_ms is not None:
            self._limits.tick()
            self._grace.tick()
        report = self._reports.due_ms is not None and self._reports.due_ms <= now
        if report or (self.output.due_ms is not None and self.output.due_ms <= now):
            # Before the report: an exit shall not overtake the last words.
            self.output.pump()
        self.output.end_dry_turns()
        if report:
            self._reports.send()
        if self.output.retry_ms is not None and self.output.retry_ms <= now:
            self.output.retry_spool()
