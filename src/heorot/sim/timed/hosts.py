"""Shells that carry out the machines' instructions and say what that costs: a head, a node, a client.

They run the real machines. A daemon is one process on its host's cores; each message costs it CPU time
(`heorot.sim.timed.costs`) when it is taken and when it is sent, and what is sent leaves as soon as that time has
passed, not at the end of the turn: a head with many children does not keep the first one waiting for the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from heorot.core.head.machine import HeadMachine
from heorot.core.machine import (
    CloseLink,
    Compare,
    Compared,
    Connect,
    ConnectFailed,
    FromClient,
    FromSpace,
    HeadEvent,
    Kept,
    LinkClosed,
    LinkOpened,
    NodeEvent,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    SpaceConnected,
    TimerFired,
    ToClient,
    ToSpace,
)
from heorot.core.node.machine import NodeMachine
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_LAUNCH
from heorot.sim.timed.costs import START_SHARE, DaemonCosts
from heorot.sim.timed.timeline import Cores, Port, TimedProcess

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from heorot.sim.timed.costs import Costs
    from heorot.sim.timed.timeline import TimedNetwork, Timeline


class Unexpected(Exception):
    """Something happened that does not happen in a healthy cluster; the text says what."""


class Surface(Protocol):
    """The cluster, for its hosts."""

    timeline: Timeline
    network: TimedNetwork
    costs: Costs
    fanout: int
    hop_ns: int
    head: TimedHead
    client: TimedClient
    nodes: list[TimedNode]

    @property
    def stopwatch(self) -> AbstractContextManager[None]:
        """Measures what the head's core costs."""

    def daemon(self, host: str) -> TimedDaemon | None:
        """Return who listens on a host."""

    def next_link(self) -> int:
        """Return a number for the end of a link."""

    def started(self, job: str, rank: int, node: int) -> None:
        """A rank's process was started."""


class TimedUsage:
    """What a daemon did so far, and what that costs."""

    __slots__ = ("launches", "messages", "ranks", "sent", "size_bytes")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.launches = self.messages = self.ranks = self.sent = self.size_bytes = 0

    def row(self) -> list[float]:
        """Return the quantities in the order of the fields of `DaemonCosts`."""
        return [self.launches, self.messages, self.size_bytes / 1024, self.ranks]


