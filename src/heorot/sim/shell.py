"""What the shells of virtual hosts have in common: links, timers, the log, and that the cache is a part of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heorot.core.machine import CloseLink, Log, Send, SetTimer, TimerFired
from heorot.core.shells import CacheByPart, LinkShell
from heorot.core.timers import Due
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import tree as m
from heorot.core.wire.events import KeepEvents, TellSite
from heorot.core.wire.wishes import Prepare
from heorot.sim.clocks import Clock
from heorot.sim.images import VirtualCache
from heorot.sim.world import World

if TYPE_CHECKING:
    from heorot.sim.network import End
    from heorot.sim.run import Run


class VirtualTimers:
    """The timers of one machine; all of them go with it."""

    def __init__(self, world: World, clock: Callable[[], Clock], fire: Callable[[TimerFired], None]) -> None:
        self._world = world
        self._clock = clock
        self._fire = fire
        self._due: dict[Due, int] = {}
        self._set = 0

    def set(self, key: Due, at_ms: int) -> None:
        """Set or move a timer."""
        self._set += 1
        self._due[key] = self._set
        self._world.at(self._clock().true_us(at_ms), self._due_now, key, self._set)

    def clear(self) -> None:
        """The machine is gone."""
        self._due.clear()

    def _due_now(self, key: Due, which: int) -> None:
        if self._due.get(key) == which:
            del self._due[key]
            self._fire(TimerFired(key))

    def __len__(self) -> int:
        return len(self._due)


class VirtualShell(LinkShell, CacheByPart):
    """A virtual host with a machine: the part of its shell that is the same for heads and nodes."""

    def __init__(self, cluster: Run, name: str) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.name = name
        self.clock = cluster.draw_clock()
        self.ends: dict[int, End] = {}
        self.peers: dict[int, int] = {}
        self.cache: VirtualCache = VirtualCache(cluster, name)
        self.timers = VirtualTimers(self.world, lambda: self.clock, self.feed)

    @abstractmethod
    def feed(self, event: Any) -> None:
        """Give the machine an event and do what it says."""

    def peer_name(self, end: End) -> str:
        """Return who is at the other end of a link."""
        peer = self.peers.get(end.number, HEAD)
        return "head" if peer == HEAD else f"n{peer}"

    def send(self, item: Send) -> None:
        """Let it travel."""
        end = self.ends.get(item.link)
        if end is not None:
            self.cluster.network.send(end, m.encode(item.message), item.bulk)

    def close_link(self, item: CloseLink) -> None:
        """Close our end."""
        end = self.ends.pop(item.link, None)
        if end is not None:
            self.world.tell(self.name, f"closes link {item.link} to {self.peer_name(end)}: %s", item.reason)
            self.peers.pop(item.link, None)
            self.cluster.network.close(end)

    def set_timer(self, item: SetTimer) -> None:
        """Set it on the host's clock."""
        self.timers.set(item.key, item.at_ms)

    def keep_events(self, item: KeepEvents) -> None:
        """What has happened is in the story."""

    def tell_site(self, item: TellSite) -> None:
        """No virtual site has a hook."""

    def prepare(self, item: Prepare) -> None:
        """No virtual site has a script."""
        raise AssertionError(f"n{item.node} is to be prepared")

    def log(self, item: Log) -> None:
        """Add it to the story."""
        self.world.tell(self.name, f"[{item.level}] %s", item.text)
