"""Virtual processes of one node: the shell that carries out what `heorot.core.space.machine.Space` asks for.

What a process does is in its script (`heorot.sim.scripts`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heorot.core.space import events as e
from heorot.core.wire import tree as m
from heorot.sim.mpi_rank import MpiRank
from heorot.sim.scripts import script_of
from heorot.sim.stopping import SIGCONT, STOPPING, Stopping
from heorot.sim.truth import JobTruth, RankTruth, Truth, content
from heorot.sim.virtual_process import VirtualProcess
from heorot.sim.world import World

PIPE_BYTES = 64 * 1024
SIGHUP, SIGKILL, SIGTERM = 1, 9, 15


class ProcessTable(Stopping):
    """The virtual processes of one process space: the part of its shell that has to do with them.

    `killed` looks at each job, rank and signal that ends a process.
    """

    def __init__(
        self, world: World, truth: Truth, node: int, incarnation: int, killed: Callable[[str, int, int], None]
    ) -> None:
        self.world = world
        self.truth = truth
        self.node = node
        self.incarnation = incarnation
        self.processes: dict[int, VirtualProcess] = {}
        self.dead = False
        self._killed = killed
        self._queued: dict[int, str] = {}
        self._next_pid = (node + 1) * 1_000_000 + incarnation % 1000 * 1000
        self._name = f"procs{node}"

    # ------------------------------------------------------------------ instructions

    def start_ranks(self, item: e.StartRanks) -> None:
        """Start one after the other, each after a while."""
        at_us = self.world.now_us
        for slot, rank in item.slots:
            at_us += self.world.between(300, 1_200)
            self._queued[slot] = item.job
            self.world.at(at_us, self._start, slot, rank, item.job, item.ticket)

    def cancel_starts(self, item: e.CancelStarts) -> None:
        """Forget which of the job's ranks were to be started."""
        self._queued = {slot: job for slot, job in self._queued.items() if job != item.job}

    def feed(self, item: e.Feed) -> None:
        """Put it into the pipe, from where the process takes it when it reads."""
        if (process := self.processes.get(item.slot)) is not None:
            assert process.fed is None, "two feeds at a time"
            process.fed = item.data
            self.world.after(self.world.between(10, 2_000), self._take_input, process)

    def feed_end(self, item: e.FeedEnd) -> None:
        """Let the process find the end when it reads."""
        if (process := self.processes.get(item.slot)) is not None:
            process.feed_end = True
            self.world.after(10, self._take_input, process)

    def pmi_answer(self, item: e.PmiAnswer) -> None:
        """Let the process read it soon."""
        if (process := self.processes.get(item.slot)) is not None and process.mpi is not None:
            self.world.after(self.world.between(5, 300), self._told, process, item.data)

    def pmi_close(self, item: e.PmiClose) -> None:
        """No virtual process says nonsense."""
        self.world.violated("Peace", f"n{self.node} closes the connection of slot {item.slot} to PMI")

    def pause_reading(self, item: e.PauseReading) -> None:
        """Leave the pipe alone from now on."""
        if (process := self.processes.get(item.slot)) is not None:
            process.paused[item.stream - 1] = True

    def resume_reading(self, item: e.ResumeReading) -> None:
        """Read what is in the pipe soon."""
        if (process := self.processes.get(item.slot)) is not None:
            process.paused[item.stream - 1] = False
            self._poll_soon(process, item.stream - 1)

    def send_signal(self, item: e.SendSignal) -> None:
        """End the process, unless it ignores that."""
        if (process := self.processes.get(item.slot)) is not None:
            self.world.after(20, self._signal, process, item.signal)

    def destroy(self, item: e.Destroy) -> None:
        """End the processes and what they have left."""
        for slot in item.slots:
            if (process := self.processes.get(slot)) is not None:
                self.world.after(20, self._destroyed, process)

    def sweep(self, item: e.Sweep) -> None:
        """Look after a while for what is left."""
        if (process := self.processes.get(item.slot)) is not None:
            self.world.after(self.world.between(10, 3_000), self._sweep, process, item.linger)

    def close_outputs(self, item: e.CloseOutputs) -> None:
        """Read what is in the pipes for the last time."""
        if (process := self.processes.get(item.slot)) is not None:
            self.world.after(10, self._close_outputs, process)

    def select(self, item: e.Select) -> None:
        """Look at all processes after a while."""
        self.world.after(self.world.between(50, 500), self._select, item)

    def resize_terminals(self, item: e.ResizeTerminals) -> None:
        """Virtual processes have no terminals."""

    def forget_slots(self, item: e.ForgetSlots) -> None:
        """Drop them, and see that nothing of them runs."""
        for slot in item.slots:
            process = self.processes.pop(slot, None)
            if process is not None and (not process.ended or process.leftover):
                self.world.violated("NoStray", f"n{self.node} forgets {process.job} r{process.rank}, which still runs")

    def kill_all(self) -> None:
        """The space is gone, and every process with it."""
        self.dead = True
        for process in self.processes.values():
            if not process.ended:
                process.ended = True
                process.truth.lost = True
            process.leftover = process.truth.lingers = False
        self.processes.clear()
        self._queued.clear()

    @property
    def alive(self) -> int:
        """How many virtual processes exist, leftovers included."""
        return sum((not process.ended) + process.leftover for process in self.processes.values())

    # ------------------------------------------------------------------ starting

    def _start(self, slot: int, rank: int, job: str, ticket: m.Ticket) -> None:
        if self.dead or self._queued.pop(slot, None) is None:
            return
        if ticket.spec.argv[0] == b"missing":
            self.truth.failures.add((job, rank))
            self.world.tell(self._name, "%s r%d cannot be started", job, rank)
            self.tell(e.StartFailed(slot, 2, "cannot execute missing"))
            return
        self._next_pid += 1
        pid = self._next_pid
        former = self.truth.ranks.get((job, rank))
        if former is not None:
            where = f"n{former.node} incarnation {former.incarnation} as {former.pid}"
            self.world.violated("AtMostOnceSpawn", f"{job} r{rank} started on n{self.node} again; before on {where}")
        known = self.truth.jobs.get(job)
        if known is None or known.nodes[rank] != self.node:
            self.world.violated(
                "AtMostOnceSpawn", f"{job} r{rank} was started on n{self.node}, where it does not belong"
            )
        if known.key:
            self._check_launch(known, rank)
        truth = self.truth.started(self.world, job, rank, RankTruth(self.node, self.incarnation, pid))
        stubborn = ticket.spec.argv[1][-1:] in b"13"
        process = VirtualProcess(slot, rank, ticket, script_of(ticket.spec.argv, rank), truth, stubborn)
        if ticket.spec.stdin is None:
            process.closed_input = True
        if ticket.spec.pmi:
            process.mpi = MpiRank(
                self.world, self.truth.barriers, known, rank, partial(self._says, process), partial(self._run, process)
            )
        self.processes[slot] = process
        self.world.tell(self._name, "%s r%d starts as %d", job, rank, pid)
        self.tell(e.ProcessStarted(slot, pid))
        self._run(process)

    # ------------------------------------------------------------------ running

    def _told(self, process: VirtualProcess, line: bytes) -> None:
        if process.mpi is not None and not (process.ended or self.dead):
            process.mpi.told(line)

    def _says(self, process: VirtualProcess, line: bytes) -> None:
        if not (process.ended or self.dead):
            self.tell(e.PmiSaid(process.slot, line))

    def _check_launch(self, known: JobTruth, rank: int) -> None:
        """AtMostOnceLaunch: only nodes that a repeated launch leaves out may start it under its older id, or later."""
        started = self.truth.started_by_key.setdefault(known.key, {})
        started.setdefault(self.node, known.job)
        for node, other in started.items():
            # Who has started the older of the two must not be among the nodes of the newer one.
            of_older, newer = (node, known.job) if m.job_order(other) < m.job_order(known.job) else (self.node, other)
            if other != known.job and of_older in self.truth.jobs[newer].nodes:
                text = f"{known.job} r{rank} is started; it was launched as {other}, too, and n{node} started that"
                self.world.violated("AtMostOnceLaunch", text)

    def _run(self, process: VirtualProcess) -> None:
        """Take steps of the script until one has to wait."""
        while not (process.ended or self.dead):
            kind, first, second = process.script[process.step]
            process.step += 1
            if kind == "wait":
                self.world.after(first, self._resume, process, process.step)
                return
            if kind == "write":
                process.blocked = first - 1, second
                if not self._write(process):
                    return
            elif kind == "read":
                process.reading, process.wanted = True, first
                self._take_input(process)
                return
            elif kind == "mpi":
                assert process.mpi is not None
                process.mpi.begin(first, second)
                return
            elif kind == "close":
                self._close_input(process)
            elif kind == "fork":
                process.leftover, process.holds_pipe = True, bool(first)
                process.truth.lingers = process.lingers
                self.world.after(second, self._left_ends, process)
            elif kind == "stop":
                process.held_step = process.step
                self._stop(process, first)
                if second >= 0:
                    self.world.after(second, self._continue, process)
                return
            else:
                self._end(process, first)

    def _write(self, process: VirtualProcess) -> bool:
        assert process.blocked is not None
        index, size = process.blocked
        part = min(size, PIPE_BYTES - process.piped[index])
        process.piped[index] += part
        process.truth.written[index] += part
        process.blocked = (index, size - part) if part < size else None
        self._poll_soon(process, index)
        return process.blocked is None

    def _end(self, process: VirtualProcess, status: int) -> None:
        process.ended = True
        process.blocked = None
        process.truth.end(status, self.world.now_us)
        # Of every rank another amount, and of some no peak is known.
        process.truth.used = 10 * process.rank + 1, process.truth.pid % 7, 4096 * (process.rank % 3)
        self.world.tell(self._name, "%s r%d ends with %d", process.job, process.rank, status)
        if not process.closed_input and process.fed is not None:
            self._close_input(process)
        self.world.after(self.world.between(10, 300), self._reap, process)
        self._poll_soon(process, 0)
        self._poll_soon(process, 1)

    def _reap(self, process: VirtualProcess) -> None:
        if not self.dead:
            truth = process.truth
            if process.told_stopped:
                truth.stands(0, 1, self.world.now_us)
            self.tell(e.ProcessExited(process.slot, truth.status or 0, not process.leftover, truth.used))

    # ------------------------------------------------------------------ pipes

    def _poll_soon(self, process: VirtualProcess, index: int) -> None:
        if not process.polling[index]:
            process.polling[index] = True
            self.world.after(self.world.between(5, 200), self._poll, process, index)

    def _poll(self, process: VirtualProcess, index: int) -> None:
        process.polling[index] = False
        if self.dead or process.paused[index] or process.outputs_ended[index]:
            return
        self._read_pipe(process, index)
        if process.ended and not process.holds_pipe:
            process.outputs_ended[index] = True
            self.tell(e.WriteEnded(process.slot, index + 1))

    def _read_pipe(self, process: VirtualProcess, index: int) -> None:
        size = process.piped[index]
        if size:
            process.piped[index] = 0
            offset = process.truth.written[index] - size
            data = content(process.job, process.rank, index + 1, offset, size)
            self.tell(e.Wrote(process.slot, index + 1, data))
        waits = process.blocked is not None and process.blocked[0] == index and not process.stopped_by
        if waits and self._write(process):
            self.world.after(0, self._resume, process, process.step)

    def _close_outputs(self, process: VirtualProcess) -> None:
        for index in (0, 1):
            if not self.dead and not process.outputs_ended[index]:
                process.outputs_ended[index] = True
                self._read_pipe(process, index)
                self.tell(e.WriteEnded(process.slot, index + 1))

    def _take_input(self, process: VirtualProcess) -> None:
        """Let a process that reads take what is fed to it."""
        if self.dead or process.ended or not process.reading or process.stopped_by:
            return
        truth = process.truth
        if process.fed is not None and process.wanted > 0:
            data, process.fed = process.fed, None
            self.truth.check_input(self.world, process.job, process.rank, truth.read, data)
            truth.read += len(data)
            process.wanted -= len(data)
            self.tell(e.Fed(process.slot))
        elif process.fed is None and process.feed_end and not truth.read_end:
            self.truth.check_input_end(self.world, process.job, process.rank, truth.read)
            truth.read_end = True
            process.wanted = 0
        if process.wanted <= 0:
            process.reading = False
            self._run(process)

    def _close_input(self, process: VirtualProcess) -> None:
        process.closed_input = True
        process.fed = None
        self.tell(e.InputClosed(process.slot))

    # ------------------------------------------------------------------ signals and ends

    def _signal(self, process: VirtualProcess, signal: int) -> None:
        if self.dead or process.ended or self._stops_or_holds(process, signal) or signal in process.ignored:
            return
        self._killed(process.job, process.rank, signal)
        self._end(process, signal)

    def _destroyed(self, process: VirtualProcess) -> None:
        self._kill_left(process, SIGKILL)
        self._signal(process, SIGKILL)

    def _kill_left(self, process: VirtualProcess, signal: int) -> bool:
        """Kill what a process has left, if there is something; return whether there was."""
        was_there = process.leftover and signal not in process.ignored
        if was_there:
            if process.lingers:
                self._killed(process.job, process.rank, signal)
            self._left_ends(process)
        return was_there

    def _left_ends(self, process: VirtualProcess) -> None:
        if self.dead or not process.leftover:
            return
        process.leftover = process.holds_pipe = process.truth.lingers = False
        if process.awaited:
            process.awaited = False
            self.tell(e.Swept(process.slot))
        self._poll_soon(process, 0)
        self._poll_soon(process, 1)

    def _sweep(self, process: VirtualProcess, linger: bool) -> None:
        if self.dead:
            return
        if linger and process.leftover:
            process.awaited = True
            return
        killed = self._kill_left(process, SIGKILL)
        process.truth.left_killed += killed
        self.tell(e.Swept(process.slot, int(killed)))

    def _select(self, select: e.Select) -> None:
        if self.dead:
            return
        rows: list[m.Process] = []
        matched = 0
        for process in list(self.processes.values()):
            pid = process.truth.pid
            if (
                (process.ended and not process.leftover)
                or select.uid not in (-1, process.uid)
                or (select.job and process.job != select.job)
                or (select.slots is not None and process.slot not in select.slots)
                or (select.pids is not None and pid not in select.pids and -pid not in select.pids)
            ):
                continue
            matched += 1
            if select.detail:
                rows.append(m.Process(pid, process.job, process.rank, 0, "S", 0, [b"sim"], True))
            if select.signal:
                if select.signal not in (SIGCONT, *STOPPING):
                    self._kill_left(process, select.signal)
                self._signal(process, select.signal)
        self.tell(e.Selected(select.query, matched, rows))
