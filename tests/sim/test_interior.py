"""Interior nodes that die in the middle of a launch, or are cut off from above: what the protocol makes others wait.

On real daemons the processor decides; here nothing takes time but messages, timers and the restart of an agent.
"""

from __future__ import annotations

from random import Random

import pytest

from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.shape import parent_of
from heorot.sim.client import VirtualUser
from heorot.sim.cluster import SimulatedCluster
from heorot.sim.hosts import NodeHost
from heorot.sim.plans import UserPlan
from heorot.sim.settings import Settings

NODES, FANOUT = 39, 3
"""Three levels: n0 to n2 and n3 to n11 have children."""
SEEDS = 12
UP_US = 8_000_000
LAUNCH_US = 9_000
"""What a launch takes that nobody disturbs."""
RESTART_US = 150_000
"""Until the supervisor has started an agent again."""
GRACE_US = 5_000_000
LONG_US = 3_600_000_000
BACK_US = 60_000_000
STEP_US = 500
DEADLINE_US = 60_000_000


def calm_cluster(seed: int) -> SimulatedCluster:
    """Return a cluster with the times of a real one, whole, in which nothing breaks by itself."""
    settings = Settings(
        nodes=NODES,
        heads=1,
        fanout=FANOUT,
        faults=0,
        delay_us=(50, 300),
        drift_ppm=0,
        wall_skew_ms=0,
        disk_full_rate=0.0,
        heartbeat_ms=10_000,
        link_timeout_ms=30_000,
        node_grace_ms=GRACE_US // 1_000,
        rebalance_ms=1_000,
    )
    cluster = SimulatedCluster(seed, settings)
    for head in cluster.heads:
        cluster.world.after(0, head.boot)
    for host in cluster.hosts:
        cluster.world.after(cluster.world.between(0, 300_000), host.start_space)
    cluster.world.run_until(UP_US, lambda: None)
    assert all(parent(cluster, node) == parent_of(node, FANOUT) for node in range(NODES))
    return cluster


def parent(cluster: SimulatedCluster, node: int) -> int:
    """Return below whom a node stands."""
    agent = cluster.hosts[node].agent
    assert agent is not None
    return agent.uplink.parent


def kill(cluster: SimulatedCluster, kind: str, host: NodeHost) -> None:
    """Kill a node's agent, its bpinit, or both: then its host answers nobody, as one that was shut down."""
    if kind != "bpinit":
        host.kill_agent()
    if kind == "agent":
        cluster.world.after(RESTART_US, host.start_agent)
    else:
        host.kill_space()


def await_ends(cluster: SimulatedCluster, client: VirtualUser, ranks: set[int]) -> int:
    """Return when the client knew the end of all these ranks."""
    world = cluster.world
    while client.reading is None or not ranks <= client.reading.ends.keys():
        world.run_until(world.now_us + STEP_US, lambda: None)
        assert world.now_us < UP_US + DEADLINE_US
    return world.now_us


@pytest.mark.parametrize("kind", ["agent", "bpinit", "host"])
def test_a_dead_interior_node_makes_nobody_else_wait_for_a_second(kind: str) -> None:
    for seed in range(1, SEEDS + 1):
        cluster = calm_cluster(seed)
        random = Random(seed)
        victim = random.randrange(3) if seed % 2 else random.randrange(3, 12)
        client = cluster.add_client(UserPlan("", "up", [b"true", b"%d" % seed, b"0"], False, None))
        begun_us = cluster.world.now_us
        client.begin()
        at_us = begun_us + random.randrange(LAUNCH_US)
        cluster.world.at(at_us, kill, cluster, kind, cluster.hosts[victim])
        others = set(range(NODES)) - {victim}
        assert await_ends(cluster, client, others) - begun_us < 600_000, (seed, victim, at_us)
        own_us = await_ends(cluster, client, {victim}) - begun_us
        if kind != "agent":
            assert own_us < (GRACE_US if kind == "host" else 0) + 600_000, (seed, victim, at_us)
        else:
            # Alone its own rank has to wait for the agent: nothing may be waited for beyond that.
            assert own_us < LAUNCH_US + RESTART_US + 20_000, (seed, victim, at_us)


def test_who_stands_below_a_node_that_is_cut_off_from_above_finds_a_head_without_it() -> None:
    cluster = calm_cluster(1)
    roofed, below = cluster.hosts[1], {1, 6, 7, 8, *range(21, 30)}
    names = [host.name for host in cluster.hosts if host.node not in below] + [head.name for head in cluster.heads]
    for name in names:
        cluster.network.block(roofed.name, name, LONG_US)
        cluster.network.block(name, roofed.name, LONG_US)
    machine = cluster.head.machine
    assert machine is not None
    patience_us = cluster.settings.headless_patience_ms * 1_000
    cluster.world.run_until(cluster.world.now_us + patience_us // 2, lambda: None)
    # Nobody leaves it at once: it may be that there is no head.
    assert {parent(cluster, node) for node in (6, 7, 8)} == {roofed.node}
    cluster.world.run_until(cluster.world.now_us + 5 * patience_us, lambda: None)
    assert machine.members.up == NodeSet.of(set(range(NODES)) - {roofed.node})
    assert {parent(cluster, node) for node in (6, 7, 8)} == {HEAD}
    assert all(parent(cluster, node) == parent_of(node, FANOUT) for node in range(21, 30))
    # Once it is back, so are they.
    cluster.network.unblock()
    cluster.world.run_until(cluster.world.now_us + 2 * BACK_US, lambda: None)
    assert all(parent(cluster, node) == parent_of(node, FANOUT) for node in range(NODES))
