"""The end of processes: reaping, killing what ended ranks have left, ending jobs that exceed their limit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from heorot.core import space_events as e
from heorot.procs.census import Census, Child, send, tree
from heorot.procs.clock import now_ms
from heorot.procs.pids import PidRange

_REAPED_PER_TURN = 4096
_SWEEP_INTERVAL_MS = 5
_LIMIT_INTERVAL_MS = 100
_LIMIT_FORKS = 8
"""Processes are counted only if so many were made since the last time."""
_DOUBT_MS = 200
"""How long an orphan is looked at again and again before it is taken for nobody's."""
_KILLING_ROUNDS = 3
"""So often what ended ranks have left is simply killed; then it is stopped first."""
_PATIENT_ROUNDS = 8
"""After so many rounds all of the space is stopped for a moment, if it has a namespace of its own."""


class Reaper:
    """Reaps, sweeps and counts.

    Parameters
    ----------
    census:
        The children.
    pids:
        Tells whether anybody has forked.
    emit:
        Takes the events.
    finish:
        Is called for each rank whose own process has ended, before the event.
    """

    def __init__(
        self, census: Census, pids: PidRange, emit: Callable[[e.SpaceEvent], None], finish: Callable[[Child], None]
    ) -> None:
        self._census = census
        self._pids = pids
        self._emit = emit
        self._finish = finish
        self._sweeping: set[int] = set()
        self._sweep_at = 0
        self._rounds = 0
        self._stopped: set[int] = set()
        self._owners: dict[int, tuple[int, Child | None]] = {}
        """Of orphans that were looked at before: until when to look again if it is nobody's, and whose it is."""
        self._limits: dict[str, int] = {}
        self._limit_at: int | None = None
        self._counted_at_pid = 0
        self._hurried = False

    @property
    def due_ms(self) -> int | None:
        """When `turn` has something to do; None: not before the next end of a process."""
        due = self._limit_at
        if self._sweeping and (due is None or self._sweep_at < due):
            due = self._sweep_at
        return due

    def turn(self) -> None:
        """Do what is due."""
        if self._sweeping and self._sweep_at <= now_ms():
            self._sweep_round()
        if self._limit_at is not None and self._limit_at <= now_ms():
            self._check_limits()

    def started(self, child: Child, max_processes: int) -> None:
        """A rank was started whose job may have so many processes here (0: any number)."""
        if max_processes and child.job not in self._limits:
            self._limits[child.job] = max_processes
            if self._limit_at is None:
                self._limit_at = now_ms() + _LIMIT_INTERVAL_MS

    # ------------------------------------------------------------------ reaping

    def reap(self) -> None:
        """Collect all processes that have ended."""
        ended: list[tuple[Child, int]] = []
        alone = False
        by_pid = self._census.by_pid
        for _ in range(_REAPED_PER_TURN):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                alone = True
                break
            if pid == 0:
                break
            child = by_pid.get(pid)
            if child is None:
                self._owners.pop(pid, None)
                self._sweep_at = 0
                continue
            self._census.reaped(child)
            ended.append((child, status))
        else:
            # More are waiting: come back in the next turn.
            signal.raise_signal(signal.SIGCHLD)
        if not ended:
            return
        clean = alone or self._pids.nobody_forked()
        if not clean:
            for child, _ in ended:
                # Normally all of what is left; the rest is found by sweeping.
                send(-child.pid, signal.SIGKILL)
            clean = not self._census.orphans()
        for child, status in ended:
            self._finish(child)
            self._emit(e.Exited(child.slot, status, clean))
        if not by_pid:
            self._limits.clear()
            self._limit_at = None
            self._pids.all_gone()
            if not self._sweeping:
                self._hurry(False)

    def destroy(self, instruction: e.Destroy) -> None:
        """Carry out `Destroy`."""
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None:
                child.doomed = True
                if not child.reaped:
                    send(-child.pid, signal.SIGKILL)
                    send(child.pid, signal.SIGKILL)

    # ------------------------------------------------------------------ what ended ranks have left

    def sweep(self, instruction: e.Sweep) -> None:
        """Carry out `Sweep`."""
        self._sweeping.add(instruction.slot)
        self._sweep_at = 0

    def _sweep_round(self) -> None:
        """Kill what ended ranks have left behind, and report those that left nothing."""
        census = self._census
        # If all ranks that still run are to be destroyed, so is everything: no time is lost in asking whose it is.
        everything = all(child.doomed for child in census.by_pid.values())
        victims: list[int] = []
        kept: dict[int, tuple[int, Child | None]] = {}
        unsure = False
        # Those that end while this round kills and reaps were not looked for in it.
        sought = frozenset(self._sweeping)
        unfinished: set[int] = set()
        for pid in census.orphans():
            if everything:
                victims.append(pid)
                continue
            until_ms, owner = self._owners.get(pid) or (now_ms() + _DOUBT_MS, None)
            if owner is None and now_ms() < until_ms:
                # In the middle of an execve a process shows no environment.
                owner = census.owner_of_orphan(pid)
                unsure = unsure or owner is None
            kept[pid] = until_ms, owner
            if owner is not None and (owner.reaped or owner.doomed):
                victims.append(pid)
                unfinished.add(owner.slot)
        self._owners = kept
        self._sweep_at = now_ms() + _SWEEP_INTERVAL_MS
        if victims:
            self._kill(victims, everything)
            if self._stopped:
                self._sweep_at = 0
            self.reap()
        if not (victims and everything) and not unsure:
            for slot in sorted(sought - unfinished):
                self._sweeping.discard(slot)
                self._emit(e.Swept(slot))
        if not self._sweeping:
            self._rounds = 0
            self._stopped.clear()
            if not census.by_pid:
                self._hurry(False)

    def _kill(self, victims: list[int], everything: bool) -> None:
        """Kill processes with their descendants.

        Those that multiply are stopped, one after the other, until nothing new appears (what is stopped still counts
        against a limit on processes); then all are killed together. If even that is outrun, everything is stopped at
        once, which only the first process of a PID namespace can do.
        """
        self._rounds += 1
        if self._rounds <= _KILLING_ROUNDS:
            for pid in tree(victims):
                send(pid, signal.SIGKILL)
            return
        self._hurry(True)
        if self._rounds > _PATIENT_ROUNDS and self._census.isolated:
            self._stopped.clear()
            self._census.freeze_and_kill(
                lambda child: everything or (child is not None and (child.reaped or child.doomed))
            )
            return
        fresh = [pid for pid in victims if pid not in self._stopped] or [
            pid for pid in tree(victims) if pid not in self._stopped
        ]
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        self._stopped.update(fresh)
        if not fresh:
            for pid in sorted(self._stopped):
                send(pid, signal.SIGKILL)
            self._stopped.clear()

    # ------------------------------------------------------------------ limits

    def _check_limits(self) -> None:
        self._limit_at = now_ms() + _LIMIT_INTERVAL_MS
        last = self._pids.last()
        self._pids.aim(last)
        if abs(last - self._counted_at_pid) < _LIMIT_FORKS:
            if not self._sweeping:
                self._hurry(False)
            return
        self._counted_at_pid = last
        self._hurry(True)
        counts = self._census.count_by_job()
        for job, limit in list(self._limits.items()):
            if job not in counts:
                del self._limits[job]
            elif counts[job] > limit:
                self._emit(e.Counted(job, counts[job]))

    def _hurry(self, on: bool) -> None:
        """Come before all others while somebody forks a lot: a fork bomb must not keep us from ending it."""
        if on == self._hurried or not self._census.isolated:
            return
        self._hurried = on
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK if on else os.SCHED_OTHER
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(1 if on else 0))
