"""A bpinit in virtual time: what its machine says costs CPU time, and so do the processes that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.space.shell import SpaceShell
from heorot.core.wire import tree as m
from heorot.sim.timed.costs import START_SHARE, TimedUsage
from heorot.sim.timed.timeline import Cores, TimedProcess, Unexpected

if TYPE_CHECKING:
    from heorot.sim.timed.costs import Costs
    from heorot.sim.timed.timeline import Timeline


class AgentOfInit(Protocol):
    """The agent of a bpinit."""

    node: int

    def from_space(self, payload: bytes) -> None:
        """The agent's socket has an answer of bpinit."""


class SurroundingsOfInit(Protocol):
    """The cluster, for a bpinit."""

    timeline: Timeline
    costs: Costs
    hop_ns: int

    def started(self, job: str, rank: int, node: int) -> None:
        """A rank's process was started."""


class TimedInit(SpaceShell):
    """A bpinit, and processes that end as soon as they have run: they read nothing, write nothing and leave nothing."""

    __slots__ = (
        "agent",
        "answers",
        "cluster",
        "costs",
        "deadline_ms",
        "next_pid",
        "process",
        "space",
        "spent_ns",
        "usage",
    )

    def __init__(self, cluster: SurroundingsOfInit, agent: AgentOfInit, cores: Cores, space: Space) -> None:
        self.cluster = cluster
        self.agent = agent
        self.space = space
        self.process = TimedProcess(cores)
        self.costs = cluster.costs.init
        self.usage = TimedUsage()
        self.spent_ns = 0
        self.deadline_ms: int | None = None
        self.next_pid = 1
        self.answers: list[e.SpaceEvent] = []
        """What came back of this turn's instructions at once: events for the same turn."""

    def arrived(self, command: m.SpaceCommand, size_bytes: int) -> None:
        """A command is in the socket's buffer."""
        self.process.give(self.turn, e.FromAgent(command), size_bytes)

    def turn(self, event: e.SpaceEvent, size_bytes: int) -> int:
        """Take one event; return what it costs."""
        self.spent_ns = 0
        if size_bytes:
            self._message(size_bytes)
        if isinstance(event, e.FromAgent) and isinstance(event.command, m.Launch):
            self.usage.launches += 1
            self.spent_ns += round(self.costs.launch_us * 1000)
        self._take(event)
        self._tick()
        return self.spent_ns

    def _message(self, size_bytes: int) -> None:
        self.usage.messages += 1
        self.usage.size_bytes += size_bytes
        self.spent_ns += round((self.costs.message_us + self.costs.kib_us * size_bytes / 1024) * 1000)

    def _take(self, event: e.SpaceEvent) -> None:
        now_ms = self.cluster.timeline.now_ms
        self.carry_out(self.space.handle(event, now_ms))
        while self.answers:
            self.carry_out(self.space.handle(self.answers.pop(0), now_ms))

    # ------------------------------------------------------------------ instructions

    def to_agent(self, item: e.ToAgent) -> None:
        """Let it arrive a hop later."""
        payload = m.encode(item.message)
        self._message(len(payload))
        timeline = self.cluster.timeline
        timeline.at(timeline.now_ns + self.spent_ns + self.cluster.hop_ns, self.agent.from_space, payload)

    def start_ranks(self, item: e.StartRanks) -> None:
        """Start them all in this turn."""
        for slot, rank in item.slots:
            self._start(item.job, slot, rank)

    def forget_slots(self, item: e.ForgetSlots) -> None:
        """Nothing is kept of them."""

    def space_log(self, item: e.SpaceLog) -> None:
        """Costs nothing, and nobody reads it."""

    def unexpected(self, item: object) -> None:
        """Raise `Unexpected`: nobody asks that of processes that end as soon as they have run."""
        raise Unexpected(f"bpinit of n{self.agent.node} is to {type(item).__name__}")

    cancel_starts = feed = feed_end = pause_reading = resume_reading = send_signal = unexpected
    destroy = sweep = close_outputs = select = resize_terminals = pmi_answer = pmi_close = unexpected

    # ------------------------------------------------------------------ processes

    def _start(self, job: str, slot: int, rank: int) -> None:
        cluster = self.cluster
        self.usage.ranks += 1
        self.spent_ns += round(self.costs.rank_us * START_SHARE * 1000)
        cluster.started(job, rank, self.agent.node)
        pid = self.next_pid
        self.next_pid += 1
        self.answers.append(e.ProcessStarted(slot, pid))
        at_ns = cluster.timeline.now_ns + self.spent_ns
        cluster.timeline.at(at_ns, self._runs, slot)

    def _runs(self, slot: int) -> None:
        TimedProcess(self.process.cores).give(self._run, slot)

    def _run(self, slot: int) -> int:
        cluster = self.cluster
        spent_ns = round(cluster.costs.process_us * 1000)
        cluster.timeline.at(cluster.timeline.now_ns + spent_ns, self.process.give, self._ended, slot)
        return spent_ns

    def _ended(self, slot: int) -> int:
        """The process has ended, and its pipes with it."""
        self.spent_ns = round(self.costs.rank_us * (1 - START_SHARE) * 1000)
        self._take(e.ProcessExited(slot, 0, True))
        self._take(e.WriteEnded(slot, 1))
        self._take(e.WriteEnded(slot, 2))
        self._tick()
        return self.spent_ns

    def _tick(self) -> None:
        """Give the machine its `Tick` in this turn, if it is due, or then."""
        timeline = self.cluster.timeline
        deadline_ms = self.space.deadline_ms
        if deadline_ms is not None and deadline_ms <= timeline.now_ms:
            self._take(e.Tick())
            deadline_ms = self.space.deadline_ms
        if deadline_ms is not None and deadline_ms != self.deadline_ms:
            self.deadline_ms = deadline_ms
            timeline.at(max(deadline_ms * 1_000_000, timeline.now_ns + 1), self._tick_due, deadline_ms)

    def _tick_due(self, deadline_ms: int) -> None:
        if self.deadline_ms == deadline_ms:
            self.deadline_ms = None
            self.process.give(self.turn, e.Tick(), 0)
