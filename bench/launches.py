"""Launches: the whole command against the floor, one node, a running program, and what they cost the head."""

from __future__ import annotations

import time

from bench.cluster import Cluster, cpu_s, tcp_bytes_sent
from bench.counting import CountingClient
from bench.floor import launch_floor_s
from bench.results import Report, Series

RATIO_GOAL, RATIO_AIM = 4.0, 2.5
WALL_GOAL_S = {64: 0.12}
ONE_NODE_GOAL_S = 0.07
LIBRARY_GOAL_S = 0.005
HEAD_GROWTH_GOAL = 2.0


def everywhere(report: Report, cluster: Cluster, repetitions: int) -> None:
    """``bpsh -a /bin/true``, each repetition next to one of the floor."""
    nodes = cluster.nodes
    for _ in range(3):
        launch_floor_s(nodes)
        cluster.timed("bpsh", "-a", "/bin/true")
    floors, walls = [], []
    for _ in range(repetitions):
        _settle(nodes)
        floors.append(launch_floor_s(nodes))
        _settle(nodes)
        walls.append(cluster.timed("bpsh", "-a", "/bin/true"))
    floor, wall = Series(floors), Series(walls)
    report.add(f"floor-{nodes}", f"floor: {nodes} x /bin/true with posix_spawn on all cores", floor, "s")
    report.add(f"bpsh-all-{nodes}", f"bpsh -a /bin/true, {nodes} nodes", wall, "s", WALL_GOAL_S.get(nodes))
    report.add(
        f"bpsh-all-{nodes}-ratio",
        f"bpsh -a /bin/true, {nodes} nodes, by the floor",
        wall.ratios_to(floor),
        "x",
        RATIO_GOAL,
        RATIO_AIM,
    )


def _settle(nodes: int) -> None:
    """Let pass what comes after a launch: 250 ms later its nodes are told to forget the job."""
    time.sleep(0.4 + nodes / 2000)


def one_node(report: Report, cluster: Cluster, repetitions: int) -> None:
    """``bpsh n0 /bin/true``, and spawn and wait from a program that runs already."""
    for _ in range(3):
        cluster.timed("bpsh", "n0", "/bin/true")
    walls = [cluster.timed("bpsh", "n0", "/bin/true") for _ in range(repetitions)]
    report.add("bpsh-one", f"bpsh n0 /bin/true, {cluster.nodes} nodes", walls, "s", ONE_NODE_GOAL_S)
    report.add(
        "library-one",
        f"spawn and wait from a running Python program, one of {cluster.nodes} nodes",
        library_launches_s(cluster, repetitions * 5),
        "s",
        LIBRARY_GOAL_S,
    )


def library_launches_s(cluster: Cluster, repetitions: int) -> list[float]:
    """Return the times of launches on one node through the library, over one connection, in seconds."""
    import heorot

    times = []
    with heorot.connect(str(cluster.directory)) as connection:
        for repetition in range(repetitions + 10):
            start = time.perf_counter()
            job = connection.spawn([b"/bin/true"], nodes="n0")
            job.wait()
            if repetition >= 10:
                times.append(time.perf_counter() - start)
    return times


def head_cost(report: Report, cluster: Cluster, repetitions: int) -> dict[str, float]:
    """CPU time and bytes of the head for one launch everywhere, and CPU time of the nodes: means of many launches.

    The launches come from one connection that is opened before, as from a program with the library, so that nothing but
    launches is counted.
    """
    daemons = cluster.daemon_pids()
    pids = daemons["head"]
    nodes = cluster.nodes
    costs: dict[str, list[float]] = {"cpu": [], "tree": [], "client": [], "agents": [], "inits": []}
    with CountingClient(cluster.directory) as client:
        for _ in range(3):
            client.launch_everywhere(cluster.nodes)
        for _ in range(5):
            cpu, tree, received = cpu_s(pids), sum(map(tcp_bytes_sent, pids)), client.received_bytes
            agents, inits = cpu_s(daemons["agents"]), cpu_s(daemons["inits"])
            for _ in range(repetitions):
                client.launch_everywhere(cluster.nodes)
            costs["cpu"].append((cpu_s(pids) - cpu) / repetitions)
            costs["tree"].append((sum(map(tcp_bytes_sent, pids)) - tree) / repetitions)
            costs["client"].append((client.received_bytes - received) / repetitions)
            costs["agents"].append((cpu_s(daemons["agents"]) - agents) / repetitions / nodes)
            costs["inits"].append((cpu_s(daemons["inits"]) - inits) / repetitions / nodes)
    report.add(f"head-cpu-{nodes}", f"head: CPU time for one launch on {nodes} nodes", costs["cpu"], "s")
    report.add(f"head-tree-bytes-{nodes}", f"head: bytes sent into the tree, {nodes} nodes", costs["tree"], "B")
    report.add(f"head-client-bytes-{nodes}", f"head: bytes sent to the client, {nodes} nodes", costs["client"], "B")
    report.add(f"agent-cpu-{nodes}", f"an agent: CPU time for one launch on {nodes} nodes, mean", costs["agents"], "s")
    report.add(f"init-cpu-{nodes}", f"a bpinit: CPU time for one launch on {nodes} nodes, mean", costs["inits"], "s")
    costs["bytes"] = [tree + client for tree, client in zip(costs["tree"], costs["client"], strict=True)]
    return {name: Series(values).median for name, values in costs.items()}


def head_growth(report: Report, small: dict[str, float], large: dict[str, float], nodes: tuple[int, int]) -> None:
    """By how much the head's cost grows with the number of nodes."""
    names = {"cpu": "CPU time", "tree": "bytes into the tree", "bytes": "all bytes sent, the client's included"}
    for key, name in names.items():
        report.add(
            f"head-{key}-growth",
            f"head: {name} for one launch, {nodes[1]} nodes by {nodes[0]}",
            [large[key] / small[key]],
            "x",
            HEAD_GROWTH_GOAL,
        )
