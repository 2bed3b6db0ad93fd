"""What a cluster costs that has nothing to do."""

from __future__ import annotations

import time

from bench.cluster import Cluster, cpu_s, private_bytes
from bench.results import Report

NODE_MEMORY_GOAL_BYTES = 12e6


def memory(report: Report, cluster: Cluster) -> None:
    """Private memory of each node: agent and init together."""
    pids = cluster.daemon_pids()
    nodes = [
        float(private_bytes(agent) + private_bytes(init))
        for agent, init in zip(pids["agents"], pids["inits"], strict=True)
    ]
    report.add(
        f"node-memory-{cluster.nodes}",
        f"private memory of an idle node, {cluster.nodes} nodes",
        nodes,
        "B",
        NODE_MEMORY_GOAL_BYTES,
    )
    report.add(
        f"head-memory-{cluster.nodes}",
        f"private memory of the idle head, {cluster.nodes} nodes",
        [float(sum(map(private_bytes, pids["head"])))],
        "B",
    )


def idle_cpu(report: Report, cluster: Cluster, seconds: float) -> None:
    """CPU time of all daemons while nobody wants anything, as a share of one core."""
    pids = cluster.daemon_pids()
    everyone = pids["head"] + pids["agents"] + pids["inits"]
    shares = []
    for _ in range(3):
        before, start = cpu_s(everyone), time.perf_counter()
        time.sleep(seconds)
        shares.append((cpu_s(everyone) - before) / (time.perf_counter() - start) * 100)
    report.add(f"idle-cpu-{cluster.nodes}", f"CPU of all idle daemons, {cluster.nodes} nodes, of one core", shares, "%")
