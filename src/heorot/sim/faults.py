"""The weather: what breaks, when, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heorot.core.tree.shape import parent_of
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.head_host import HeadHost
from heorot.sim.hosts import NodeHost
from heorot.sim.network import Link
from heorot.sim.store import NAME

if TYPE_CHECKING:
    from heorot.sim.whole_run import WholeRun

KINDS = (
    "cut", "stall", "agent", "node", "space", "isolate", "slow", "head", "ambush", "keeper", "host", "pause", "switch",
    "wall", "store_wall", "store", "ghost", "client", "add_head", "remove_head", "doze", "remove_node",
    "lurk", "spoil", "roof",
)  # fmt: skip


class Faults:
    """Breaks things during the stormy phase, and mends everything at its end."""

    def __init__(self, cluster: WholeRun) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.healed = False
        self.counts = dict.fromkeys(KINDS, 0)
        self._weights = [getattr(cluster.settings, f"{kind}_weight") for kind in KINDS]

    def plan(self, from_us: int, faults: int, within_us: int) -> None:
        """Spread so many faults over this time; some come in pairs, close together."""
        world = self.world
        if not any(self._weights):
            return
        at_us = from_us
        for _ in range(faults):
            if not world.chance(0.3):
                at_us = from_us + world.between(0, within_us)
            else:
                at_us += world.between(0, 20_000)
            kind = world.random.choices(KINDS, self._weights)[0]
            world.at(at_us, self._strike, kind)

    def _strike(self, kind: str) -> None:
        if self.healed:
            return
        self.counts[kind] += 1
        acts: dict[str, Callable[[], None]] = {
            "cut": self._cut,
            "stall": self._stall,
            "agent": self._kill_agent,
            "node": self._kill_node,
            "space": self._kill_space,
            "isolate": self._isolate,
            "slow": self._slow,
            "head": self._kill_head,
            "ambush": self._ambush,
            "keeper": self._kill_keeper,
            "host": self._lose_head_host,
            "pause": self._pause,
            "switch": self._switch,
            "wall": self._wall,
            "store_wall": self._wall_store,
            "store": self._lose_store,
            "ghost": self._ghost,
            "client": self._kill_client,
            "add_head": self._add_head,
            "remove_head": self._remove_head,
            "doze": self._doze,
            "remove_node": self._remove_node,
            "lurk": self._lurk,
            "spoil": self._spoil,
            "roof": self._roof,
        }
        acts[kind]()

    def _host(self) -> NodeHost:
        return self.cluster.hosts[self.world.between(0, len(self.cluster.hosts) - 1)]

    def _after_ms(self, low_ms: int, high_ms: int, act: Callable[..., None], *args: object) -> None:
        self.world.after(self.world.between(low_ms * 1000, high_ms * 1000), act, *args)

    def _cut(self) -> None:
        links = list(self.cluster.network.links.values())
        if links:
            link = links[self.world.between(0, len(links) - 1)]
            self.world.tell("fault", "cut %s", link.name)
            notices = [None if self.world.chance(0.15) else self.world.between(0, 50_000) for _ in range(2)]
            self.cluster.network.cut(link, (notices[0], notices[1]))

    def _stall(self) -> None:
        links = list(self.cluster.network.links.values())
        if links:
            link = links[self.world.between(0, len(links) - 1)]
            ms = self.world.between(50, 6_000)
            self.world.tell("fault", "stall %s for %d ms", link.name, ms)
            link.held_until_us = self.world.now_us + ms * 1000

    def _kill_agent(self) -> None:
        host = self._host()
        host.kill_agent()
        self._after_ms(5, 3_000, host.start_agent)

    def _kill_node(self) -> None:
        host = self._host()
        host.kill()
        self._come_back(host, 8_000)

    def _kill_space(self) -> None:
        host = self._host()
        host.kill_space()
        self._come_back(host, 5_000)

    def _come_back(self, host: NodeHost, latest_ms: int) -> None:
        if self.world.chance(self.cluster.settings.stay_away_rate):
            self._after_ms(20_000, 120_000, self._start, host)
        else:
            self._after_ms(100, latest_ms, self._start, host)

    def _start(self, host: NodeHost) -> None:
        if host.retired:
            return
        if host.space is None and host.agent is None:
            host.start_space()
        elif host.space is None:
            # Its agent has not noticed yet that bpinit has ended.
            self._after_ms(10, 500, self._start, host)

    def _doze(self) -> None:
        """Stop the agents of some nodes, and mostly kill the head meanwhile: they sleep through the takeover."""
        for _ in range(self.world.between(1, 3)):
            host = self._host()
            host.doze()
            self._after_ms(50, 8_000, host.wake)
        if self.world.chance(0.7):
            self._after_ms(0, 500, self._kill_head)

    def _remove_node(self) -> None:
        """Remove a node while it runs, or while it is away: each head's host hears of it in its own time."""
        host = self._host()
        if self._may_be_removed(host):
            self._remove(host)

    def _may_be_removed(self, host: NodeHost) -> bool:
        return not host.retired and 4 * len(self.cluster.removed) < len(self.cluster.hosts) - 1

    def _remove(self, host: NodeHost) -> None:
        cluster = self.cluster
        self.world.tell("fault", "%s is removed from the cluster", host.name)
        host.retired = True
        cluster.removed.append(host.node)
        for head in [*cluster.heads, *cluster.spares]:
            self._after_ms(0, 1_000, head.hear_of_removal, host.node)

    def _isolate(self) -> None:
        host = self._host()
        ms = self.world.between(100, 8_000)
        self.world.tell("fault", "isolate %s for %d ms", host.name, ms)
        host.isolated = True
        for end in host.ends.values():
            end.link.held_until_us = self.world.now_us + ms * 1000
        self.world.after(ms * 1000, self._join, host)

    def _join(self, host: NodeHost) -> None:
        host.isolated = False

    def _slow(self) -> None:
        host = self._host()
        self.world.tell("fault", "slow %s", host.name)
        for end in host.ends.values():
            low, high = self.cluster.network.delay_us
            end.link.delay_us = (low * 20, high * 20)
            self._after_ms(5_000, 30_000, self._quicken, end.link)

    def _quicken(self, link: Link) -> None:
        link.delay_us = self.cluster.network.delay_us

    # ------------------------------------------------------------------ heads and their store

    def _head(self) -> HeadHost:
        heads = self.cluster.heads
        # Mostly the one that serves: a fault elsewhere changes little.
        return self.cluster.head if self.world.chance(0.7) else heads[self.world.between(0, len(heads) - 1)]

    def _add_head(self) -> None:
        """Make another host a head."""
        cluster = self.cluster
        if cluster.spares:
            head = cluster.spares.pop(0)
            cluster.heads.append(head)
            cluster.store.list_heads((*cluster.store.listed[1], head.name))
            self._after_ms(0, 5_000, head.boot)

    def _remove_head(self) -> None:
        """Remove a head that does not lead; not the last one that a node, which may be away, knows of."""
        cluster = self.cluster
        leader = cluster.leader()
        left = [head for head in cluster.heads if head is not leader and head.name in cluster.store.listed[1]]
        if not left:
            return
        gone = left[self.world.between(0, len(left) - 1)]
        names = tuple(name for name in cluster.store.listed[1] if name != gone.name)
        if names and all(host.known_heads().intersection(names) for host in cluster.hosts):
            cluster.store.list_heads(names)
            gone.retired = True
            self._after_ms(0, 5_000, gone.lose)

    def _kill_head(self) -> None:
        self._head().kill()

    def _lose_head_host(self) -> None:
        host = self._head()
        host.lose()
        self._after_ms(100, 8_000, host.boot)

    def _ambush(self) -> None:
        """Kill the head while it is about a launch or takes a job over, between any two of its steps."""
        head, world = self.cluster.head, self.world

        def strike(message: object) -> None:
            latest_us = world.random.choice((0, 500, 5_000, 100_000))
            world.after(world.between(0, latest_us), head.fall, head.epoch)

        kinds: list[type] = [c.Spawn, c.AttachJob, m.LaunchCopy, m.Inventory]
        if self.cluster.settings.mpi_rate:
            kinds += 4 * [m.Gathered]
        head.ambush.lay(world.random.choice(kinds), strike)

    def _lurk(self) -> None:
        """Break the node that attaches next, before the head has heard what it holds; or a node's bpinit before it says
        that.
        """
        head, world, some = self.cluster.head, self.world, self._host()
        how = world.random.choice(("node", "space", "agent", "removal"))

        def strike_space(hello: m.Hello) -> None:
            some.kill_space()
            self._after_ms(5, 300, self._start, some)

        def strike(attach: m.Attach) -> None:
            host = self.cluster.hosts[attach.node]
            if how == "removal" and self._may_be_removed(host):
                self._remove(host)
                head.hear_of_removal(host.node)
            elif how == "agent":
                host.kill_agent()
                self._after_ms(5, 300, host.start_agent)
            else:
                host.kill()
                self._after_ms(5, 300, self._start, host)

        if how == "space":
            some.ambush.lay(m.Hello, strike_space)
        else:
            head.ambush.lay(m.Attach, strike)

    def _spoil(self) -> None:
        """A file goes from a cache just when it is to be read, because somebody has removed it."""
        host = self._host() if self.world.chance(0.8) else self.cluster.head
        host.cache.spoil()

    def _kill_keeper(self) -> None:
        self._head().kill_keeper(self.world.between(50, 3_000))

    def _pause(self) -> None:
        host = self._head()
        host.pause()
        self._after_ms(100, 8_000, self._wake, host)

    def _wake(self, host: HeadHost) -> None:
        if host.paused is None:
            return
        host.wake()
        if host is not self.cluster.head and self.world.chance(0.5):
            # The partition turns round: now it is the elected head that no node reaches.
            self._wall_off(self.cluster.head, [node.name for node in self.cluster.hosts], 4_000)

    def _switch(self) -> None:
        self.cluster.head.hand_over()

    def _wall(self) -> None:
        """Cut a head off from some or all nodes, or from the other heads; one-way or both ways."""
        world, cluster = self.world, self.cluster
        head = self._head()
        names = [node.name for node in cluster.hosts] + [other.name for other in cluster.heads if other is not head]
        if world.chance(0.6):
            names = [name for name in names if world.chance(0.5)]
        self._wall_off(head, names, 8_000)

    def _roof(self) -> None:
        """Cut a node off from the heads and from all nodes that are not below it."""
        host, cluster = self._host(), self.cluster
        below = {host.node}
        for other in range(host.node + 1, len(cluster.hosts)):
            if parent_of(other, cluster.settings.fanout) in below:
                below.add(other)
        for_us = self.world.between(1_000, 25_000) * 1000
        self.world.tell("fault", "%s is cut off from everything that is not below it, for %d us", host.name, for_us)
        for name in [other.name for other in cluster.hosts if other.node not in below] + [
            head.name for head in [*cluster.heads, *cluster.spares]
        ]:
            cluster.network.block(host.name, name, for_us)
            cluster.network.block(name, host.name, for_us)

    def _wall_store(self) -> None:
        self._wall_off(self._head(), [NAME], 8_000)

    def _wall_off(self, head: HeadHost, names: list[str], longest_ms: int) -> None:
        world, network = self.world, self.cluster.network
        for_us = world.between(50, longest_ms) * 1000
        way = world.random.choice(("both ways", "to it", "from it"))
        world.tell("fault", "%s is cut off from %s, %s, for %d us", head.name, " ".join(names), way, for_us)
        for name in names:
            if way != "to it":
                network.block(head.name, name, for_us)
            if way != "from it":
                network.block(name, head.name, for_us)

    def _lose_store(self) -> None:
        self.cluster.store.fail()
        self._after_ms(50, 8_000, self.cluster.store.recover)

    def _ghost(self) -> None:
        """A command of a deposed head arrives after all: it was held up somewhere in the tree."""
        for host in self.cluster.hosts:
            for epoch, payload in host.overheard:
                if epoch < self.cluster.head.epoch and self.world.chance(0.3):
                    host.haunt(m.Down(epoch, [host.node, host.node], payload))
                    break

            if host.agent is not None and host.overheard_lists and self.world.chance(0.5):
                # A rogue relay puts an old list into a command of today.
                listing = self.world.random.choice(list(host.overheard_lists))
                host.haunt(m.Down(host.agent.epoch, [host.node, host.node], listing))

    def _kill_client(self) -> None:
        clients = [client for client in self.cluster.clients if client.end is not None]
        if clients:
            client = clients[self.world.between(0, len(clients) - 1)]
            client.finished = True
            client.leave("dies")

    # ------------------------------------------------------------------ the end of the storm

    def heal(self) -> None:
        """Mend the network and start what is dead, except for some nodes that stay away for good."""
        self.world.tell("fault", "the storm is over")
        self.healed = True
        self.cluster.network.refuse_rate = self.cluster.network.late_close_rate = 0.0
        for link in self.cluster.network.links.values():
            link.held_until_us = 0
            link.delay_us = self.cluster.network.delay_us
        self.cluster.network.unblock()
        store = self.cluster.store
        store.loss_rate = store.repeat_rate = 0.0
        store.recover()
        for head in self.cluster.heads:
            head.ambush.lift()
            head.wake()
            if head.retired:
                head.lose()
            else:
                head.boot()
        for host in self.cluster.hosts:
            host.ambush.lift()
            host.isolated = False
            host.wake()
            if host.space is None:
                if self.world.chance(self.cluster.settings.stay_away_rate / 2):
                    self.world.tell("fault", "%s stays away for good", host.name)
                    host.retired = True
                else:
                    self._start(host)
            else:
                host.start_agent()
