"""The simulator's shells: a head's host and a node's, in a cluster in which nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from heorot.core.head.machine import HeadMachine
from heorot.core.node.machine import NodeMachine
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.cluster import SimulatedCluster
from heorot.sim.network import Attempt, End, Link
from heorot.sim.settings import Settings
from tests.shells.rigs import IMAGE, Client, Neighbour, Rig

QUIET_US = 20_000_000
_from_head = msgspec.msgpack.Decoder(c.HeadMessage)


class Deaf:
    """Checks nothing: what a scripted machine says need not be so."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


class Stage(SimulatedCluster):
    """Two hosts of each kind, none of them switched on. `machine` is the next one that is made of its kind."""

    def __init__(self, machine: object) -> None:
        self.scripted: object = machine
        super().__init__(1, Settings(nodes=2, heads=2, delay_us=(50, 5_000)))
        self.checks: Any = Deaf()
        self.faults.healed = True
        self.images[IMAGE.image] = IMAGE

    def mutate(self, machine: Any) -> Any:
        """Put the scripted machine into the first host that starts one."""
        if isinstance(machine, HeadMachine | NodeMachine):
            return self.scripted
        return machine


class VirtualNeighbour(Neighbour):
    """Another host."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._end: End | None = None

    def connect_to(self, host: str) -> None:
        """Open a link."""
        attempt = Attempt("", 1, 0, self._opened, lambda attempt, reason: None, self._received, self._closed)
        self._stage.network.connect(host, attempt, 60_000, True)

    def reachable(self) -> bool:
        """Always."""
        return True

    def passes_to(self) -> str:
        """Nowhere."""
        return ""

    def accept(self, peer: int, link: Link) -> End:
        """Take any connection."""
        self.connected = True
        self._end = End(self._stage.network.number(), link, self._received, self._closed)
        return self._end

    def _opened(self, attempt: Attempt, end: End, number: int) -> bool:
        self._end = end
        self.connected = True
        return True

    def _received(self, end: End, payload: bytes) -> None:
        self.received.append(m.decode_link(payload))

    def _closed(self, end: End, reason: str) -> None:
        self.ended = True

    def say(self, message: m.LinkMessage) -> None:
        assert self._end is not None
        self._stage.network.send(self._end, m.encode(message))

    def close(self) -> None:
        assert self._end is not None
        self._stage.network.close(self._end)


class VirtualRig(Rig):
    """A virtual host."""

    host: Any

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self.machine)

    def feed(self, event: Any) -> None:
        self.host.feed(event)

    def now_ms(self) -> int:
        return int(self.host.clock.now_ms)

    def until(self, condition: Callable[[], object]) -> None:
        until_us = self.stage.world.now_us + QUIET_US
        while not condition():
            assert self.stage.world.step(), "nothing more happens"
            assert self.stage.world.now_us < until_us, "the condition did not come true in time"

    def settle(self) -> None:
        self.stage.world.run_until(self.stage.world.now_us + QUIET_US, lambda: None)

    def connect(self) -> VirtualNeighbour:
        made = VirtualNeighbour(self.stage)
        made.connect_to(self.host.name)
        return made

    def listening(self) -> tuple[Neighbour, str, int]:
        made = VirtualNeighbour(self.stage)
        self.stage.network.listeners["other"] = (1, made)
        return made, "other", 1

    def nobody(self) -> tuple[str, int]:
        return "n1", 1

    def close(self) -> None:
        pass

    def fill_disk(self) -> None:
        self.stage.settings.cache_full_rate = 1.0
        self.stage.faults.healed = False


class VirtualNodeRig(VirtualRig):
    """A virtual node."""

    def __init__(self) -> None:
        super().__init__()
        self.host = self.stage.hosts[0]
        self.host.start_space()

    def restarted(self, name: str) -> bytes:
        return bytes(self.host.remembered[name])


class VirtualClient(Client):
    """A client on the head's host."""

    def __init__(self, stage: Stage, host: Any) -> None:
        super().__init__()
        self._stage = stage
        self._end = host.open_client("root", 0, self._received, self._closed, host)

    def _received(self, end: End, payload: bytes) -> None:
        answer = _from_head.decode(payload)
        assert isinstance(answer, c.Welcome)
        self.received.append(answer.release)

    def _closed(self, end: End, reason: str) -> None:
        self.ended = True

    def say(self, request: int) -> None:
        self._stage.network.send(self._end, m.encode(c.ShowStatus(request)))

    def close(self) -> None:
        self._stage.network.close(self._end)


class VirtualHeadRig(VirtualRig):
    """A virtual head."""

    is_head = True

    def __init__(self) -> None:
        super().__init__()
        self.host = self.stage.heads[0]
        self.host.up = True
        self.host.start_head(1)

    def client(self) -> Client:
        return VirtualClient(self.stage, self.host)
