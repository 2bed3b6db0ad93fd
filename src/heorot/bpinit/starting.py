"""Starts what the machine wants started, some in each turn of the loop, and tidies up when nothing of a job is left."""

from __future__ import annotations

from collections.abc import Callable

from heorot.bpinit.census import Census
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.pids import PidRange
from heorot.bpinit.plan import Plan
from heorot.bpinit.rank_pipes import Pipes
from heorot.bpinit.rank_pmi import PmiEnds
from heorot.bpinit.reaper import Reaper
from heorot.bpinit.start_queue import StartQueue
from heorot.bpinit.start_words import StartError
from heorot.bpinit.starter import Starter
from heorot.core.space import events as e

_STARTS_PER_TURN = 8
"""Between so many starts (about 5 ms) the loop looks at everything else."""


class Starting:
    """The jobs of which ranks wait to be started, and what there is for each job that has some here.

    Parameters
    ----------
    favoured:
        User ids that come first.
    emit:
        Takes the events.
    """

    def __init__(
        self,
        favoured: frozenset[int],
        starter: Starter,
        census: Census,
        pipes: Pipes,
        pmi: PmiEnds,
        pids: PidRange,
        reaper: Reaper,
        emit: Callable[[e.SpaceEvent], None],
    ) -> None:
        self._starter = starter
        self._census = census
        self._pipes = pipes
        self._pmi = pmi
        self._pids = pids
        self._reaper = reaper
        self._emit = emit
        self._plans: dict[str, Plan] = {}
        self.waiting = StartQueue(favoured)
        """False: nothing does, and no turn is needed."""

    def turn(self) -> None:
        """Start some of those that wait."""
        plan, batch, last = self.waiting.take(_STARTS_PER_TURN)
        self._pids.before_start()
        plan.unseen.clear()
        results = self._starter.start(plan, [rank for _, rank in batch])
        ticket = plan.ticket
        if plan.caveat and not all(isinstance(result, StartError) for result in results):
            self._emit(e.Caveat(plan.job, plan.caveat))
            plan.caveat = ""
        if plan.note:
            self._emit(e.Caveat(plan.job, plan.note, at_once=True))
            plan.note = ""
        for (slot, rank), result in zip(batch, results, strict=True):
            if isinstance(result, StartError):
                self._emit(e.StartFailed(slot, result.error, result.text))
                continue
            pid, stdin, stdout, stderr, pmi = result
            self._pids.started(pid)
            has_terminal = bool(ticket.spec.terminal)
            child = ChildProcess(slot, plan.job, rank, pid, ticket.uid, stdin, [stdout, stderr], has_terminal, pmi)
            self._census.add(child)
            self._pipes.open(child)
            self._pmi.open(child)
            self._reaper.started(child, ticket.spec.max_processes)
            self._emit(e.ProcessStarted(slot, pid, rank in plan.unseen))
            for index, fd in enumerate((stdout, stderr)):
                if fd < 0:
                    self._emit(e.WriteEnded(slot, index + 1))
        if last:
            self._finish_plan(plan.job)

    # ------------------------------------------------------------------ the instructions

    def start_ranks(self, item: e.StartRanks) -> None:
        """Carry out `StartRanks`, which is answered later."""
        plan = Plan(item.job, item.ticket, item.size, len(item.slots), self._starter.config, item.view)
        self._plans[item.job] = plan
        self.waiting.add(plan, item.slots)

    def cancel(self, item: e.CancelStarts) -> None:
        """Carry out `CancelStarts`."""
        plan = self._plans.get(item.job)
        if plan is not None:
            self.waiting.cancel(plan)
        self._finish_plan(item.job)

    def forget(self, item: e.ForgetSlots) -> None:
        """Carry out `ForgetSlots`."""
        rooms = self._starter.rooms is not None and self._starter.rooms.by_job
        for slot in item.slots:
            child = self._census.by_slot.get(slot)
            if child is not None:
                self._pipes.forget(child)
                self._pmi.forget(child)
                self._census.remove(child)
                if rooms:
                    self._leave_room(child.job)

    # ------------------------------------------------------------------ the end

    def _finish_plan(self, job: str) -> None:
        plan = self._plans.pop(job, None)
        if plan is not None:
            plan.close()
            if plan.view and self._starter.rooms is not None:
                self._starter.rooms.started(job)
                self._leave_room(job)

    def _leave_room(self, job: str) -> None:
        """Tidy up after a job of which nothing is left."""
        rooms = self._starter.rooms
        if (
            rooms is not None
            and job in rooms.by_job
            and job not in self._plans
            and not any(child.job == job for child in self._census.by_slot.values())
        ):
            self._pids.before_start()
            rooms.over(job)
