"""Launches on a node, from the ticket until each rank runs or has failed; a launch may wait for its program."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heorot.core.space import events as e
from heorot.core.space import states
from heorot.core.space.input import InputSide
from heorot.core.space.jobs import Rank, SpaceJob, Tombstones
from heorot.core.space.output import OutputSide
from heorot.core.space.pmi import PmiSide
from heorot.core.space.states import QUEUED
from heorot.core.space.turn import Turn
from heorot.core.wire import tree as m
from heorot.core.wire.launch import flaw_of

REPORT_DELAY_MS = 100
"""A start is reported alone only if the process still runs after this time; else together with its exit."""
UNATTENDED_REPORT_DELAY_MS = 2
"""The same for a job whose client has not stayed: whoever asks how it is shall hear that it runs."""
MAX_FAILURE_CHARACTERS = 1024
"""A failure may quote an argument of 128 KiB, and thousands of them must fit into one inventory."""
ESTALE = 116
"""The error of a rank whose job was released here before."""
NO_COMMAND = 127
"""What the exit status of a job of MPI is of which a rank could not be started."""


class SpaceLaunches:
    """Makes jobs of launches. `turn`, `jobs`, `slots` and `tombstones` are the machine's.

    Parameters
    ----------
    tell:
        Has a job's news reported by this time.
    reckon:
        Has it reckoned when jobs end for which there is no head.
    begins:
        Called with the job of each rank that was started.
    """

    def __init__(
        self,
        config: e.SpaceConfig,
        turn: Turn,
        jobs: dict[str, SpaceJob],
        slots: dict[int, Rank],
        tombstones: Tombstones,
        output: OutputSide,
        feeding: InputSide,
        pmi: PmiSide,
        tell: Callable[[SpaceJob, int], None],
        reckon: Callable[[], None],
        begins: Callable[[SpaceJob], None],
    ) -> None:
        self._config = config
        self._turn = turn
        self._jobs = jobs
        self._slots = slots
        self._tombstones = tombstones
        self._output = output
        self._input = feeding
        self._pmi = pmi
        self._tell = tell
        self._reckon = reckon
        self._begins = begins
        self._next_slot = 1

    def launch(self, command: m.Launch, problem: str = "") -> None:
        """Start a job, or with a `problem` keep it as one whose ranks could not be started."""
        ticket = m.decode_ticket(command.ticket)
        known = self._jobs.get(ticket.job)
        if known is not None:
            if known.waiting and problem:
                self._never_ran(known, self._give_up_queued(known, list(known.ranks.values())), problem)
            elif known.waiting and not command.waits:
                self._start_queued(known, command, ticket)
            known.muted = False
            known.repeat_everything(self._config.node)
            self._output.set_sending(known)
            self._pmi.repeat(known)
            self._tell(known, self._turn.now)
            return
        numbers = m.ranks_on(ticket, self._config.node)
        if not numbers:
            self._turn.log("warning", f"the ticket of job {ticket.job} names no rank on node {self._config.node}")
            return
        refusal = self._refusal(ticket)
        if refusal:
            self._turn.log("warning", f"job {ticket.job} refused: {refusal}")
            error = ESTALE if self._tombstones.refuses(ticket.job, ticket.issued_at_ms) else 0
            failed = [m.Failure(self._config.node, number, error, refusal) for number in numbers]
            self._turn.send(m.Report(ticket.job, [], [], failed, 1, 1))
            return
        window_bytes = max(1, min(ticket.window_bytes, self._config.window_limit_bytes))
        job = self._jobs[ticket.job] = SpaceJob(command, ticket, window_bytes)
        slots: list[tuple[int, int]] = []
        for number in numbers:
            slot = self._next_slot
            self._next_slot += 1
            job.ranks[number] = self._slots[slot] = Rank(slot, number, job)
            slots.append((slot, number))
        if job.some_read:
            job.takes_input = any(map(job.reads, job.ranks))
        if problem:
            self._fail_all(job, problem)
            return
        job.live = job.unstarted = len(slots)
        self._pmi.begin(job, ticket)
        self._output.set_sending(job)
        if self._turn.alone:
            self._reckon()
        size = m.ranks_of(ticket)
        if not job.waiting:
            self._turn.out.append(e.StartRanks(ticket.job, ticket, size, slots, command.view))

    def refuse(self, command: m.RefuseLaunch) -> None:
        """Keep a job whose ranks may not be started, for the reason that is given."""
        self.launch(m.Launch(command.ticket, command.signature), command.text)

    def _start_queued(self, job: SpaceJob, command: m.Launch, ticket: m.Ticket) -> None:
        """The program of a job has come."""
        job.waiting = False
        slots = [(rank.slot, rank.number) for rank in job.ranks.values() if rank.state is QUEUED]
        if slots:
            size = m.ranks_of(ticket)
            self._turn.out.append(e.StartRanks(ticket.job, ticket, size, slots, command.view))

    def _never_ran(self, job: SpaceJob, ranks: Iterable[Rank], problem: str) -> None:
        """The program of a job will not come, or its ranks may not be started."""
        for rank in ranks:
            rank.state = states.ON_GIVEN_UP[rank.state]
            rank.failure = m.Failure(self._config.node, rank.number, 0, problem[:MAX_FAILURE_CHARACTERS])
            job.failed.append(rank.failure)
        self._tell(job, self._turn.now)

    def end_queued(self, job: SpaceJob, ranks: list[Rank], signal: int) -> int:
        """A signal ends ranks whose program is on its way, as it would have ended their processes; return how many."""
        ended = self._give_up_queued(job, ranks)
        for rank in ended:
            rank.state = states.ON_SIGNALLED[rank.state]
            rank.status = signal
            job.exited += (self._config.node, rank.number, signal, 0, 0)
        self._tell(job, self._turn.now)
        return len(ended)

    def _give_up_queued(self, job: SpaceJob, ranks: list[Rank]) -> list[Rank]:
        """Start those of the ranks that wait for their program nevermore; return them, to be given an end."""
        queued = [rank for rank in ranks if rank.state is QUEUED]
        for rank in queued:
            del self._slots[rank.slot]
            self._input.leave(rank)
        job.live -= len(queued)
        job.unstarted -= len(queued)
        return queued

    def _fail_all(self, job: SpaceJob, problem: str) -> None:
        self._turn.log("warning", f"job {job.id}: {problem}")
        for rank in job.ranks.values():
            del self._slots[rank.slot]
        self._output.set_sending(job)
        self._never_ran(job, job.ranks.values(), problem)

    def _refusal(self, ticket: m.Ticket) -> str:
        if self._tombstones.refuses(ticket.job, ticket.issued_at_ms):
            return f"job {ticket.job} was released already; its ticket starts nothing again"
        if len(self._jobs) >= self._config.max_jobs:
            return f"the node holds {len(self._jobs)} jobs, which is its limit; release some of them"
        return flaw_of(ticket.spec)

    # ------------------------------------------------------------------ what the shell says of starts

    def caveat(self, event: e.Caveat) -> None:
        """A job was started otherwise than its user may expect."""
        job = self._jobs.get(event.job)
        if job is None:
            return
        text = event.text[:MAX_FAILURE_CHARACTERS]
        if event.at_once:
            job.note(m.Failure(self._config.node, next(iter(job.ranks)), 0, text))
        else:
            job.caveat = text

    def started(self, event: e.ProcessStarted) -> None:
        """A rank runs."""
        rank = self._slots.get(event.slot)
        if rank is None or rank.job is None:
            self._turn.out.append(e.Destroy([event.slot]))
            return
        job = rank.job
        rank.state = states.ON_STARTED[rank.state]
        rank.pid = event.pid
        rank.unseen = event.unseen
        if job.time_limit_ms:
            self._begins(job)
        job.unstarted -= 1
        job.started += (self._config.node, rank.number, event.pid)
        self._tell(job, self._turn.now + (REPORT_DELAY_MS if job.attended else UNATTENDED_REPORT_DELAY_MS))
        for signal in rank.pending_signals:
            self._turn.out.append(e.SendSignal(rank.slot, signal))
        rank.pending_signals = []
        if rank.input is not None:
            self._input.feed(rank)

    def start_failed(self, event: e.StartFailed) -> None:
        """A rank could not be started."""
        rank = self._slots.get(event.slot)
        self._turn.out.append(e.ForgetSlots([event.slot]))
        if rank is None or rank.job is None:
            return
        job = rank.job
        rank.state = states.ON_START_FAILED[rank.state]
        del self._slots[event.slot]
        rank.failure = m.Failure(self._config.node, rank.number, event.error, event.text[:MAX_FAILURE_CHARACTERS])
        job.unstarted -= 1
        job.live -= 1
        job.failed.append(rank.failure)
        self._input.leave(rank)
        self._pmi.ended(rank, "could not be started", NO_COMMAND)
        self._tell(job, self._turn.now)
