"""The shells of the simulator of launch times: a head and a node of a cluster of two nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.machine import CloseLink, Connect, Send
from heorot.core.wire import tree as m
from heorot.sim.timed.cluster import TimedCluster, one_machine
from heorot.sim.timed.hosts import TimedDaemon
from tests.shells.rigs import Neighbour, Rig, Scripted

QUIET_NS = 20_000_000_000


class Hosts(TimedCluster):
    """Where one host more is known by name, on which nobody listens."""

    def daemon(self, host: str) -> TimedDaemon | None:
        """Return who listens on a host."""
        return None if host == "nobody" else super().daemon(host)


class Other(Scripted):
    """The machine of a neighbour."""

    def __init__(self, neighbour: TimedNeighbour) -> None:
        super().__init__()
        self._neighbour = neighbour

    def handle(self, event: Any, now_ms: int) -> Any:
        """Keep what comes."""
        self._neighbour.take(event)
        return []


class TimedNeighbour(Neighbour):
    """The other node."""

    def __init__(self, daemon: Any) -> None:
        super().__init__()
        self._daemon = daemon
        self._link = 0
        daemon.machine = Other(self)

    def connect_to(self, host: str) -> None:
        """Open a link."""
        self._daemon.connect(Connect("up", host, 1, 1_000))

    def take(self, event: Any) -> None:
        """The node is told something."""
        kind = type(event).__name__
        if kind == "LinkOpened":
            self._link = event.link
            self.connected = True
        elif kind == "Received":
            self.received.append(event.message)
        elif kind == "LinkClosed":
            self.ended = True

    def say(self, message: m.LinkMessage) -> None:
        self._daemon.send(Send(self._link, message))

    def close(self) -> None:
        self._daemon.close_link(CloseLink(self._link, ""))


class TimedRig(Rig):
    """One of the daemons."""

    shell: Any
    name: str

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Hosts(2, 2, one_machine(2))

    def feed(self, event: Any) -> None:
        self.shell.process.give(self.shell.turn, event, 0)
        self.until(lambda: not self.shell.process.scheduled)

    def now_ms(self) -> int:
        return self.cluster.timeline.now_ms

    def until(self, condition: Callable[[], object]) -> None:
        timeline = self.cluster.timeline
        if not condition():
            timeline.run_until(timeline.now_ns + QUIET_NS, lambda: bool(condition()))
        assert condition(), "the condition did not come true in time"

    def settle(self) -> None:
        self.cluster.timeline.run_until(self.cluster.timeline.now_ns + QUIET_NS)

    def connect(self) -> Neighbour:
        made = TimedNeighbour(self.cluster.nodes[1])
        made.connect_to(self.name)
        return made

    def listening(self) -> tuple[Neighbour, str, int]:
        return TimedNeighbour(self.cluster.nodes[1]), "n1", 1

    def nobody(self) -> tuple[str, int]:
        return "nobody", 1

    def close(self) -> None:
        pass


class TimedHeadRig(TimedRig):
    """The head."""

    is_head = True

    def __init__(self) -> None:
        super().__init__()
        self.shell, self.name = self.cluster.head, "head"
        self.shell.machine = self.machine


class TimedNodeRig(TimedRig):
    """A node."""

    def __init__(self) -> None:
        super().__init__()
        self.shell, self.name = self.cluster.nodes[0], "n0"
        self.shell.machine = self.machine
