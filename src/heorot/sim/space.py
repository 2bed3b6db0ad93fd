"""A virtual bpinit: its machine, its processes, and the connection to its agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.streams import Spool
from heorot.core.wire import tree as m
from heorot.sim.clocks import Clock
from heorot.sim.processes import ProcessTable
from heorot.sim.time_limits import TimeKeeping

if TYPE_CHECKING:
    from heorot.sim.network import End
    from heorot.sim.run import Run


class MemorySpool(Spool):
    """A spool without a disk; sometimes it is full."""

    def __init__(self, cluster: Run) -> None:
        self._cluster = cluster
        self.files: dict[int, bytearray] = {}

    def append(self, key: int, data: bytes) -> int:
        """Store bytes, or only a part of them."""
        if self._cluster.world.chance(0.05):
            data = data[: self._cluster.world.between(0, len(data))]
        self.files.setdefault(key, bytearray()).extend(data)
        return len(data)

    def read(self, key: int, position: int, size: int) -> bytes:
        """Return stored bytes."""
        return bytes(self.files[key][position : position + size])

    def drop(self, key: int) -> None:
        """Forget a stream."""
        self.files.pop(key, None)


class SpaceHost(ProcessTable):
    """A bpinit of one incarnation, from its start to its end.

    `killed` looks at each job, rank and signal that ends a process.
    """

    def __init__(
        self,
        cluster: Run,
        node: int,
        incarnation: int,
        clock: Callable[[], Clock],
        killed: Callable[[str, int, int], None],
    ) -> None:
        super().__init__(cluster.world, cluster.truth, node, incarnation, killed)
        settings = cluster.settings
        config = e.SpaceConfig(
            node=node,
            incarnation=incarnation,
            init_pid=node + 2,
            spool_limit_bytes=settings.spool_limit_bytes,
            stream_memory_bytes=settings.stream_memory_bytes,
        )
        self.machine = cluster.mutate(Space(config, MemorySpool(cluster)))
        self.agent: End | None = None
        self._network = cluster.network
        self._clock = clock
        self._tick_at_ms = -1
        self._time = TimeKeeping(cluster.world)

    def tell(self, event: e.SpaceEvent) -> None:
        """Give the machine an event and do what it says."""
        if isinstance(event, e.ProcessStarted):
            self._time.started(self.processes[event.slot], self._clock())
        self.carry_out(self.machine.handle(event, self._clock().now_ms))
        due_ms = self.machine.deadline_ms
        if due_ms is not None and due_ms != self._tick_at_ms:
            self._tick_at_ms = due_ms
            self.world.at(self._clock().true_us(due_ms), self._tick, due_ms)

    def _tick(self, due_ms: int) -> None:
        if not self.dead and self._tick_at_ms == due_ms:
            self._tick_at_ms = -1
            self.tell(e.Tick())

    def to_agent(self, item: e.ToAgent) -> None:
        """Let it travel to the agent."""
        if self.agent is not None:
            self._network.send(self.agent, m.encode(item.message), item.bulk)

    def space_log(self, item: e.SpaceLog) -> None:
        """Add it to the story."""
        self.world.tell(f"space{self.node}", f"[{item.level}] %s", item.text)
