"""Shells for the machines: the hosts of the virtual cluster. Each does what the real daemons do, and nothing more."""

from __future__ import annotations

import hashlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from heorot.core.errors import ProtocolError
from heorot.core.machine import (
    Connect,
    ConnectFailed,
    FromSpace,
    Kept,
    LinkClosed,
    LinkOpened,
    NodeEvent,
    Received,
    Remember,
    Send,
    SendEncoded,
    SpaceClosed,
    SpaceConnected,
    Stop,
    ToSpace,
)
from heorot.core.node.machine import NodeConfig, NodeMachine
from heorot.core.shells import NodeShell
from heorot.core.space import events as e
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_TELL_HEADS
from heorot.sim.ambush import Ambush
from heorot.sim.network import Attempt, End, Link
from heorot.sim.shell import VirtualShell
from heorot.sim.space import SpaceHost

if TYPE_CHECKING:
    from heorot.sim.run import Run

CLUSTER = "sim"
LOCAL_DELAY_US = (20, 300)
FASTEST_DISK_US = 50


def sign(data: bytes) -> bytes:
    """Stand in for the head's Ed25519 key."""
    return hashlib.blake2b(data, key=b"virtual head", digest_size=16).digest()


def verify(data: bytes, signature: bytes) -> bool:
    """Check what `sign` signed."""
    return sign(data) == signature


