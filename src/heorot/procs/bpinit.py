"""The process space's daemon: one epoll loop around `heorot.core.space`."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from typing import Any, NoReturn

import msgspec

from heorot.core import messages as m
from heorot.core import space_events as e
from heorot.core.errors import ProtocolError
from heorot.core.space import Space
from heorot.core.space_events import SpaceConfig
from heorot.procs import system
from heorot.procs.census import Census, Child, exterminate, send, tree
from heorot.procs.link import AgentLink
from heorot.procs.pids import PidRange
from heorot.procs.spool import FileSpool
from heorot.procs.starter import Plan, Starter, StartError

__all__ = ["SpaceConfig", "run"]

_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 1024 * 1024
"""The largest pipe that an unprivileged process can make."""
_STARTS_PER_TURN = 8
"""Between so many starts (about 5 ms) the loop looks at everything else."""
_WRITES_PER_TURN = 16
_LIMIT_INTERVAL_MS = 100
_SWEEP_INTERVAL_MS = 5
_LIMIT_FORKS = 8
_KILLING_ROUNDS = 3
"""So often what ended ranks have left is simply killed; then it is stopped first."""
_PATIENT_ROUNDS = 8
"""After so many rounds all of the space is stopped for a moment, if it has a namespace of its own."""


def run(config: SpaceConfig, listener: socket.socket, parent: int | None = None) -> NoReturn:
    """Be the process space's daemon; never returns.

    Parameters
    ----------
    config:
        With `isolated` set if this process is PID 1 of its namespace.
    listener:
        A listening unix socket for the agent.
    parent:
        A pidfd of the process with which this one shall end (`SpaceConfig.die_with_parent`).
    """
    if config.log_path:
        log = os.open(config.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(log, 2)
        os.close(log)
    incarnation = config.incarnation or int.from_bytes(os.urandom(6), "big") + 1
    config = msgspec.structs.replace(
        config,
        incarnation=incarnation,
        marker=config.marker or os.urandom(16).hex(),
        init_pid=config.init_pid or os.getpid(),
    )
    Daemon(config, listener, parent).loop()


class Daemon:
    """The shell of one process space."""

    def __init__(self, config: SpaceConfig, listener: socket.socket, parent: int | None) -> None:
        self.config = config
        self._events: deque[e.SpaceEvent] = deque()
        self._busy = False
        self._link: AgentLink | None = None
        self._plans: dict[str, Plan] = {}
        self._starts: deque[tuple[Plan, int, int]] = deque()
        self._sweeping: dict[int, Child | None] = {}
        self._sweep_at: int | None = None
        self._limits: dict[str, int] = {}
        self._limit_at: int | None = None
        self._limit_pid = 0
        self._owners: dict[int, Child | None] = {}
        self._rounds = 0
        self._stopped: set[int] = set()
        self._hurried = False
        os.chdir("/")
        for name in os.listdir("/proc/self/fd"):
            # Whatever we were given by whoever started us: no rank shall inherit it.
            with contextlib.suppress(OSError):
                if int(name) > 2:
                    os.set_inheritable(int(name), False)
        self._signals()
        self._census = Census(config.isolated)
        self._pids = PidRange(config)
        self._space = Space(config, FileSpool(config.spool_dir))
        self._starter = Starter(config, self._rearm)
        self._epoll = select.epoll()
        self._fds: dict[int, tuple[Any, Any]] = {}
        listener.setblocking(False)
        self._listener = listener
        self._watch(listener.fileno(), self._accept, None)
        self._watch(self._wakeup, self._woken, None)
        if parent is not None and config.die_with_parent:
            self._watch(parent, self._orphaned, None)
        if not config.isolated:
            system.become_subreaper()
            if config.die_with_parent:
                system.set_parent_death_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            system.set_process_name(b"bpinit-n%d" % config.node)
        self._handlers: dict[type, Any] = {
            e.ToAgent: self._to_agent,
            e.StartRanks: self._start_ranks,
            e.CancelStarts: self._cancel_starts,
            e.Feed: self._feed,
            e.FeedEnd: self._feed_end,
            e.PauseReading: self._pause,
            e.ResumeReading: self._resume,
            e.Signal: self._signal,
            e.Destroy: self._destroy,
            e.Sweep: self._sweep,
            e.CloseOutputs: self._close_outputs,
            e.Select: self._select,
            e.ResizeTerminals: self._resize,
            e.ForgetSlots: self._forget,
            e.SpaceLog: self._log,
        }
        # Nearly nothing here is cyclic, and a collection would touch the pages shared with the parent.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)

    def _signals(self) -> None:
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        self._wakeup, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._terminated = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if not self.config.isolated:
            # PID 1 is safe from those signals of its namespace that it does not handle: so there it handles none.
            signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _on_sigterm(self, *_: object) -> None:
        self._terminated = True

    def _rearm(self) -> None:
        """A change of credentials has cleared the parent-death signal."""
        if self.config.isolated and self.config.die_with_parent:
            system.set_parent_death_signal(signal.SIGKILL)

    # ------------------------------------------------------------------ the loop

    def loop(self) -> NoReturn:
        """Run until told to end."""
        poll, fds = self._epoll.poll, self._fds
        while True:
            for fd, _ in poll(self._timeout(), 256):
                entry = fds.get(fd)
                # A descriptor may have been closed by an earlier event of the same turn.
                if entry is not None:
                    entry[0](fd, entry[1])
            if self._terminated:
                self._end()
            if self._starts:
                self._start_some()
            if self._sweeping:
                self._sweep_round()
            if self._limit_at is not None and self._limit_at <= _now_ms():
                self._check_limits()
            deadline = self._space.deadline_ms
            if deadline is not None and deadline <= _now_ms():
                self._do(e.Tick())
            self._flush()

    def _timeout(self) -> float:
        if self._starts:
            return 0
        due = self._space.deadline_ms
        for at in (self._sweep_at, self._limit_at):
            if at is not None and (due is None or at < due):
                due = at
        return -1 if due is None else max(0, due - _now_ms()) / 1000

    def _do(self, event: e.SpaceEvent) -> None:
        """Hand an event to the machine and carry out what it wants; events that this causes come afterwards."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for instruction in self._space.handle(self._events.popleft(), _now_ms()):
                    self._handlers[type(instruction)](instruction)
        finally:
            self._busy = False

    def _watch(self, fd: int, handler: Any, subject: Any, mask: int = select.EPOLLIN) -> None:
        self._fds[fd] = (handler, subject)
        self._epoll.register(fd, mask)

    def _unwatch(self, fd: int) -> None:
        if self._fds.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _log(self, instruction: e.SpaceLog) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"bpinit n{self.config.node}: {instruction.level}: {instruction.text}\n".encode())

    # ------------------------------------------------------------------ the end

    def _orphaned(self, fd: int, subject: object) -> None:
        self._end()

    def _end(self) -> NoReturn:
        if not self.config.isolated:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                exterminate_all()
                try:
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    break
                time.sleep(0.002)
        # As PID 1: with us the kernel ends the whole namespace.
        os._exit(0)

    # ------------------------------------------------------------------ agent

    def _accept(self, fd: int, subject: object) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", credentials)[1]
        if uid not in (0, os.getuid()):
            self._log(e.SpaceLog("warning", f"refused a connection of uid {uid}: only root and uid {os.getuid()} may"))
            connection.close()
            return
        self._drop_agent()
        self._link = AgentLink(connection)
        self._watch(self._link.fd, self._agent_ready, self._link)
        self._do(e.AgentConnected())

    def _drop_agent(self) -> None:
        link = self._link
        if link is not None:
            self._link = None
            self._unwatch(link.fd)
            link.close()
            self._do(e.AgentLost())

    def _agent_ready(self, fd: int, link: AgentLink) -> None:
        try:
            frames = link.receive()
            if frames is None:
                self._drop_agent()
                return
            for frame in frames:
                self._do(e.FromAgent(m.decode_space_command(frame)))
        except ProtocolError as error:
            self._log(e.SpaceLog("error", f"the agent broke the protocol and is disconnected: {error}"))
            self._drop_agent()

    def _to_agent(self, instruction: e.ToAgent) -> None:
        if self._link is not None:
            self._link.queue(m.encode(instruction.message), instruction.bulk)

    def _flush(self) -> None:
        link = self._link
        if link is None or not (link.dirty or link.writable_watched):
            return
        try:
            for _ in range(_WRITES_PER_TURN):
                if not link.dirty and not link.writable_watched:
                    break
                link.dirty = False
                if not link.flush():
                    break
                # The machine may have more to send now.
                self._do(e.Backlog(link.backlog_bytes))
        except OSError:
            self._drop_agent()
            return
        wanted = link.backlog_bytes > 0
        if self._link is link and link.writable_watched != wanted:
            link.writable_watched = wanted
            self._epoll.modify(link.fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    # ------------------------------------------------------------------ starting

    def _start_ranks(self, instruction: e.StartRanks) -> None:
        plan = Plan(instruction.job, instruction.ticket, instruction.size, len(instruction.slots), self.config)
        self._plans[instruction.job] = plan
        self._starts += [(plan, slot, rank) for slot, rank in instruction.slots]

    def _cancel_starts(self, instruction: e.CancelStarts) -> None:
        self._starts = deque(entry for entry in self._starts if entry[0].job != instruction.job)
        self._finish_plan(instruction.job)

    def _finish_plan(self, job: str) -> None:
        plan = self._plans.pop(job, None)
        if plan is not None:
            plan.close()

    def _start_some(self) -> None:
        starts = self._starts
        plan = starts[0][0]
        batch: list[tuple[int, int]] = []
        while starts and starts[0][0] is plan and len(batch) < _STARTS_PER_TURN:
            _, slot, rank = starts.popleft()
            batch.append((slot, rank))
        self._pids.before_start()
        results = self._starter.start(plan, [rank for _, rank in batch])
        ticket = plan.ticket
        for (slot, rank), result in zip(batch, results, strict=True):
            if isinstance(result, StartError):
                self._do(e.StartFailed(slot, result.error, result.text))
                continue
            pid, stdin, stdout, stderr = result
            self._pids.started(pid)
            child = Child(slot, plan.job, rank, pid, stdin, [stdout, stderr], bool(ticket.terminal))
            self._census.add(child)
            for index, fd in enumerate(child.ends):
                if fd >= 0:
                    self._watch(fd, self._readable, (child, index))
            if ticket.max_processes and plan.job not in self._limits:
                self._limits[plan.job] = ticket.max_processes
                self._limit_at = self._limit_at or _now_ms() + _LIMIT_INTERVAL_MS
            self._do(e.Started(slot, pid))
            for index, fd in enumerate((stdout, stderr)):
                if fd < 0:
                    self._do(e.WriteEnded(slot, index + 1))
        if not starts or starts[0][0] is not plan:
            self._finish_plan(plan.job)

    # ------------------------------------------------------------------ output

    def _readable(self, fd: int, subject: tuple[Child, int]) -> None:
        child, index = subject
        data = _read(fd)
        if data is None:
            return
        if data:
            self._do(e.Wrote(child.slot, index + 1, data))
        else:
            self._close_output(child, index)

    def _close_output(self, child: Child, index: int) -> None:
        fd = child.ends[index]
        if fd >= 0:
            child.ends[index] = -1
            self._unwatch(fd)
            os.close(fd)
            self._do(e.WriteEnded(child.slot, index + 1))

    def _drain(self, child: Child, index: int, even_if_paused: bool) -> None:
        """Read what is there."""
        taken = 0
        while (fd := child.ends[index]) >= 0 and taken < _DRAIN_BYTES and (even_if_paused or fd in self._fds):
            data = _read(fd)
            if data is None:
                return
            if not data:
                self._close_output(child, index)
                return
            taken += len(data)
            self._do(e.Wrote(child.slot, index + 1, data))

    def _close_outputs(self, instruction: e.CloseOutputs) -> None:
        child = self._census.by_slot.get(instruction.slot)
        if child is not None:
            for index in (0, 1):
                self._drain(child, index, True)
                self._close_output(child, index)

    def _pause(self, instruction: e.PauseReading) -> None:
        child = self._census.by_slot.get(instruction.slot)
        if child is not None and child.ends[instruction.stream - 1] >= 0:
            self._unwatch(child.ends[instruction.stream - 1])

    def _resume(self, instruction: e.ResumeReading) -> None:
        child = self._census.by_slot.get(instruction.slot)
        index = instruction.stream - 1
        if child is not None and child.ends[index] >= 0 and child.ends[index] not in self._fds:
            self._watch(child.ends[index], self._readable, (child, index))

    # ------------------------------------------------------------------ input

    def _feed(self, instruction: e.Feed) -> None:
        child = self._census.by_slot.get(instruction.slot)
        if child is None or child.stdin < 0:
            self._do(e.InputClosed(instruction.slot))
            return
        child.input = instruction.data
        self._write_input(child.stdin, child)

    def _feed_end(self, instruction: e.FeedEnd) -> None:
        child = self._census.by_slot.get(instruction.slot)
        if child is None or child.stdin < 0:
            return
        if not child.terminal:
            self._close_input(child)
            return
        child.end_input = True
        child.input = end_of_file(child)
        self._write_input(child.stdin, child)

    def _write_input(self, fd: int, child: Child) -> None:
        try:
            written = os.write(fd, child.input)
        except BlockingIOError:
            written = 0
        except OSError:
            self._close_input(child)
            self._do(e.InputClosed(child.slot))
            return
        if written:
            child.last_input_byte = child.input[written - 1 : written]
        child.input = child.input[written:]
        if child.input:
            if fd not in self._fds:
                self._watch(fd, self._write_input, child, select.EPOLLOUT)
            return
        self._unwatch(fd)
        if not child.end_input:
            self._do(e.Fed(child.slot))

    def _close_input(self, child: Child) -> None:
        if child.stdin >= 0:
            self._unwatch(child.stdin)
            os.close(child.stdin)
            child.stdin = -1
            child.input = b""

    # ------------------------------------------------------------------ reaping

    def _woken(self, fd: int, subject: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 4096)
        self._reap()

    def _reap(self) -> None:
        ended: list[tuple[Child, int]] = []
        alone = False
        by_pid = self._census.by_pid
        for _ in range(4096):
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
                if self._sweeping:
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
            self._close_input(child)
            for index in (0, 1):
                if child.ends[index] >= 0:
                    self._drain(child, index, False)
            self._do(e.Exited(child.slot, status, clean))
        if not by_pid:
            self._limits.clear()
            self._limit_at = None
            self._pids.all_gone()
            if not self._sweeping:
                self._hurry(False)

    def _sweep(self, instruction: e.Sweep) -> None:
        self._sweeping[instruction.slot] = self._census.by_slot.get(instruction.slot)
        self._sweep_at = self._sweep_at or _now_ms()

    def _sweep_round(self) -> None:
        """Kill what ended ranks have left behind, and report those that left nothing."""
        if self._sweep_at is not None and self._sweep_at > _now_ms():
            return
        census = self._census
        # If all ranks that still run are to be destroyed, so is everything: no time is lost in asking whose it is.
        everything = all(child.doomed for child in census.by_pid.values())
        live = bool(census.by_pid)
        victims: list[int] = []
        kept: dict[int, Child | None] = {}
        unfinished: set[int] = set()
        for pid in census.orphans():
            if everything:
                victims.append(pid)
                continue
            owner = kept[pid] = self._owners[pid] if pid in self._owners else census.owner_of_orphan(pid)
            if owner is not None and (owner.reaped or owner.doomed):
                victims.append(pid)
                unfinished.add(owner.slot)
        self._owners = kept
        if victims:
            self._kill_left_behind(victims)
            self._reap()
        done = [] if victims and everything else [slot for slot in self._sweeping if slot not in unfinished]
        for slot in done:
            del self._sweeping[slot]
            self._do(e.Swept(slot))
        if self._sweeping:
            self._sweep_at = _now_ms() + (0 if self._stopped else _SWEEP_INTERVAL_MS)
        else:
            self._sweep_at = None
            self._rounds = 0
            self._stopped.clear()
            if not live:
                self._hurry(False)

    def _kill_left_behind(self, victims: list[int]) -> None:
        """Kill processes with their descendants.

        Those that multiply are stopped, one after the other, until nothing new appears (what is stopped still counts
        against a limit on processes); then all are killed together.
        """
        self._rounds += 1
        if self._rounds > _PATIENT_ROUNDS and self.config.isolated:
            self._census.freeze_and_kill(lambda child: child.reaped or child.doomed)
            return
        if self._rounds <= _KILLING_ROUNDS:
            for pid in tree(victims):
                send(pid, signal.SIGKILL)
            return
        self._hurry(True)
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

    def _hurry(self, on: bool) -> None:
        """Come before all others while somebody forks a lot: a fork bomb must not keep us from ending it."""
        if on == self._hurried or not self.config.isolated:
            return
        self._hurried = on
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK if on else os.SCHED_OTHER
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(1 if on else 0))

    def _destroy(self, instruction: e.Destroy) -> None:
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None:
                child.doomed = True
                if not child.reaped:
                    send(-child.pid, signal.SIGKILL)
                    send(child.pid, signal.SIGKILL)

    def _forget(self, instruction: e.ForgetSlots) -> None:
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None:
                self._close_input(child)
                for index in (0, 1):
                    if child.ends[index] >= 0:
                        self._unwatch(child.ends[index])
                        os.close(child.ends[index])
                        child.ends[index] = -1
                self._census.remove(child)

    # ------------------------------------------------------------------ control

    def _signal(self, instruction: e.Signal) -> None:
        child = self._census.by_slot.get(instruction.slot)
        if child is not None and not child.reaped:
            send(-child.pid, instruction.signal)

    def _select(self, instruction: e.Select) -> None:
        ask = instruction
        matched, rows = self._census.select(ask.job, ask.slots, ask.pids, ask.signal, ask.detail, ask.uid)
        self._do(e.Selected(ask.query, matched, rows))

    def _resize(self, instruction: e.ResizeTerminals) -> None:
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None and child.terminal and child.ends[0] >= 0:
                resize(child.ends[0], instruction.rows, instruction.columns)

    def _check_limits(self) -> None:
        self._limit_at = _now_ms() + _LIMIT_INTERVAL_MS
        last = self._pids.last()
        self._pids.aim(last)
        if abs(last - self._limit_pid) < _LIMIT_FORKS:
            if not self._sweeping:
                self._hurry(False)
            return
        self._limit_pid = last
        self._hurry(True)
        counts = self._census.count_by_job()
        for job, limit in list(self._limits.items()):
            if job not in counts:
                del self._limits[job]
            elif counts[job] > limit:
                self._do(e.Counted(job, counts[job]))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _read(fd: int) -> bytes | None:
    """Read once; None: nothing there now, empty: the end."""
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        # A pseudo-terminal whose last user is gone gives EIO.
        return b""


def end_of_file(child: Child) -> bytes:
    """Return what makes the terminal's reader see the end: twice, if a line has begun."""
    import termios

    try:
        character = termios.tcgetattr(child.stdin)[6][termios.VEOF]
    except termios.error:
        character = b"\x04"
    assert isinstance(character, bytes)
    return character if child.last_input_byte in (b"", b"\n") else character * 2


def resize(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; the kernel sends SIGWINCH."""
    import fcntl
    import termios

    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def exterminate_all() -> None:
    """Kill every descendant of this process."""
    from heorot.procs.proctable import children

    exterminate(children(os.getpid()))


if sys.platform != "linux":
    raise ImportError("heorot's process space needs Linux")
