"""Whose process is it? The children that this daemon started, and everything that they started in turn."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from heorot.bpinit.child_process import ChildProcess
from heorot.core.wire.tree import Process
from heorot.linux import proctable

_REPLY_BYTES = 4 * 1024 * 1024
"""Half a frame: what the rows of one answer may take; command lines are cut short so that all processes fit."""
_ROW_BYTES = 56
_SIGNALLED_NS = 10_000_000
"""What was seen so long ago is not signalled any more."""


class Sight:
    """All processes of the space with their owners, by PID, ascending, as they were at one time."""

    __slots__ = ("begun_ns", "boot_ms", "ended_ns", "everyone", "has_signalled", "rows")

    def __init__(self, begun_ns: int, everyone: list[tuple[proctable.Stat, ChildProcess | None]]) -> None:
        self.begun_ns = begun_ns
        self.everyone = everyone
        self.ended_ns = time.monotonic_ns()
        self.boot_ms = proctable.boot_time_ms()
        self.rows: dict[tuple[int, int], Process | None] = {}
        """Those that were made, by PID and length of the command line."""
        self.has_signalled = False


class Census:
    """Knows the children, and attributes every other process of the space to one of them, or to none."""

    def __init__(self, isolated: bool) -> None:
        self.isolated = isolated
        self.own_pid = os.getpid()
        self.by_slot: dict[int, ChildProcess] = {}
        self.by_pid: dict[int, ChildProcess] = {}
        """Those that are not reaped."""
        self.unreaped: dict[int, int] = {}
        """Children that have done something for a user, and whose user: their end may take long, and is nobody's."""
        self.by_name: dict[tuple[str, int], ChildProcess] = {}
        self.sessions: dict[int, ChildProcess] = {}
        """Every child leads a session of its own; the session may outlive it."""
        self._look: Sight | None = None

    def add(self, child: ChildProcess) -> None:
        """A rank was started."""
        self.by_slot[child.slot] = self.by_pid[child.pid] = self.sessions[child.pid] = child
        self.by_name[(child.job, child.rank)] = child

    def reaped(self, child: ChildProcess) -> None:
        """The rank's own process is gone; what it started may be left."""
        child.reaped = True
        self.by_pid.pop(child.pid, None)

    def remove(self, child: ChildProcess) -> None:
        """Nothing of the rank is left."""
        self.by_slot.pop(child.slot, None)
        for table, key in ((self.by_pid, child.pid), (self.sessions, child.pid)):
            if table.get(key) is child:
                del table[key]
        if self.by_name.get((child.job, child.rank)) is child:
            del self.by_name[(child.job, child.rank)]

    def orphans(self) -> list[int]:
        """Return our children that we did not start: processes whose parent has ended."""
        known = self.by_pid
        return [pid for pid in proctable.children(self.own_pid) if pid not in known and pid not in self.unreaped]

    def owner_of_orphan(self, pid: int) -> ChildProcess | None:
        """Tell whose an orphan is: by its session, or else by the environment that it was started with."""
        session = _session(pid)
        if session is None:
            return None
        return self._of_session(session) or self._by_environment(pid)

    def _of_session(self, number: int) -> ChildProcess | None:
        """Return the rank whose session this is. A number is given anew only when nobody is in the session any more: if
        its leader is reaped and there is a process of that number, the session is another's.
        """
        owner = self.sessions.get(number)
        if owner is not None and owner.reaped and _exists(number):
            del self.sessions[number]
            return None
        return owner

    def session_ended(self, child: ChildProcess, left: list[int]) -> None:
        """Forget the session of a rank whose own process is reaped if none of what it left is in it.

        Its number may be given to another process then, whose session would be taken for this rank's.
        """
        if self.sessions.get(child.pid) is child and not any(_session(pid) == child.pid for pid in left):
            del self.sessions[child.pid]

    def _by_environment(self, pid: int) -> ChildProcess | None:
        found = proctable.markers(pid)
        try:
            owner = self.by_name.get((found[b"HEOROT_JOB"].decode(), int(found[b"HEOROT_RANK"])))
        except (KeyError, ValueError):
            return None
        # Anybody may write anything into an environment, and a job pays for what is counted as its own.
        return owner if owner is not None and proctable.real_uid(pid) in (owner.uid, 0) else None

    def everyone(self) -> list[tuple[proctable.Stat, ChildProcess | None]]:
        """Return every process of the space with its owner, by PID, ascending; without this daemon itself."""
        own = self.own_pid
        # Without a namespace of our own /proc shows all of the host.
        stats = proctable.snapshot() if self.isolated else proctable.descendants(own)
        owners: dict[int, ChildProcess | None] = {}
        outside: set[int] = {0}
        result: list[tuple[proctable.Stat, ChildProcess | None]] = []
        for stat in stats.values():
            if stat.pid == own:
                continue
            chain: list[int] = []
            at = stat
            owner: ChildProcess | None = None
            inside = True
            while True:
                if at.pid in outside:
                    inside = False
                    break
                if at.pid in owners:
                    owner = owners[at.pid]
                    break
                chain.append(at.pid)
                owner = self.by_pid.get(at.pid)
                if owner is not None:
                    break
                parent = stats.get(at.parent)
                if parent is None:
                    # It has ended since we read of it: the kernel has given the child to another one.
                    at = proctable.read_stat(at.pid) or at
                    parent = stats.get(at.parent)
                if at.parent == own or (parent is None and self.isolated):
                    owner = self._of_session(at.session) or self._by_environment(at.pid)
                    break
                if parent is None or at.parent in chain:
                    inside = False
                    break
                at = parent
            for pid in chain:
                if inside:
                    owners[pid] = owner
                else:
                    outside.add(pid)
            if inside:
                result.append((stat, owner))
        return result

    def count_by_job(self) -> dict[str, int]:
        """Return how many processes each job has.

        It does not read what `everyone` reads: /proc/PID/stat waits for a process that is in the middle of an execve,
        and where thousands want a processor that takes half a minute, in which a fork bomb takes all PIDs of the host.
        """
        counts: dict[str, int] = {}
        owners: dict[int, ChildProcess | None] = {self.own_pid: None}
        for pid in proctable.pids() if self.isolated else tree(proctable.children(self.own_pid)):
            owner = self._owner(pid, owners)
            if owner is not None:
                counts[owner.job] = counts.get(owner.job, 0) + 1
        return counts

    def _owner(self, pid: int, owners: dict[int, ChildProcess | None]) -> ChildProcess | None:
        """Return whose a process is; `owners` are those that are known, and gets more."""
        chain: list[int] = []
        at: int | None = pid
        owner: ChildProcess | None = None
        while at is not None and at not in owners and at not in chain:
            chain.append(at)
            owner = self.by_pid.get(at) or self._of_session(_session(at) or 0)
            if owner is not None:
                break
            parent = proctable.parent(at)
            if parent == self.own_pid:
                owner = self._by_environment(at)
                break
            at = parent
        else:
            owner = owners.get(at) if at is not None else None
        owners.update(dict.fromkeys(chain, owner))
        return owner

    def look(self, asked_ns: int, *, to_signal: bool = False) -> Sight:
        """Return a look that was begun after a question came: the last one answers all that came before it.

        What it has found is signalled at once or not at all: its processes might be others soon.
        """
        look, now_ns = self._look, time.monotonic_ns()
        fits = look is not None and look.begun_ns >= asked_ns
        if fits and look is not None:
            fits = now_ns - look.ended_ns < _SIGNALLED_NS if to_signal else not look.has_signalled
        if not fits or look is None:
            look = self._look = Sight(now_ns, self.everyone())
        return look

    def forget_look(self) -> None:
        """Nobody waits for an answer."""
        self._look = None

    def select(
        self,
        look: Sight,
        job: str,
        slots: list[int] | None,
        pids: list[int] | None,
        number: int,
        detail: bool,
        uid: int = -1,
        argv_limit_bytes: int = proctable.ARGV_LIMIT_BYTES,
    ) -> tuple[int, list[Process]]:
        """Find processes, signal them, and return how many there are, with their rows if `detail`."""
        everyone = look.everyone
        slot_set = None if slots is None else set(slots)
        pid_set = None if pids is None else set(pids)
        chosen = [entry for entry in everyone if _matches(entry, job, slot_set, pid_set)]
        if uid >= 0:
            chosen = [entry for entry in chosen if proctable.real_uid(entry[0].pid) == uid]
        rows: list[Process] = []
        if detail:
            # Before the signal: afterwards there may be nothing to see.
            room = _REPLY_BYTES // max(1, len(chosen)) - _ROW_BYTES
            argv_limit = max(16, min(argv_limit_bytes, room))
            for stat, owner in chosen:
                key = stat.pid, argv_limit
                if key not in look.rows:
                    name, rank = (owner.job, owner.rank) if owner is not None else ("", -1)
                    leader = owner is not None and owner.pid == stat.pid
                    row = proctable.row(stat, name, rank, leader, look.boot_ms, argv_limit, self.own_pid)
                    look.rows[key] = row
                found = look.rows[key]
                if found is not None:
                    rows.append(found)
        if number:
            look.has_signalled = True
            self._signal(everyone, chosen, number)
        return len(chosen), rows

    def _signal(
        self,
        everyone: list[tuple[proctable.Stat, ChildProcess | None]],
        chosen: list[tuple[proctable.Stat, ChildProcess | None]],
        number: int,
    ) -> None:
        """Signal each chosen process exactly once; whole groups at once, so that no member escapes by a fork."""
        members: dict[int, int] = {}
        for stat, _ in everyone:
            members[stat.group] = members.get(stat.group, 0) + 1
        taken: dict[int, list[int]] = {}
        for stat, _ in chosen:
            taken.setdefault(stat.group, []).append(stat.pid)
        for group, group_pids in taken.items():
            if len(group_pids) == members[group] and group > 1 and group != os.getpgrp():
                send_signal(-group, number)
            else:
                for pid in group_pids:
                    send_signal(pid, number)

    def freeze_and_kill(
        self, condemned: Callable[[ChildProcess | None], bool]
    ) -> list[tuple[int, ChildProcess | None]]:
        """Kill all processes of the condemned children, whatever they do: for those that outrun `exterminate`.

        Return those that lived, and whose they were.

        PID 1 can stop all other processes of its namespace in one step. What is not condemned goes on a moment later.
        """
        assert self.isolated
        resting = {stat.pid for stat in proctable.snapshot().values() if stat.state == "T"}
        os.kill(-1, signal.SIGSTOP)
        # Until those that were in a system call have stopped; there cannot be many that are still to be seen.
        time.sleep(0.002)
        killed: list[tuple[int, ChildProcess | None]] = []
        for stat, owner in self.everyone():
            if condemned(owner):
                send_signal(stat.pid, signal.SIGKILL)
                if stat.state not in "ZX":
                    killed.append((stat.pid, owner))
            elif stat.pid not in resting:
                send_signal(stat.pid, signal.SIGCONT)
        return killed