class TimedDaemon:
    """One process with a machine: accounts for messages, and keeps the machine's timers."""

    __slots__ = ("cluster", "costs", "links", "port", "process", "spent_ns", "timers", "usage")

    def __init__(self, cluster: Surface, cores: Cores, port: Port, costs: DaemonCosts) -> None:
        self.cluster = cluster
        self.process = TimedProcess(cores)
        self.port = port
        self.costs = costs
        self.usage = TimedUsage()
        self.spent_ns = 0
        """Of the present turn."""
        self.links: dict[int, tuple[TimedDaemon, int]] = {}
        """The daemon at the other end of each link, and the number of the link there."""
        self.timers: dict[Any, int] = {}

    def message(self, size_bytes: int) -> None:
        """Account for a message that was taken or is to be sent."""
        self.usage.messages += 1
        self.usage.size_bytes += size_bytes
        self.spent_ns += round((self.costs.message_us + self.costs.kib_us * size_bytes / 1024) * 1000)

    def launch(self) -> None:
        """Account for a launch."""
        self.usage.launches += 1
        self.spent_ns += round(self.costs.launch_us * 1000)

    def ranks(self, count: int, share: float = 1.0) -> None:
        """Account for ranks."""
        self.spent_ns += round(self.costs.rank_us * 1000 * count * share)

    def take_ranks(self, report: m.Report) -> None:
        """Account for the ranks of a report; one that has started and ended is in it twice and counts once."""
        started = len(report.started) // 3 + len(report.pids)
        count = max(started, len(report.exited) // 5 + sum(report.exited_runs[2::6]))
        self.usage.ranks += count
        self.ranks(count)

    @property
    def sends_at_ns(self) -> int:
        """When what is sent now leaves."""
        return self.cluster.timeline.now_ns + self.spent_ns

    def send(self, item: Send) -> None:
        """Carry out a `Send`."""
        end = self.links.get(item.link)
        if end is None:
            return
        peer, number = end
        size = len(m.encode(item.message))
        self.message(size)
        self.usage.sent += 1
        self.port.send(self.sends_at_ns, peer.port, size, peer.arrived, (number, item.message, size), item.bulk)

    def close(self, item: CloseLink) -> None:
        """Carry out a `CloseLink`."""
        end = self.links.pop(item.link, None)
        if end is not None:
            peer, number = end
            self.port.send(self.sends_at_ns, peer.port, 0, peer.link_gone, (number,), False)

    def link_gone(self, number: int) -> None:
        """The peer has closed a link."""
        if self.links.pop(number, None) is not None:
            self.process.give(self.turn, LinkClosed(number, "closed by the peer"), 0)

    def arrived(self, number: int, message: m.LinkMessage, size_bytes: int) -> None:
        """A message is in the socket's buffer."""
        if number in self.links:
            self.process.give(self.turn, Received(number, message), size_bytes)

    def set_timer(self, key: Any, at_ms: int) -> None:
        """Carry out a `SetTimer`."""
        self.timers[key] = at_ms
        self.cluster.timeline.at(max(at_ms * 1_000_000, self.cluster.timeline.now_ns), self.timer_due, key, at_ms)

    def timer_due(self, key: Any, at_ms: int) -> None:
        """A timer has fired, unless it was moved."""
        if self.timers.get(key) == at_ms:
            del self.timers[key]
            self.process.give(self.turn, TimerFired(key), 0)

    def turn(self, event: Any, size_bytes: int) -> int:
        """Take one event; return what it costs."""
        self.spent_ns = 0
        if size_bytes:
            self.message(size_bytes)
        self.take(event)
        return self.spent_ns

    def take(self, event: Any) -> None:
        """Give the machine an event and do what it says."""
        raise NotImplementedError


class TimedHead(TimedDaemon):
    """The head."""

    __slots__ = ("machine",)

    def __init__(self, cluster: Surface, cores: Cores, port: Port, machine: HeadMachine) -> None:
        super().__init__(cluster, cores, port, cluster.costs.head)
        self.machine = machine

    def take(self, event: HeadEvent) -> None:
        """Give the machine an event and do what it says."""
        if isinstance(event, Received) and isinstance(event.message, m.Report):
            self.take_ranks(event.message)
        elif isinstance(event, FromClient) and isinstance(event.message, c.Spawn):
            self.launch()
        with self.cluster.stopwatch:
            instructions = self.machine.handle(event, self.cluster.timeline.now_ms)
        self.perform(instructions)

    def perform(self, instructions: Iterable[object]) -> None:
        """Do what the machine says."""
        for item in instructions:
            if isinstance(item, Send):
                self.send(item)
            elif isinstance(item, ToClient):
                size = len(m.encode(item.message))
                self.message(size)
                client = self.cluster.client
                arrived_ns = self.sends_at_ns + self.cluster.hop_ns
                self.cluster.timeline.at(arrived_ns, client.arrived, item.message)
            elif isinstance(item, SetTimer):
                self.set_timer(item.key, item.at_ms)
            elif isinstance(item, CloseLink):
                self.close(item)


class TimedNode(TimedDaemon):
    """A node: its agent (the daemon itself), its bpinit, and the processes of ranks."""

    __slots__ = ("init", "machine", "node")

    def __init__(
        self, cluster: Surface, cores: Cores, port: Port, node: int, machine: NodeMachine, space: Space
    ) -> None:
        super().__init__(cluster, cores, port, cluster.costs.agent)
        self.node = node
        self.machine = machine
        self.init = TimedInit(self, cores, space)

    def take(self, event: NodeEvent) -> None:
        """Give the machine an event and do what it says."""
        if isinstance(event, Received):
            if isinstance(event.message, m.Report):
                self.take_ranks(event.message)
            elif isinstance(event.message, m.Down) and m.tag_of(event.message.payload) == TAG_LAUNCH:
                self.launch()
        self.perform(self.machine.handle(event, self.cluster.timeline.now_ms))

    def perform(self, instructions: Iterable[object]) -> None:
        """Do what the machine says."""
        for item in instructions:
            if isinstance(item, Send):
                self.send(item)
            elif isinstance(item, SendEncoded):
                self.send(Send(item.link, m.decode_link(item.payload)))
            elif isinstance(item, ToSpace):
                self.message(len(item.payload))
                command = m.decode_space_command(item.payload)
                at_ns = self.sends_at_ns + self.cluster.hop_ns
                self.cluster.timeline.at(at_ns, self.init.arrived, command, len(item.payload))
            elif isinstance(item, SetTimer):
                self.set_timer(item.key, item.at_ms)
            elif isinstance(item, Compare):
                self.take(Compared(item.job, True))
            elif isinstance(item, Remember):
                if item.durable:
                    self.take(Kept(item.name, item.value, ""))
            elif isinstance(item, CloseLink):
                self.close(item)
            elif isinstance(item, Connect):
                self._connect(item)

    def from_space(self, payload: bytes) -> None:
        """The agent's socket has an answer of bpinit."""
        self.process.give(self.turn, FromSpace(payload), len(payload))

    def start(self) -> None:
        """Begin as a daemon does that was just started."""
        timeline = self.cluster.timeline
        self.perform(self.machine.start(timeline.now_ms))
        self.init.process.give(self.init.turn, e.AgentConnected(), 0)
        self.process.give(self.turn, SpaceConnected(), 0)

    def _connect(self, item: Connect) -> None:
        peer = self.cluster.daemon(item.host)
        network = self.cluster.network
        # The round trip of TCP and that of TLS.
        network.timeline.at(network.timeline.now_ns + 4 * network.latency_ns, self._connected, peer, item)

    def _connected(self, peer: TimedDaemon | None, item: Connect) -> None:
        if peer is None:
            self.process.give(self.turn, ConnectFailed(item.key, "refused"), 0)
            return
        mine, theirs = self.cluster.next_link(), self.cluster.next_link()
        self.links[mine] = peer, theirs
        peer.links[theirs] = self, mine
        number = peer.node if isinstance(peer, TimedNode) else HEAD
        peer.process.give(peer.turn, LinkOpened(theirs, self.node), 0)
        self.process.give(self.turn, LinkOpened(mine, number, item.key), 0)


class TimedInit:
    """A bpinit, and processes that end as soon as they have run."""

    __slots__ = ("agent", "costs", "deadline_ms", "next_pid", "process", "space", "spent_ns", "usage")

    def __init__(self, agent: TimedNode, cores: Cores, space: Space) -> None:
        self.agent = agent
        self.space = space
        self.process = TimedProcess(cores)
        self.costs = agent.cluster.costs.init
        self.usage = TimedUsage()
        self.spent_ns = 0
        self.deadline_ms: int | None = None
        self.next_pid = 1

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
        cluster = self.agent.cluster
        for item in self.space.handle(event, cluster.timeline.now_ms):
            if isinstance(item, e.ToAgent):
                payload = m.encode(item.message)
                self._message(len(payload))
                at_ns = cluster.timeline.now_ns + self.spent_ns + cluster.hop_ns
                cluster.timeline.at(at_ns, self.agent.from_space, payload)
            elif isinstance(item, e.StartRanks):
                for slot, rank in item.slots:
                    self._start(item.job, slot, rank)

    def _start(self, job: str, slot: int, rank: int) -> None:
        cluster = self.agent.cluster
        self.usage.ranks += 1
        self.spent_ns += round(self.costs.rank_us * START_SHARE * 1000)
        cluster.started(job, rank, self.agent.node)
        pid = self.next_pid
        self.next_pid += 1
        self._take(e.ProcessStarted(slot, pid))
        at_ns = cluster.timeline.now_ns + self.spent_ns
        cluster.timeline.at(at_ns, self._runs, slot)

    def _runs(self, slot: int) -> None:
        TimedProcess(self.process.cores).give(self._run, slot)

    def _run(self, slot: int) -> int:
        cluster = self.agent.cluster
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
        timeline = self.agent.cluster.timeline
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


class TimedClient:
    """A `bpsh` that runs a command on many ranks."""

    def __init__(self, cluster: Surface, cores: Cores, spawn: c.Spawn, number: int, *, bare: bool = False) -> None:
        self.cluster = cluster
        self.process = TimedProcess(cores)
        self.number = number
        self.spawn = spawn
        self.bare = bare
        """It is a program that runs already and has a connection, not a whole `bpsh`."""
        self.began_ns = cluster.timeline.now_ns
        self.done_ns: int | None = None
        self.ended_ns: int | None = None
        self.exited = 0
        self.job = ""

    def begin(self) -> None:
        """Start the command."""
        self.process.give(self._before)

    def _us(self, us: float) -> int:
        return 0 if self.bare else round(us * 1000)

    def _before(self) -> int:
        costs, cluster = self.cluster.costs, self.cluster
        spent_ns = self._us(costs.client_before_us)
        cluster.timeline.at(cluster.timeline.now_ns + spent_ns, self._send, self.spawn)
        self.process.give(lambda: self._us(costs.client_after_us - costs.client_end_us))
        return spent_ns

    def _send(self, message: c.ClientMessage) -> None:
        head = self.cluster.head
        size = len(m.encode(message))
        at_ns = self.cluster.timeline.now_ns + self.cluster.hop_ns
        self.cluster.timeline.at(at_ns, head.process.give, head.turn, FromClient(self.number, message), size)

    def arrived(self, message: c.HeadMessage) -> None:
        """The head has sent something."""
        self.process.give(self._take, message)

    def _take(self, message: c.HeadMessage) -> int:
        if isinstance(message, c.Error):
            raise Unexpected(f"the head refuses the launch: {message.code}: {message.message}")
        if isinstance(message, (c.Failed, c.Lost)):
            raise Unexpected(f"ranks failed: {message.ranks[:3]}")
        if isinstance(message, c.Spawned):
            self.job = message.job
        elif isinstance(message, c.ExitedAlike):
            self.exited += sum(message.runs[1::2])
        elif isinstance(message, c.Exited):
            self.exited += len(message.ranks) // 4
        elif isinstance(message, c.Done):
            self.done_ns = self.cluster.timeline.now_ns
            spent_ns = self._us(self.cluster.costs.client_end_us)
            self.cluster.timeline.at(self.done_ns + spent_ns, self._end)
            return spent_ns
        return 0

    def _end(self) -> None:
        self.ended_ns = self.cluster.timeline.now_ns
        self._send(c.ClientRelease(self.job))
