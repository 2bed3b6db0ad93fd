"""A healthy cluster in virtual time: the real machines, with what things cost. It answers how long a launch takes."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from types import TracebackType

from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.head.states import NodeState
from heorot.core.machine import ClientOpened, FromClient
from heorot.core.node.machine import NodeConfig, NodeMachine
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.tickets import seal_placement
from heorot.core.tree.nodeset import HEAD
from heorot.core.tree.shape import ancestors_of, parent_of
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import LaunchSpec
from heorot.sim.timed.costs import MEASURED, Costs
from heorot.sim.timed.hosts import TimedClient, TimedDaemon, TimedHead, TimedNode
from heorot.sim.timed.timeline import Cores, Port, TimedNetwork, Timeline, Unexpected

CLUSTER = "timed"
RELEASE = "sim"
NEVER_MS = 1_000_000_000
"""Heartbeats are left out: in a healthy cluster they change nothing, and are few in the time of a launch."""
JOINED_BY_NS = 60_000_000_000
"""When launches may begin, whether the nodes had to join or not."""
DEADLINE_NS = 600_000_000_000
"""A launch that takes longer in virtual time does not end."""
ENVIRONMENT = [b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"HOME=/root", b"LANG=C.UTF-8"]


def sign_long(data: bytes) -> bytes:
    """Stand in for the head's Ed25519 key, with a signature as long."""
    return hashlib.blake2b(data, key=b"virtual head", digest_size=64).digest()


def verify_long(data: bytes, signature: bytes) -> bool:
    """Check what `sign_long` signed."""
    return sign_long(data) == signature


class NoSpool:
    """Nothing is written that would have to go there."""

    def append(self, key: int, data: bytes) -> int:
        """Store nothing."""
        return 0

    def read(self, key: int, position: int, size: int) -> bytes:
        """Return nothing."""
        return b""

    def drop(self, key: int) -> None:
        """Forget nothing."""


