"""How processes stand, and their end: reaping, ending what ended ranks have left, ending jobs that exceed their limit.

What a rank has left when its own process ended is given a moment to end by itself, as the last of a pipeline does, and
is killed then; in a job that lingers it is left alone until it ends or is ended. Those that are killed are counted.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable

from heorot.bpinit.census import Census, send_signal, tree
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.pids import PidRange
from heorot.core.space import events as e
from heorot.linux import proctable
from heorot.linux.clock import now_ms

_REAPED_PER_TURN = 4096
_HOW = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
"""The kernel keeps how each child stands until we ask: nothing is lost, and of several changes we hear the last."""
_STANDS, _CONTINUED = 0x7F, 0xFFFF
"""In a status: the process has stopped or goes on; and the latter."""
_SWEEP_INTERVAL_MS = 5
_LINGER_INTERVAL_MS = 1_000
"""What lingers is looked at so often, beside each time that an orphan ends: its owner may be told by its environment
only, and that can change without a word."""
_GRACE_MS = 250
"""What a rank has left may end by itself within this time: then nobody has killed it."""
_GRACED_PROCESSES = 16
"""If it has left more, they may be about to become many more, and are not waited for."""
_COUNTED_PROCESSES = 256
"""Of more, it is not looked at whether each is about to end anyway."""
_NEVER_MS = 1 << 62
_LIMIT_INTERVAL_MS = 100
_LIMIT_FORKS = 8
"""Processes are counted only if so many were made since the last time."""
_DOUBT_MS = 200
"""How long an orphan is looked at again and again before it is taken for nobody's."""
_KILLING_ROUNDS = 3
"""So often what ended ranks have left is simply killed; then it is stopped first."""
_PEAK_DOUBT_KIB = 1024
"""The kernel counts the pages of a process that exactly."""
_HURRIED_NICE = -20
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
    take_written:
        The same for one that has stopped.
    """

    def __init__(
        self,
        census: Census,
        pids: PidRange,
        emit: Callable[[e.SpaceEvent], None],
        finish: Callable[[ChildProcess], None],
        take_written: Callable[[ChildProcess], None],
    ) -> None:
        self._census = census
        self._pids = pids
        self._emit = emit
        self._finish = finish
        self._take_written = take_written
        self._sweeping: dict[int, int] = {}
        """By slot: until when what is left of it may end by itself."""
        self._sweep_at = 0
        self._swept_at = 0
        self._rounds = 0
        self._stopped: set[int] = set()
        self._counted: set[int] = set()
        self._owners: dict[int, tuple[int, ChildProcess | None]] = {}
        """Of orphans that were looked at before: until when to look again if it is nobody's, and whose it is."""
        self._limits: dict[str, int] = {}
        self._limit_at: int | None = None
        self._counted_at_pid = 0
        self._hurried = False
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)

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

    def started(self, child: ChildProcess, max_processes: int) -> None:
        """A rank was started whose job may have so many processes here (0: any number)."""
        if max_processes and child.job not in self._limits:
            self._limits[child.job] = max_processes
            if self._limit_at is None:
                self._limit_at = now_ms() + _LIMIT_INTERVAL_MS

    # ------------------------------------------------------------------ reaping

    def reap(self) -> None:
        """Collect all processes that have ended."""
        ended: list[tuple[ChildProcess, int, resource.struct_rusage]] = []
        alone = False
        by_pid = self._census.by_pid
        for _ in range(_REAPED_PER_TURN):
            try:
                pid, status, usage = os.wait4(-1, _HOW)
            except ChildProcessError:
                alone = True
                break
            if pid == 0:
                break
            child = by_pid.get(pid)
            if status & _STANDS == _STANDS:
                if child is not None:
                    self._stands(child, status)
                continue
            if child is None:
                if self._census.unreaped.pop(pid, None) is not None:
                    continue
                self._owners.pop(pid, None)
                # At once while something is being killed; else orphans that come and go shall not keep us busy.
                due_ms = 0 if self._rounds else self._swept_at + _SWEEP_INTERVAL_MS
                self._sweep_at = min(self._sweep_at, due_ms)
                continue
            self._census.reaped(child)
            ended.append((child, status, usage))
        else:
            # More are waiting: come back in the next turn.
            signal.raise_signal(signal.SIGCHLD)
        if not ended:
            return
        # What a process has left is a child of ours before it can be reaped.
        clean = alone or self._pids.nobody_forked() or not self._census.orphans()
        floor_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + _PEAK_DOUBT_KIB
        for child, status, usage in ended:
            if child.doomed and not clean:
                # Normally all of what is left; the rest is found by sweeping.
                send_signal(-child.pid, signal.SIGKILL)
            self._finish(child)
            self._emit(e.ProcessExited(child.slot, status, clean, _used(usage, floor_kib)))
        if not by_pid:
            self._pids.all_gone()
            if clean and not self._sweeping:
                self._rest()

    def _stands(self, child: ChildProcess, status: int) -> None:
        """A rank's own process has stopped or goes on."""
        if status != _CONTINUED:
            child.stopped = True
            # Before the word of it, as it was written before.
            self._take_written(child)
            self._emit(e.ProcessStopped(child.slot, status >> 8 & 0xFF))
        elif child.stopped:
            child.stopped = False
            self._emit(e.ProcessContinued(child.slot))

    def destroy(self, instruction: e.Destroy) -> None:
        """Carry out `Destroy`."""
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None:
                child.doomed = True
                self._sweep_at = 0
                if not child.reaped:
                    send_signal(-child.pid, signal.SIGKILL)
                    send_signal(child.pid, signal.SIGKILL)

    # ------------------------------------------------------------------ what ended ranks have left

    def sweep(self, instruction: e.Sweep) -> None:
        """Carry out `Sweep`."""
        self._sweeping[instruction.slot] = _NEVER_MS if instruction.linger else now_ms() + _GRACE_MS
        self._sweep_at = 0

    def signal_left(self, child: ChildProcess, number: int) -> None:
        """Send a signal to all that a rank has left whose own process is reaped."""
        for pid in tree([pid for pid in self._census.orphans() if self._census.owner_of_orphan(pid) is child]):
            send_signal(pid, number)

    def _sweep_round(self) -> None:
        """End what ended ranks have left behind and may not keep, and report those of which nothing is left."""
        census = self._census
        now = self._swept_at = now_ms()
        waiting = {slot: until_ms for slot, until_ms in self._sweeping.items() if until_ms > now}
        for slot in list(waiting):
            child = census.by_slot.get(slot)
            if child is None or child.doomed:
                del waiting[slot]
        # If all ranks that still run are to be destroyed, so is everything: no time is lost in asking whose it is.
        everything = not waiting and all(child.doomed for child in census.by_pid.values())
        victims: dict[int, ChildProcess | None] = {}
        left: dict[int, list[int]] = {}
        kept: dict[int, tuple[int, ChildProcess | None]] = {}
        unsure = False
        # Those that end while this round kills and reaps were not looked for in it.
        sought = frozenset(self._sweeping)
        for pid in census.orphans():
            until_ms, owner = self._owners.get(pid) or (now + _DOUBT_MS, None)
            if not everything and owner is None and now < until_ms:
                # In the middle of an execve a process shows no environment.
                owner = census.owner_of_orphan(pid)
                unsure = unsure or owner is None
            kept[pid] = until_ms, owner
            if everything:
                victims[pid] = owner
            elif owner is not None and (owner.reaped or owner.doomed):
                left.setdefault(owner.slot, []).append(pid)
                if owner.slot not in waiting:
                    victims[pid] = owner
        self._owners = kept
        self._sweep_at = now + (_SWEEP_INTERVAL_MS if victims or unsure else _LINGER_INTERVAL_MS)
        for slot, until_ms in waiting.items():
            pids = left.get(slot, [])
            if until_ms == _NEVER_MS:
                census.session_ended(census.by_slot[slot], pids)
            elif len(pids) > _GRACED_PROCESSES:
                victims.update(dict.fromkeys(pids, census.by_slot[slot]))
            elif pids:
                self._sweep_at = min(self._sweep_at, until_ms)
        if victims:
            self._kill(victims, everything)
            if self._stopped:
                self._sweep_at = 0
            self.reap()
        elif not unsure:
            # What is left now may stay for long.
            self._calm()
        if not (victims and everything) and not unsure:
            for slot in sorted(sought - left.keys()):
                self._sweeping.pop(slot, None)
                child = census.by_slot.get(slot)
                self._emit(e.Swept(slot, child.killed if child is not None else 0))
        if not self._sweeping:
            self._calm()
            if not census.by_pid:
                self._rest()

    def _calm(self) -> None:
        """Nothing is to be killed for now."""
        self._rounds = 0
        self._stopped.clear()
        self._counted.clear()

    def _rest(self) -> None:
        """No rank is here, and nothing of any."""
        self._limits.clear()
        self._limit_at = None
        self._hurry(False)

    def _kill(self, victims: dict[int, ChildProcess | None], everything: bool) -> None:
        """Kill processes with their descendants.

        Those that multiply are stopped, one after the other, until nothing new appears (what is stopped still counts
        against a limit on processes); then all are killed together. If even that is outrun, everything is stopped at
        once, which only the first process of a PID namespace can do.
        """
        self._rounds += 1
        of_owner: dict[ChildProcess | None, list[int]] = {}
        for pid, owner in victims.items():
            of_owner.setdefault(owner, []).append(pid)
        if self._rounds <= _KILLING_ROUNDS:
            for owner, roots in of_owner.items():
                pids = tree(roots)
                self._count(owner, pids)
                if owner is not None and any(_in_group(pid, owner.pid) for pid in roots):
                    # Normally all of them, so that none escapes by a fork.
                    send_signal(-owner.pid, signal.SIGKILL)
                for pid in pids:
                    send_signal(pid, signal.SIGKILL)
            return
        self._hurry(True)
        if self._rounds > _PATIENT_ROUNDS and self._census.isolated:
            self._stopped.clear()
            for pid, owner in self._census.freeze_and_kill(lambda child: everything or self._may_not_stay(child)):
                self._count(owner, [pid], sure=True)
            return
        fresh = {pid: owner for pid, owner in victims.items() if pid not in self._stopped}
        if not fresh:
            for owner, roots in of_owner.items():
                fresh.update((pid, owner) for pid in tree(roots) if pid not in self._stopped)
        for pid, owner in fresh.items():
            self._count(owner, [pid])
            send_signal(pid, signal.SIGSTOP)
        self._stopped.update(fresh)
        if not fresh:
            for pid in sorted(self._stopped):
                send_signal(pid, signal.SIGKILL)
            self._stopped.clear()

    def _may_not_stay(self, child: ChildProcess | None) -> bool:
        if child is None or child.doomed:
            return child is not None
        return child.reaped and self._sweeping.get(child.slot) != _NEVER_MS

    def _count(self, owner: ChildProcess | None, pids: list[int], *, sure: bool = False) -> None:
        """Count for the rank that left them those of these processes that would not have ended just now (`sure`: all).

        Nobody is told of what was killed because somebody wanted the end of all of its job.
        """
        if owner is None:
            # Nobody knows whose it was; a rank that has just ended is the only one that can tell of it.
            ended = (slot for slot, until_ms in self._sweeping.items() if until_ms != _NEVER_MS)
            children = (self._census.by_slot.get(slot) for slot in ended)
            owner = next((child for child in children if child is not None), None)
        if owner is None or owner.doomed:
            return
        fresh = [pid for pid in pids if pid not in self._counted]
        self._counted.update(fresh)
        sure = sure or len(fresh) > _COUNTED_PROCESSES
        owner.killed += len(fresh) if sure else sum(map(proctable.would_go_on, fresh))

    # ------------------------------------------------------------------ limits

    def _check_limits(self) -> None:
        self._limit_at = now_ms() + _LIMIT_INTERVAL_MS
        last = self._pids.last()
        self._pids.aim(last)
        if abs(last - self._counted_at_pid) < _LIMIT_FORKS:
            if not self._rounds:
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
        try:
            os.sched_setscheduler(0, policy, os.sched_param(1 if on else 0))
        except OSError:
            # In a control group that has no real time to give. No child inherits what is below zero, either.
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, 0, _HURRIED_NICE if on else self._nice)


def _used(usage: resource.struct_rusage, floor_kib: int) -> tuple[int, int, int]:
    """Return CPU time as a user and in the kernel in ms, and the peak of memory in KiB, or 0 if that is not known.

    A child begins in our own memory, and the kernel counts that as its peak: of one that has never taken more than we
    do, nobody can tell how much it took.
    """
    peak_kib = usage.ru_maxrss if usage.ru_maxrss > floor_kib else 0
    return int(usage.ru_utime * 1000), int(usage.ru_stime * 1000), peak_kib


def _in_group(pid: int, leader: int) -> bool:
    """Say whether a process is in the group and the session that a rank has led, whose number is no other's then."""
    try:
        return os.getpgid(pid) == leader == os.getsid(pid)
    except OSError:
        return False