class NodeHost(VirtualShell, NodeShell):
    """A compute host: its agent and its process space, each of which may die alone."""

    def __init__(self, cluster: Run, node: int) -> None:
        super().__init__(cluster, f"n{node}")
        self.node = node
        self.agent: NodeMachine | None = None
        self.space: SpaceHost | None = None
        self.isolated = False
        self.dozing: list[tuple[NodeEvent, int | None]] | None = None
        """What waits for an agent that was stopped, with the epochs of commands; None: it is awake."""
        self.retired = False
        """It does not come back."""
        self.obeying_epoch: int | None = None
        """The epoch of the command that is being carried out."""
        self.seen_epoch = 0
        """The highest that its agents have obeyed; a loss of power does not lower it."""
        self.remembered: dict[str, bytes] = {}
        """What an agent that is started reads: it outlives a crash of the agent."""
        self._on_disk: dict[str, bytes] = {}
        """What of it outlives a loss of power: at once what is durable, the rest some time later."""
        self.overheard: deque[tuple[int, bytes]] = deque(maxlen=20)
        """The last commands that came by."""
        self.overheard_lists: deque[bytes] = deque(maxlen=20)
        """The last lists of heads."""
        self.ambush = Ambush()
        """What strikes soon after its agent has taken a message."""
        self._local: End | None = None
        self._agents = 0
        self._incarnations = 0

    # ------------------------------------------------------------------ life and death

    def start_space(self) -> None:
        """Start a bpinit of a new incarnation, and an agent with it."""
        assert self.space is None
        self._incarnations += 1
        incarnation = self._incarnations * 1_000 + self.node
        killed = partial(self.cluster.checks.killed, self)
        self.space = SpaceHost(self.cluster, self.node, incarnation, lambda: self.clock, killed)
        self.world.tell(self.name, "bpinit starts, incarnation %d", incarnation)
        self.start_agent()

    def start_agent(self) -> None:
        """Start the agent with what it was told to remember."""
        if self.space is None or self.agent is not None:
            return
        self._agents += 1
        settings = self.cluster.settings
        config = NodeConfig(
            cluster=CLUSTER,
            node=self.node,
            release="sim",
            host=self.name,
            port=1,
            heads=tuple((name, 1) for name in self.cluster.seeds),
            placement=self.remembered.get("placement", b""),
            epoch=int(self.remembered.get("epoch", b"0")),
            agent_pid=self._agents,
            init_pid=self.node + 2,
            wall_offset_ms=self.clock.wall_offset_ms,
            jitter_seed=self.world.between(0, 1 << 30),
            heartbeat_ms=settings.heartbeat_ms,
            link_timeout_ms=settings.link_timeout_ms,
            connect_timeout_ms=1_000,
            swarm_gain_ms=settings.swarm_gain_ms,
            head_list=self.remembered.get("heads", b""),
            headless_patience_ms=settings.headless_patience_ms,
        )
        self.world.tell(self.name, "agent starts")
        self.agent = self.cluster.mutate(NodeMachine(config, verify))
        self.cache.begin(self.feed, lambda link, message: self.send(Send(link, message, True)))
        self.carry_out(self.agent.start(self.clock.now_ms))
        local = self.cluster.network.pair(
            f"{self.name}-space",
            (self._from_space, self._space_closed),
            (self._from_agent, self._agent_closed),
            LOCAL_DELAY_US,
            2,
        )
        if self.space.agent is not None:
            self.space.agent.open = False
            self.space.tell(e.AgentLost())
        self._local = local.left
        self.space.agent = local.right
        self.space.tell(e.AgentConnected())
        self.feed(SpaceConnected())

    def kill_agent(self) -> None:
        """Kill -9 the agent: its links and its connection to bpinit go; some of what it sent last still arrives."""
        if self.agent is None:
            return
        self.world.tell(self.name, "agent is killed")
        self._end_agent()

    def _end_agent(self) -> None:
        self.agent = self.dozing = None
        self.timers.clear()
        network = self.cluster.network
        for end in [*self.ends.values(), *([self._local] if self._local else [])]:
            if self.world.chance(0.5):
                network.close(end)
            else:
                end.open = False
                network.cut(end.link, (self.world.between(10, 5_000), self.world.between(10, 5_000)))
        self.ends.clear()
        self.peers.clear()
        self._local = None

    def doze(self) -> None:
        """Stop the agent in the middle of its work; its links stay."""
        if self.agent is not None and self.dozing is None:
            self.world.tell(self.name, "agent is stopped")
            self.dozing = []

    def wake(self) -> None:
        """Let the agent go on as if nothing had happened."""
        waiting, self.dozing = self.dozing, None
        if waiting is not None:
            self.world.tell(self.name, "agent goes on")
            for event, epoch in waiting:
                self.obeying_epoch = epoch
                self.feed(event)
            self.obeying_epoch = None

    def kill_space(self) -> None:
        """Kill -9 bpinit: every process ends with it, and the agent hears of it."""
        if self.space is None:
            return
        self.world.tell(self.name, "bpinit is killed")
        self.cluster.truth.deaths[self.node] = self.cluster.truth.deaths.get(self.node, 0) + 1
        self.space.kill_all()
        if self.space.agent is not None:
            self.cluster.network.close(self.space.agent)
        self.space = None

    def kill(self) -> None:
        """Power off."""
        self.world.tell(self.name, "power off")
        self.kill_space()
        self.remembered = dict(self._on_disk)
        self.cache.lose_power()
        self.clock = self.cluster.draw_clock()
        if self.agent is not None:
            self.agent = self.dozing = None
            self.timers.clear()
            for end in list(self.ends.values()):
                # A host that loses its power says nothing: neighbours notice by a reset later, or by silence.
                end.open = False
                notice = None if self.world.chance(0.3) else self.world.between(100, 500_000)
                self.cluster.network.cut(end.link, (notice, notice))
            self.ends.clear()
            self.peers.clear()
            self._local = None

    @property
    def table_alive(self) -> int:
        """How many virtual processes there are."""
        return self.space.alive if self.space is not None else 0

    def kept_heads(self) -> list[str]:
        """Return the list of heads on its disk."""
        kept = self._on_disk.get("heads")
        return [head.host for head in m.decode_head_list(m.decode_tell_heads(kept).listing).heads] if kept else []

    def known_heads(self) -> set[str]:
        """Return the heads that this node can look for, whatever becomes of it."""
        return {*self.cluster.seeds, *self.kept_heads()}

    # ------------------------------------------------------------------ connections

    def reachable(self) -> bool:
        """Say whether packets arrive."""
        return not self.isolated and (self.space is not None or self.agent is not None)

    def accept(self, peer: int, link: Link) -> End | None:
        """Take a connection from a child."""
        if self.agent is None:
            return None
        end = End(self.cluster.network.number(), link, self._received, self._closed)
        self.ends[end.number] = end
        self.peers[end.number] = peer
        self.world.after(0, self._accepted, end, peer)
        return end

    def passes_to(self) -> str:
        """Nowhere: it is no head."""
        return ""

    def _accepted(self, end: End, peer: int) -> None:
        if end.open:
            self.feed(LinkOpened(end.number, peer))

    def _opened(self, attempt: Attempt, end: End, number: int) -> bool:
        if self.agent is None or f"{self._agents}" != attempt.key.partition("|")[0]:
            return False
        self.ends[end.number] = end
        self.peers[end.number] = number
        self.feed(LinkOpened(end.number, number, attempt.key.partition("|")[2]))
        return True

    def _failed(self, attempt: Attempt, reason: str) -> None:
        agent, _, key = attempt.key.partition("|")
        if self.agent is not None and f"{self._agents}" == agent:
            self.feed(ConnectFailed(key, reason))

    def _received(self, end: End, payload: bytes) -> None:
        message = m.decode_link(payload)
        self.world.tell_message(self.name, f"<- {self.peer_name(end)} %s", message, payload)
        if isinstance(message, m.Down):
            self.obeying_epoch = message.epoch
            self.overheard.append((message.epoch, message.payload))
            if m.tag_of(message.payload) == TAG_TELL_HEADS:
                self.overheard_lists.append(message.payload)
        self.feed(Received(end.number, message))
        self.obeying_epoch = None

    def haunt(self, down: m.Down) -> None:
        """Receive this command from the present parent."""
        end = self.ends.get(self.agent.uplink.link or 0) if self.agent is not None else None
        if end is not None and self.agent is not None and self.agent.uplink.attached:
            self._received(end, m.encode(down))

    def _closed(self, end: End, reason: str) -> None:
        self.world.tell(self.name, f"link {end.number} to {self.peer_name(end)} closed: %s", reason)
        self.ends.pop(end.number, None)
        self.peers.pop(end.number, None)
        self.feed(LinkClosed(end.number, reason))

    # ------------------------------------------------------------------ the agent

    def feed(self, event: NodeEvent) -> None:
        """Give the agent's machine an event and do what it says."""
        agent = self.agent
        if agent is None:
            return
        if self.dozing is not None:
            self.dozing.append((event, self.obeying_epoch))
            return
        try:
            instructions = agent.handle(event, self.clock.now_ms)
        except ProtocolError as error:
            self.world.violated("Peace", f"n{self.node} takes an honest message for a breach of the protocol: {error}")
        self.seen_epoch = max(self.seen_epoch, agent.epoch)
        self.carry_out(instructions)
        self.ambush.took(event)

    def send_encoded(self, item: SendEncoded) -> None:
        """Let it travel as it is."""
        end = self.ends.get(item.link)
        if end is not None:
            self.cluster.network.send(end, item.payload)

    def to_space(self, item: ToSpace) -> None:
        """Let it travel to bpinit."""
        if self._local is not None:
            self.cluster.checks.to_space(self, item.payload)
            self.cluster.network.send(self._local, item.payload)

    def connect(self, item: Connect) -> None:
        """Try to reach the other host."""
        key = f"{self._agents}|{item.key}"
        attempt = Attempt(key, self.node, 0, self._opened, self._failed, self._received, self._closed)
        attempt.passed_on = item.passed_on
        self.cluster.network.connect(item.host, attempt, item.timeout_ms, not self.isolated)

    def stop(self, item: Stop) -> None:
        """End the agent."""
        self.world.tell(self.name, "agent stops: %s", item.reason)
        self._end_agent()

    def remember(self, item: Remember) -> None:
        """Write it to a disk that takes its time, and may be full."""
        world, settings = self.world, self.cluster.settings
        if item.durable:
            delay_us = world.between(FASTEST_DISK_US, settings.disk_ms * 1000)
            full = not self.cluster.faults.healed and world.chance(settings.disk_full_rate)
            world.after(delay_us, self._kept, self._agents, item, full)
            return
        self.remembered[item.name] = item.value
        world.after(world.between(0, settings.write_back_ms * 1000), self._written, item.name, item.value)

    def _kept(self, agent: int, item: Remember, full: bool) -> None:
        if agent != self._agents or self.agent is None:
            # It was killed before it had written.
            return
        if not full:
            self.remembered[item.name] = self._on_disk[item.name] = item.value
        self.feed(Kept(item.name, item.value, "the disk is full" if full else ""))

    def _written(self, name: str, value: bytes) -> None:
        if self.remembered.get(name) == value:
            self._on_disk[name] = value

    # ------------------------------------------------------------------ between agent and space

    def _from_space(self, end: End, payload: bytes) -> None:
        if self.agent is not None:
            self.world.tell_message(self.name, "<- space %s", m.decode_space_answer(payload), payload)
            self.feed(FromSpace(payload))
        if self.space is not None and self.space.agent is end.other and payload[1] == 81:
            self.space.tell(e.Backlog(end.in_flight_bytes))

    def _space_closed(self, end: End, reason: str) -> None:
        if end is self._local:
            self._local = None
            self.feed(SpaceClosed())

    def _from_agent(self, end: End, payload: bytes) -> None:
        if self.space is not None and end is self.space.agent:
            command = m.decode_space_command(payload)
            self.world.tell_message(f"space{self.node}", "<- agent %s", command, payload)
            self.space.tell(e.FromAgent(command))

    def _agent_closed(self, end: End, reason: str) -> None:
        if self.space is not None and end is self.space.agent:
            self.space.agent = None
            self.space.tell(e.AgentLost())