def _matches(
    entry: tuple[proctable.Stat, ChildProcess | None], job: str, slots: set[int] | None, pids: set[int] | None
) -> bool:
    stat, owner = entry
    if job and (owner is None or owner.job != job):
        return False
    if slots is not None and (owner is None or owner.slot not in slots):
        return False
    return pids is None or stat.pid in pids or -stat.group in pids


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _exists(pid: int) -> bool:
    """Say whether there is a process of this number, zombies included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def send_signal(pid: int, number: int) -> None:
    """Send a signal, as kill(2); whoever is gone already, or may not be signalled, is left alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def tree(roots: list[int]) -> list[int]:
    """Return these processes and all of their descendants."""
    found: list[int] = []
    known = set(roots)
    line = list(roots)
    while line:
        pid = line.pop()
        found.append(pid)
        for child in proctable.children(pid):
            if child not in known:
                known.add(child)
                line.append(child)
    return found


def exterminate(roots: list[int]) -> None:
    """Kill processes with all of their descendants, even if they fork as fast as they can.

    Everything found is stopped first, again and again until nothing new appears: what is stopped cannot fork.
    """
    stopped: set[int] = set()
    for _ in range(50):
        fresh = [pid for pid in tree(roots) if pid not in stopped]
        if not fresh:
            break
        for pid in fresh:
            send_signal(pid, signal.SIGSTOP)
        stopped.update(fresh)
    for pid in sorted(stopped):
        send_signal(pid, signal.SIGKILL)
