"""A head's host: the keeper of its lease, the head's machine while it serves, its links and its clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heorot.core.errors import ProtocolError
from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.machine import (
    ClientClosed,
    ClientOpened,
    CloseClient,
    Connect,
    ConnectFailed,
    FromClient,
    HeadEvent,
    HeadHeard,
    HeadsKnown,
    LinkClosed,
    LinkOpened,
    NodesRemoved,
    Received,
    Send,
    Stop,
    ToClient,
)
from heorot.core.shells import HeadShell
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.wishes import KeepWishes
from heorot.sim.ambush import Ambush
from heorot.sim.hosts import CLUSTER, LOCAL_DELAY_US, sign, verify
from heorot.sim.keeper import VirtualKeeper
from heorot.sim.network import Attempt, Closed, End, Link
from heorot.sim.network import Received as OnReceived
from heorot.sim.shell import VirtualShell
from heorot.sim.wish_disk import WishDisk

if TYPE_CHECKING:
    from heorot.sim.run import Run, SomeHead


class HeadHost(VirtualShell, HeadShell):
    """A host for heads: a keeper that holds the lease, and the head that serves while it does."""

    def __init__(self, cluster: Run, name: str) -> None:
        super().__init__(cluster, name)
        self.up = False
        self.retired = False
        """It was removed from the cluster, and does not come back."""
        self.paused: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None
        """What waits for a paused host to wake up; None: it is awake."""
        self.ambush = Ambush()
        """What strikes soon after this head has taken a message."""
        self.machine: HeadMachine | None = None
        self._stopped = False
        """The machine wants to end, which it does as soon as this turn is over."""
        self.epoch = 0
        self.callers: dict[int, End] = {}
        """From other heads."""
        self.clients: dict[int, End] = {}
        self.registry: list[int] = []
        """The nodes that were removed, as far as this host has heard; it is on its disk."""
        self.wish_disk = WishDisk(lambda: self.keeper.share())
        self.keeper = VirtualKeeper(self)

    # ------------------------------------------------------------------ life and death of the host

    def boot(self) -> None:
        """Switch it on."""
        if not self.up and not self.retired:
            self.world.tell(self.name, "boots")
            self.up = True
            self._start_keeper()

    def lose(self) -> None:
        """Power off: head, keeper and the clients on this host are gone, and say nothing."""
        if not self.up:
            return
        self.world.tell(self.name, "power off")
        self.up = False
        self.paused = None
        self.keeper.stop()
        self._end_machine(None)
        for client in self.cluster.clients:
            if client.home is self:
                client.die_with_host()
        self.clock = self.cluster.draw_clock()

    def pause(self) -> None:
        """Stop everything on the host in the middle of its work: it does nothing, and knows nothing of it."""
        if self.up and self.paused is None:
            self.world.tell(self.name, "is paused")
            self.paused = []

    def wake(self) -> None:
        """Let it go on as if nothing had happened."""
        waiting, self.paused = self.paused, None
        if waiting is not None:
            self.world.tell(self.name, "wakes up")
            for index, (call, arguments) in enumerate(waiting):
                if self.paused is not None:
                    self.paused += waiting[index:]
                    return
                call(*arguments)

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call this on the host; later, if it is paused."""
        if self.paused is not None:
            self.paused.append((call, arguments))
        elif self.up:
            call(*arguments)

    # ------------------------------------------------------------------ life and death of the head

    def start_head(self, epoch: int) -> None:
        """Begin the next term of office."""
        assert self.machine is None
        self.epoch = epoch
        self._stopped = False
        settings = self.cluster.settings
        config = HeadConfig(
            cluster=CLUSTER,
            name=self.name,
            release="sim",
            epoch=self.epoch,
            host=self.name,
            port=1,
            fanout=settings.fanout,
            swarm_gain_ms=settings.swarm_gain_ms,
            nodes=tuple(range(settings.nodes)),
            wishes=tuple(self.wish_disk.wishes.values()),
            wall_offset_ms=self.clock.wall_offset_ms,
            heartbeat_ms=settings.heartbeat_ms,
            link_timeout_ms=settings.link_timeout_ms,
            node_grace_ms=settings.node_grace_ms,
            adoption_grace_ms=8_000,
            kill_grace_ms=settings.kill_grace_ms,
            query_timeout_ms=settings.query_timeout_ms,
            rebalance_ms=settings.rebalance_ms,
            max_finished_jobs=settings.max_finished_jobs,
            job_window_bytes=settings.job_window_bytes,
        )
        self.world.tell(self.name, "starts, epoch %d", self.epoch)
        self.cluster.checks.elected(self)
        self.machine = self.cluster.mutate(HeadMachine(config, sign, verify))
        self.cluster.checks.begins(self)
        self.cache.begin(self.feed, lambda link, message: self.send(Send(link, message, True)))
        self.carry_out(self.machine.start(self.clock.now_ms))
        if self.registry:
            self.feed(NodesRemoved(tuple(self.registry)))

    def hear_of_removal(self, node: int) -> None:
        """The registry of nodes says that this one was removed."""
        self.registry.append(node)
        self.do(self._tell_of_removals)

    def _tell_of_removals(self) -> None:
        if self.machine is not None:
            self.feed(NodesRemoved(tuple(self.registry)))

    def tell_head(self, news: HeadsKnown) -> None:
        """Hand the keeper's word to the head, if it is there."""
        if self.machine is not None:
            self.feed(news)

    def kill(self) -> None:
        """Kill the head with -9: its keeper sees that, gives the lease up, and stands for election again."""
        if self.machine is not None and self.up:
            self.world.tell(self.name, "its head is killed")
            self._end_machine(0.5)
            self.world.after(self.world.between(100, 20_000), self.do, self._died, self.epoch)

    def _died(self, epoch: int) -> None:
        if self.machine is None and self.epoch == epoch and self.keeper.alive:
            self.keeper.head_died("was killed")

    def kill_keeper(self, pause_ms: int) -> None:
        """Kill the keeper with -9: the kernel kills its head, and another keeper is started after a while."""
        if self.keeper.alive and self.up and self.paused is None:
            self.world.tell(self.name, "its keeper is killed")
            self.keeper.stop()
            self.end_head()
            self.world.after(pause_ms * 1000, self.do, self._start_keeper)

    def _start_keeper(self) -> None:
        if not self.keeper.alive:
            self.keeper.start()

    def hand_over(self) -> None:
        """An administrator has it hand over to another head."""
        if self.machine is not None and self.up and self.paused is None:
            self.world.tell(self.name, "is told to hand over")
            self.keeper.switch()

    def end_head(self) -> None:
        """Step down: the head is ended by its keeper."""
        if self.machine is not None:
            self.world.tell(self.name, "its head is ended")
            self._end_machine(1.0)

    def _end_machine(self, closed: float | None) -> None:
        """All that it knew is gone. So often its connections are closed; else they break. None: the power is off."""
        self.wish_disk.forget()
        self.machine = None
        self.ambush.lift()
        self.timers.clear()
        network, world = self.cluster.network, self.world
        for end in self.callers.values():
            network.close(end)
        for end in self.ends.values():
            if closed is not None and world.chance(closed):
                network.close(end)
                continue
            end.open = False
            silent = closed is None and world.chance(0.3)
            latest_us = 100_000 if closed is not None else 500_000
            network.cut(end.link, (None if silent else world.between(10, latest_us), None))
        for end in self.clients.values():
            # Whoever passes a client on sees in time that a head is gone without a word.
            if closed is not None and world.chance(closed):
                network.close(end)
            else:
                end.open = False
                network.cut(end.link, (world.between(10, 100_000 if closed is not None else 3_000_000), None))
        self.ends.clear()
        self.callers.clear()
        self.peers.clear()
        self.clients.clear()

    # ------------------------------------------------------------------ connections

    def reachable(self) -> bool:
        """Say whether packets arrive and are answered."""
        return self.up and self.paused is None

    def accept(self, peer: int, link: Link) -> End | None:
        """Take a connection from a node."""
        if self.machine is None:
            return None
        if peer == HEAD:
            return self._accept_head(link)
        end = End(self.cluster.network.number(), link, self._received, self._closed)
        self.ends[end.number] = end
        self.peers[end.number] = peer
        self.world.after(0, self._accepted, end, peer)
        return end

    def _accept_head(self, link: Link) -> End:
        """Take a connection from another head, which says that it leads: both compare their epochs."""
        end = End(self.cluster.network.number(), link, self._from_head, lambda end, reason: None)
        self.callers[end.number] = end
        return end

    def _from_head(self, end: End, payload: bytes) -> None:
        self.do(self._compare, end, payload)

    def _compare(self, end: End, payload: bytes) -> None:
        hello = m.decode_link(payload)
        assert isinstance(hello, m.Hello)
        self.world.tell_message(self.name, f"<- {end.other.host} %s", hello, payload)
        if self.machine is not None and end.number in self.callers:
            answer = m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, CLUSTER, HEAD, self.epoch, "sim")
            self.cluster.network.send(end, m.encode(answer))
            self.feed(HeadHeard(hello.epoch))

    def passes_to(self) -> str:
        """While it is on standby: to the leader, if it knows one."""
        leader = self.cluster.leader()
        return leader.name if self.machine is None and leader is not None else ""

    def _accepted(self, end: End, peer: int) -> None:
        if end.open:
            self.feed(LinkOpened(end.number, peer))

    def open_client(
        self, user: str, uid: int, on_received: OnReceived, on_closed: Closed, home: SomeHead
    ) -> End | None:
        """Connect a client, directly or passed on by the standby `home`; None: there is no head here."""
        if self.machine is None or not self.up or self.paused is not None:
            return None
        network = self.cluster.network
        local = home is self
        link = network.pair(
            f"client-{user}",
            (on_received, on_closed),
            (self._from_client, self._client_closed),
            LOCAL_DELAY_US if local else network.delay_us,
            1,
        )
        end = link.right
        if not local:
            link.left.host, link.right.host = home.name, self.name
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

    def feed(self, event: HeadEvent) -> None:
        """Give the machine an event and do what it says."""
        if self.machine is None or self._stopped:
            return
        if self.paused is not None:
            self.paused.append((self.feed, (event,)))
            return
        checks = self.cluster.checks
        checks.before_head(self.machine, event)
        try:
            instructions = self.machine.handle(event, self.clock.now_ms)
        except ProtocolError as error:
            self.world.violated("Peace", f"the head takes an honest message for a breach of the protocol: {error}")
        checks.after_head(self.machine, event)
        self.carry_out(instructions)
        self.ambush.took(event)

    def _opened(self, attempt: Attempt, end: End, number: int) -> bool:
        epoch, _, key = attempt.key.partition("|")
        if self.machine is None or epoch != f"{self.epoch}":
            return False
        self.ends[end.number] = end
        self.peers[end.number] = number
        self.feed(LinkOpened(end.number, number, key))
        return True

    def _failed(self, attempt: Attempt, reason: str) -> None:
        epoch, _, key = attempt.key.partition("|")
        if self.machine is not None and epoch == f"{self.epoch}":
            self.feed(ConnectFailed(key, reason))

    def _stop(self, epoch: int, reason: str) -> None:
        """The machine wants to end: its keeper sees that, and gives the lease up."""
        if self.machine is not None and epoch == self.epoch:
            self.world.tell(self.name, "ends: %s", reason)
            self._end_machine(1.0)
            self._died(epoch)

    def fall(self, epoch: int) -> None:
        """Kill this head, unless another term of office has begun."""
        if epoch == self.epoch:
            self.kill()

    def send(self, item: Send) -> None:
        """As any host does, with a look at what is denied."""
        if isinstance(item.message, m.Unavailable) and self.machine is not None:
            self.cluster.checks.unavailable(self.machine, item.message)
        super().send(item)

    def to_client(self, item: ToClient) -> None:
        """Let it travel to the client."""
        if self.machine is not None:
            self.cluster.checks.answers(self.machine, item.client, item.message)
        end = self.clients.get(item.client)
        if end is not None:
            self.cluster.network.send(end, m.encode(item.message))

    def keep_wishes(self, item: KeepWishes) -> None:
        """Write them down, and wait for the store."""
        self.wish_disk.keep(item, self.feed)

    def close_client(self, item: CloseClient) -> None:
        """Close our end."""
        end = self.clients.pop(item.client, None)
        if end is not None:
            self.cluster.network.close(end)

    def connect(self, item: Connect) -> None:
        """Try to reach another head; one on standby accepts nothing."""
        key = f"{self.epoch}|{item.key}"
        attempt = Attempt(key, HEAD, 0, self._opened, self._failed, self._received, self._closed)
        attempt.source = self.name
        self.cluster.network.connect(item.host, attempt, item.timeout_ms, True)

    def stop(self, item: Stop) -> None:
        """End the head as soon as this turn is over."""
        self._stopped = True
        self.world.after(0, self.do, self._stop, self.epoch, item.reason)
