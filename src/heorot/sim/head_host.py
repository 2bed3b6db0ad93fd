"""The head's host: the head's machine, its links, its clients, and its successor after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core import client_messages as c
from heorot.core import messages as m
from heorot.core.errors import ProtocolError
from heorot.core.head import HeadConfig, HeadMachine
from heorot.core.machine import (
    ClientClosed,
    ClientOpened,
    CloseClient,
    CloseLink,
    FromClient,
    HeadEvent,
    Instruction,
    LinkClosed,
    LinkOpened,
    Log,
    Received,
    Send,
    SetTimer,
    TimerFired,
    ToClient,
)
from heorot.core.nodeset import HEAD
from heorot.sim.hosts import CLUSTER, LOCAL_DELAY_US, WALL_OFFSET_MS, Timers, sign, verify
from heorot.sim.network import Closed, End, Link
from heorot.sim.network import Received as OnReceived

if TYPE_CHECKING:
    from heorot.sim.cluster import Cluster


class HeadHost:
    """A host for heads. A successor takes over in the same place, or on the other host while this one is paused."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.name = name
        self.paused: list[HeadEvent] | None = None
        """What waits for a paused head to wake up; None: it is awake."""
        self.isolated_until_us = 0
        self.machine: HeadMachine | None = None
        self.epoch = 0
        self.ends: dict[int, End] = {}
        self.peers: dict[int, int] = {}
        self.clients: dict[int, End] = {}
        self.timers = Timers(cluster, self._timer)

    def start(self) -> None:
        """Begin the next term of office."""
        if self.machine is not None:
            return
        self.cluster.epoch += 1
        self.epoch = self.cluster.epoch
        settings = self.cluster.settings
        config = HeadConfig(
            cluster=CLUSTER,
            name=self.name,
            release="sim",
            epoch=self.epoch,
            host=self.name,
            port=1,
            fanout=settings.fanout,
            nodes=tuple(range(settings.nodes)),
            wall_offset_ms=WALL_OFFSET_MS,
            heartbeat_ms=settings.heartbeat_ms,
            link_timeout_ms=settings.link_timeout_ms,
            node_grace_ms=settings.node_grace_ms,
            adoption_grace_ms=8_000,
            kill_grace_ms=settings.kill_grace_ms,
            query_timeout_ms=settings.query_timeout_ms,
            rebalance_ms=settings.rebalance_ms,
            max_finished_jobs=settings.max_finished_jobs,
        )
        self.world.tell(self.name, "starts, epoch %d", self.epoch)
        self.machine = self.cluster.mutate(HeadMachine(config, sign, verify))
        self._perform(self.machine.start(self.world.now_ms))

    def kill(self) -> None:
        """Kill -9: all that it knew is gone."""
        if self.machine is None:
            return
        self.world.tell(self.name, "is killed")
        self.machine = None
        self.paused = None
        self.timers.clear()
        for end in [*self.ends.values(), *self.clients.values()]:
            if self.world.chance(0.5):
                self.cluster.network.close(end)
            else:
                end.open = False
                self.cluster.network.cut(end.link, (self.world.between(10, 100_000), None))
        self.ends.clear()
        self.peers.clear()
        self.clients.clear()

    def pause(self) -> None:
        """Stop the head in the middle of its work: it does nothing, and knows nothing of it."""
        if self.machine is not None and self.paused is None:
            self.world.tell(self.name, "is paused")
            self.paused = []

    def wake(self) -> None:
        """Let it go on as if nothing had happened."""
        waiting, self.paused = self.paused, None
        if waiting is not None:
            self.world.tell(self.name, "wakes up")
            for event in waiting:
                self.feed(event)

    def isolate(self, for_us: int) -> None:
        """Cut it off from all nodes for a while."""
        self.world.tell(self.name, "is cut off for %d us", for_us)
        self.isolated_until_us = self.world.now_us + for_us
        for end in list(self.ends.values()):
            self.cluster.network.cut(end.link, (self.world.between(10, 50_000), self.world.between(10, 50_000)))

    # ------------------------------------------------------------------ connections

    def reachable(self) -> bool:
        """Say whether packets arrive."""
        return self.world.now_us >= self.isolated_until_us

    def accept(self, peer: int, link: Link) -> End | None:
        """Take a connection from a node."""
        if self.machine is None:
            return None
        end = End(self.cluster.network.number(), link, self._received, self._closed)
        self.ends[end.number] = end
        self.peers[end.number] = peer
        self.world.after(0, self._accepted, end, peer)
        return end

    def _accepted(self, end: End, peer: int) -> None:
        if end.open:
            self.feed(LinkOpened(end.number, peer))

    def open_client(self, user: str, uid: int, on_received: OnReceived, on_closed: Closed) -> End | None:
        """Connect a client; return its end, or None if there is no head."""
        if self.machine is None:
            return None
        link = self.cluster.network.pair(
            f"client-{user}", (on_received, on_closed), (self._from_client, self._client_closed), LOCAL_DELAY_US, 1
        )
        end = link.right
        self.clients[end.number] = end
        self.feed(ClientOpened(end.number, user, uid, uid, ()))
        return link.left

    def _received(self, end: End, payload: bytes) -> None:
        message = m.decode_link(payload)
        self.world.tell_message(self.name, f"<- n{self.peers.get(end.number, HEAD)} %s", message, payload)
        self.feed(Received(end.number, message))

    def _closed(self, end: End, reason: str) -> None:
        self.world.tell(self.name, "link %d to n%d closed: %s", end.number, self.peers.get(end.number, HEAD), reason)
        self.ends.pop(end.number, None)
        self.peers.pop(end.number, None)
        self.feed(LinkClosed(end.number, reason))

    def _from_client(self, end: End, payload: bytes) -> None:
        message = c.decode_client(payload)
        self.world.tell_message(self.name, f"<- client {end.number} %s", message, payload)
        self.feed(FromClient(end.number, message))

    def _client_closed(self, end: End, reason: str) -> None:
        self.clients.pop(end.number, None)
        self.world.tell(self.name, "client %d is gone", end.number)
        self.feed(ClientClosed(end.number))

    # ------------------------------------------------------------------ the machine

    def _timer(self, key: str) -> None:
        self.feed(TimerFired(key))

    def feed(self, event: HeadEvent) -> None:
        """Give the machine an event and do what it says."""
        if self.machine is None:
            return
        if self.paused is not None:
            self.paused.append(event)
            return
        checks = self.cluster.checks
        checks.before_head(self.machine, event)
        try:
            instructions = self.machine.handle(event, self.world.now_ms)
        except ProtocolError as error:
            self.world.violated("Peace", f"the head takes an honest message for a breach of the protocol: {error}")
        checks.after_head(self.machine, event)
        self._perform(instructions)

    def _perform(self, instructions: list[Instruction]) -> None:
        network = self.cluster.network
        for item in instructions:
            if isinstance(item, Send):
                end = self.ends.get(item.link)
                if end is not None:
                    network.send(end, m.encode(item.message), item.bulk)
            elif isinstance(item, ToClient):
                end = self.clients.get(item.client)
                if end is not None:
                    network.send(end, m.encode(item.message))
            elif isinstance(item, SetTimer):
                self.timers.set(item.key, item.at_ms)
            elif isinstance(item, Log):
                self.world.tell(self.name, f"[{item.level}] %s", item.text)
            elif isinstance(item, CloseLink):
                end = self.ends.pop(item.link, None)
                if end is not None:
                    self.world.tell(self.name, "closes link %d: %s", item.link, item.reason)
                    self.peers.pop(item.link, None)
                    network.close(end)
            elif isinstance(item, CloseClient):
                end = self.clients.pop(item.client, None)
                if end is not None:
                    network.close(end)
                    self.feed(ClientClosed(item.client))
            else:
                raise AssertionError(f"a head may not ask for {item}")
