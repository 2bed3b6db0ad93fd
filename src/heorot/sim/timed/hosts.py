"""Shells that carry out the machines' instructions and say what that costs: a head, a node, a client.

They run the real machines. A daemon is one process on its host's cores; each message costs it CPU time
(`heorot.sim.timed.costs`) when it is taken and when it is sent, and what is sent leaves as soon as that time has
passed, not at the end of the turn: a head with many children does not keep the first one waiting for the last.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from heorot.core.head.machine import HeadMachine
from heorot.core.machine import (
    CloseClient,
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
    Log,
    NodeEvent,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    SpaceConnected,
    Stop,
    TimerFired,
    ToClient,
    ToSpace,
)
from heorot.core.node.machine import NodeMachine
from heorot.core.shells import CacheShell, HeadShell, LinkShell, NodeShell
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.events import KeepEvents, TellSite
from heorot.core.wire.tags import TAG_LAUNCH
from heorot.core.wire.wishes import KeepWishes, Prepare
from heorot.sim.timed.costs import DaemonCosts, TimedUsage
from heorot.sim.timed.space import TimedInit
from heorot.sim.timed.timeline import Cores, Port, TimedProcess, Unexpected

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from heorot.sim.timed.costs import Costs
    from heorot.sim.timed.timeline import TimedNetwork, Timeline


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


class TimedDaemon(LinkShell):
    """One process with a machine: accounts for messages, and keeps the machine's timers."""

    __slots__ = ("answers", "cluster", "costs", "links", "port", "process", "spent_ns", "timers", "usage")

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
        self.answers: list[Any] = []
        """What came back of this turn's instructions at once: events for the same turn."""

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
        """Let it leave when what this turn has done so far is over."""
        end = self.links.get(item.link)
        if end is None:
            return
        peer, number = end
        size = len(m.encode(item.message))
        self.message(size)
        self.usage.sent += 1
        self.port.send(self.sends_at_ns, peer.port, size, peer.arrived, (number, item.message, size), item.bulk)

    def close_link(self, item: CloseLink) -> None:
        """Let the peer know after what was sent."""
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

    def set_timer(self, item: SetTimer) -> None:
        """Plan a turn."""
        self.timers[item.key] = item.at_ms
        at_ns = max(item.at_ms * 1_000_000, self.cluster.timeline.now_ns)
        self.cluster.timeline.at(at_ns, self.timer_due, item.key, item.at_ms)

    def log(self, item: Log) -> None:
        """Costs nothing, and nobody reads it."""

    def stop(self, item: Stop) -> None:
        """Nothing in a healthy cluster makes a daemon end."""
        raise Unexpected(f"a daemon ends: {item.reason}")

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

    @abstractmethod
    def take(self, event: Any) -> None:
        """Give the machine an event and do what it says."""


class NoImages(CacheShell):
    """A cache that nobody asks: every node has every program."""

    __slots__ = ()

    def unexpected(self, item: object) -> None:
        """Raise `Unexpected`."""
        raise Unexpected(f"an image is to travel: {type(item).__name__}")

    examine = forget = keep_manifest = keep_chunks = take_shared = send_manifest = send_chunks = unexpected
    drop_copies = unexpected


class TimedHead(TimedDaemon, NoImages, HeadShell):
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
        self.carry_out(instructions)

    def to_client(self, item: ToClient) -> None:
        """Let it arrive a hop later."""
        size = len(m.encode(item.message))
        self.message(size)
        client = self.cluster.client
        self.cluster.timeline.at(self.sends_at_ns + self.cluster.hop_ns, client.arrived, item.message)

    def close_client(self, item: CloseClient) -> None:
        """The only client is welcome."""
        raise Unexpected(f"the head closes client {item.client}")

    def keep_wishes(self, item: KeepWishes) -> None:
        """Nobody sets anything."""
        raise Unexpected(f"the head keeps what is wanted of {len(item.wishes)} nodes")

    def keep_events(self, item: KeepEvents) -> None:
        """They cost nothing here."""

    def tell_site(self, item: TellSite) -> None:
        """The site has no hook."""

    def prepare(self, item: Prepare) -> None:
        """The site has no script."""
        raise Unexpected(f"n{item.node} is to be prepared")

    def connect(self, item: Connect) -> None:
        """There is no other head."""
        raise Unexpected(f"the head looks for {item.host}")


class TimedNode(TimedDaemon, NoImages, NodeShell):
    """A node: its agent (the daemon itself), its bpinit, and the processes of ranks."""

    __slots__ = ("init", "machine", "node")

    def __init__(
        self, cluster: Surface, cores: Cores, port: Port, node: int, machine: NodeMachine, space: Space
    ) -> None:
        super().__init__(cluster, cores, port, cluster.costs.agent)
        self.node = node
        self.machine = machine
        self.init = TimedInit(cluster, self, cores, space)

    def take(self, event: NodeEvent) -> None:
        """Give the machine an event and do what it says."""
        if isinstance(event, Received):
            if isinstance(event.message, m.Report):
                self.take_ranks(event.message)
            elif isinstance(event.message, m.Down) and m.tag_of(event.message.payload) == TAG_LAUNCH:
                self.launch()
        now_ms = self.cluster.timeline.now_ms
        self.carry_out(self.machine.handle(event, now_ms))
        while self.answers:
            self.carry_out(self.machine.handle(self.answers.pop(0), now_ms))

    def send_encoded(self, item: SendEncoded) -> None:
        """As `send`."""
        self.send(Send(item.link, m.decode_link(item.payload)))

    def to_space(self, item: ToSpace) -> None:
        """Let it arrive at bpinit a hop later."""
        self.message(len(item.payload))
        command = m.decode_space_command(item.payload)
        at_ns = self.sends_at_ns + self.cluster.hop_ns
        self.cluster.timeline.at(at_ns, self.init.arrived, command, len(item.payload))

    def compare(self, item: Compare) -> None:
        """Every node has the program."""
        self.answers.append(Compared(item.job, True))

    make_view = NoImages.unexpected

    def remember(self, item: Remember) -> None:
        """The disk costs nothing."""
        if item.durable:
            self.answers.append(Kept(item.name, item.value, ""))

    def from_space(self, payload: bytes) -> None:
        """The agent's socket has an answer of bpinit."""
        self.process.give(self.turn, FromSpace(payload), len(payload))

    def start(self) -> None:
        """Begin as a daemon does that was just started."""
        timeline = self.cluster.timeline
        self.carry_out(self.machine.start(timeline.now_ms))
        self.init.process.give(self.init.turn, e.AgentConnected(), 0)
        self.process.give(self.turn, SpaceConnected(), 0)

    def connect(self, item: Connect) -> None:
        """Let it take two round trips: that of TCP and that of TLS."""
        peer = self.cluster.daemon(item.host)
        network = self.cluster.network
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