class Stopwatch:
    """Real CPU time that this process spends in something; it has no influence on virtual time."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.thread_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spent_s += time.thread_time() - self._began_s


@dataclass(frozen=True, slots=True)
class Premises:
    """What a cluster stands on.

    Attributes
    ----------
    cores:
        Of each host; or with `shared` of the one machine that holds head, nodes and client.
    bits_per_s:
        Of the link of each host in each direction; 0: without a limit.
    """

    shared: bool
    cores: int
    latency_us: float
    bits_per_s: float


def one_machine(cores: int, costs: Costs = MEASURED) -> Premises:
    """Return what ``heorot up`` makes on one machine."""
    return Premises(True, cores, costs.hop_us, 0)


def own_hosts(bits_per_s: float, latency_us: float = 50) -> Premises:
    """Return hosts with one core for their daemons (the head's has one more, for the client) and a link each."""
    return Premises(False, 1, latency_us, bits_per_s)


class TimedCluster:
    """A head and nodes 0 .. `nodes` - 1.

    Parameters
    ----------
    join:
        True: the nodes start as daemons do and join the tree by themselves; False: they are attached from the start.
    """

    def __init__(
        self, nodes: int, fanout: int, place: Premises, costs: Costs = MEASURED, *, join: bool = False
    ) -> None:
        self.timeline = Timeline()
        self.network = TimedNetwork(self.timeline, place.latency_us, place.bits_per_s)
        self.costs = costs
        self.fanout = fanout
        self.hop_ns = round(costs.hop_us * 1000)
        self.stopwatch = Stopwatch()
        self._place = place
        self._shared = Cores(self.timeline, place.cores) if place.shared else None
        self._links = 0
        self._starts: dict[str, set[int]] = {}
        self._clients = 0
        config = HeadConfig(
            CLUSTER, "head", RELEASE, 1, "head", 1, fanout, tuple(range(nodes)),
            heartbeat_ms=NEVER_MS, link_timeout_ms=NEVER_MS,
        )  # fmt: skip
        self.head = TimedHead(self, self._cores(1), Port(self.network), HeadMachine(config, sign_long, verify_long))
        self.head.carry_out(self.head.machine.start(0))
        self.client_cores = self._cores(1)
        self.client: TimedClient
        self._spool = NoSpool()
        self.nodes = [self._node(node, joined=not join) for node in range(nodes)]
        if join:
            self._join()
        else:
            from heorot.sim.timed.attach import attach_all

            attach_all(self)
            self.timeline.run_until(JOINED_BY_NS)

    def _cores(self, cores: int) -> Cores:
        return self._shared or Cores(self.timeline, cores)

    def _node(self, node: int, *, joined: bool) -> TimedNode:
        hops = [m.Hop(hop, f"n{hop}", 1) for hop in ancestors_of(node, self.fanout)]
        placement = seal_placement(sign_long, m.Placement(CLUSTER, node, hops, 1, 0))
        config = NodeConfig(
            CLUSTER, node, RELEASE, f"n{node}", 1, (("head", 1),), placement,
            1 if joined else 0, 1, 1, jitter_seed=1, heartbeat_ms=NEVER_MS, link_timeout_ms=NEVER_MS,
        )  # fmt: skip
        space = Space(e.SpaceConfig(node=node, incarnation=node + 1, init_pid=1), self._spool)
        return TimedNode(
            self, self._cores(self._place.cores), Port(self.network), node, NodeMachine(config, verify_long), space
        )

    # ------------------------------------------------------------------ what hosts ask

    def daemon(self, host: str) -> TimedDaemon | None:
        """Return who listens on a host."""
        return self.head if host == "head" else self.nodes[int(host[1:])]

    def next_link(self) -> int:
        """Return a number for the end of a link."""
        self._links += 1
        return self._links

    def started(self, job: str, rank: int, node: int) -> None:
        """A rank's process was started: once, and where it belongs."""
        started = self._starts.setdefault(job, set())
        if rank in started or rank % len(self.nodes) != node:
            raise Unexpected(f"rank {rank} of job {job} was started twice, or on n{node}, where it does not belong")
        started.add(rank)

    def starts(self, job: str) -> int:
        """Return how many ranks of a job were started."""
        return len(self._starts.get(job, ()))

    # ------------------------------------------------------------------ joining

    def _join(self) -> None:
        for node in self.nodes:
            node.start()
        self.timeline.run_until(JOINED_BY_NS)
        for record in self.head.machine.members.records.values():
            if record.state is not NodeState.UP or record.parent != parent_of(record.node, self.fanout):
                parent = "the head" if record.parent == HEAD else f"n{record.parent}"
                raise Unexpected(f"n{record.node} is {record.state} below {parent} a minute after its start")

    # ------------------------------------------------------------------ launching

    def launch(self, *, ranks_a_node: int = 1, environment_bytes: int = 0, bare: bool = False) -> Launched:
        """Run `/bin/true` on every node and return what that took; the nodes have not been told to forget it yet."""
        total = len(self.nodes)
        all_nodes = f"n[0-{total - 1}]" if total > 1 else "n0"
        nodes, select = ("", "up") if ranks_a_node == 1 else (",".join([all_nodes] * ranks_a_node), "list")
        environment = [*ENVIRONMENT, *([b"X=" + b"x" * environment_bytes] if environment_bytes else [])]
        spec = LaunchSpec(
            [b"/bin/true"], environment, b"/root", 18, [], None, b"", b"", [], image=b"i" * 32, program=b"/bin/true",
            program_id=b"p" * 32,
        )  # fmt: skip
        spawn = c.Spawn(1, nodes, select, spec, False, tell_started=False, key=b"%016d" % self._clients)
        self._clients += 1
        number = self._clients
        head = self.head
        self.client = client = TimedClient(self, self.client_cores, spawn, number, bare=bare)
        head.carry_out(head.machine.handle(ClientOpened(number, "root", 0, 0, (0,)), self.timeline.now_ms))
        hello = c.ClientHello(c.CLIENT_PROTOCOL_VERSION, RELEASE)
        head.carry_out(head.machine.handle(FromClient(number, hello), self.timeline.now_ms))
        self._clear()
        client.begin()
        self.timeline.run_until(self.timeline.now_ns + DEADLINE_NS, lambda: client.ended_ns is not None)
        if client.ended_ns is None or client.done_ns is None:
            raise Unexpected(f"a launch on {total} nodes does not end: {client.exited} ranks are over")
        expected = total * ranks_a_node
        if client.exited != expected or self.starts(client.job) != expected:
            raise Unexpected(f"{self.starts(client.job)} ranks started and {client.exited} over, of {expected}")
        return Launched(
            wall_s=(client.ended_ns - client.began_ns) / 1e9,
            head_cpu_s=head.process.busy_ns / 1e9,
            head_messages=head.usage.messages,
            head_bytes=head.usage.size_bytes,
            head_core_s=self.stopwatch.spent_s,
        )

    def _clear(self) -> None:
        self.stopwatch.spent_s = 0.0
        daemons: list[TimedDaemon] = [self.head, *self.nodes]
        for daemon in daemons:
            daemon.usage.clear()
            daemon.process.busy_ns = 0
        for node in self.nodes:
            node.init.usage.clear()
            node.init.process.busy_ns = 0

    def settle(self) -> None:
        """Let pass what follows a launch: its nodes are told to forget it."""
        self.timeline.run_until(self.timeline.now_ns + 5_000_000_000)


@dataclass(frozen=True, slots=True)
class Launched:
    """What a launch took, in virtual seconds; `head_core_s` in real ones, of this process, in the head's machine."""

    wall_s: float
    head_cpu_s: float
    head_messages: int
    head_bytes: int
    head_core_s: float
