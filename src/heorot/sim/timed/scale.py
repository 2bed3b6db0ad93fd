"""``python -m heorot.sim.timed.scale``: how long launches and broadcasts take on clusters far larger than this machine.

The real machines run in virtual time, with costs that were measured on real daemons (`heorot.sim.timed.costs`). Each
host has one core for its daemons and a link of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from heorot.core.tree.nodeset import HEAD
from heorot.core.tree.shape import parent_of
from heorot.sim.timed.broadcast import Broadcast
from heorot.sim.timed.cluster import TimedCluster, one_machine, own_hosts
from heorot.sim.timed.costs import MEASURED, Costs, load
from heorot.sim.timed.timeline import Unexpected

FLAT = "flat"
PEERS = "peers"
"""In place of a fan-out, for broadcasts: nodes have the image from each other."""


def _options(arguments: list[str] | None) -> argparse.Namespace:
    description = "How long launches and broadcasts take on clusters far larger than this machine."
    parser = argparse.ArgumentParser(prog="python -m heorot.sim.timed.scale", description=description)
    parser.add_argument("--nodes", default="64,256,1024,4096,16384", help="sizes (default: %(default)s)")
    parser.add_argument("--fanout", default="16,32,64,128,flat", help="fan-outs (default: %(default)s)")
    parser.add_argument("--gbit", default="1,10", help="rates of the links in Gbit/s (default: %(default)s)")
    parser.add_argument("--latency-us", type=float, default=50, help="of the links (default: %(default)s)")
    parser.add_argument("--shared-cores", type=int, help="all hosts share so many cores of one machine")
    parser.add_argument(
        "--broadcast", type=int, metavar="CHUNKS", help="a broadcast of so many chunks of 64 KiB instead"
    )
    parser.add_argument("--costs", type=Path, help="a file that 'python -m bench.costs' has written")
    parser.add_argument("--json", type=Path, help="write the table to this file, too")
    options = parser.parse_args(arguments)
    try:
        options.nodes = [int(word) for word in options.nodes.split(",")]
        options.fanout = [word if word in (FLAT, PEERS) else int(word) for word in options.fanout.split(",")]
        options.gbit = [float(word) for word in options.gbit.split(",")]
    except ValueError as error:
        parser.error(f"numbers with commas between them, please: {error}")
    if min(options.nodes) < 1 or any(isinstance(fanout, int) and fanout < 1 for fanout in options.fanout):
        parser.error("a cluster has one node at least, and a hop one child at least")
    if PEERS in options.fanout and (not options.broadcast or min(options.nodes) < 2):
        parser.error("peers are for --broadcast, to two nodes at least")
    return options


def depth_of(nodes: int, fanout: int) -> int:
    """Return how many hops the last node is away from the head."""
    depth, node = 0, nodes - 1
    while node != HEAD:
        depth, node = depth + 1, parent_of(node, fanout)
    return depth


def launches(
    nodes: int, fanout: int, gbits: list[float], latency_us: float, shared_cores: int | None, costs: Costs
) -> list[dict[str, Any]]:
    """Return rows of the table of launches, one for each rate of the links."""
    place = one_machine(shared_cores, costs) if shared_cores else own_hosts(gbits[0] * 1e9, latency_us)
    cluster = TimedCluster(nodes, fanout, place, costs)
    rows = []
    for gbit in gbits:
        if not shared_cores:
            cluster.network.bits_per_s = gbit * 1e9
        result = cluster.launch()
        cluster.settle()
        rows.append(
            {
                "gbit": gbit,
                "wall_s": result.wall_s,
                # With what follows: the nodes are told to forget the job.
                "head_cpu_s": cluster.head.process.busy_ns / 1e9,
                "head_messages": cluster.head.usage.messages,
                "head_bytes": cluster.head.usage.size_bytes,
                "head_core_s": cluster.stopwatch.spent_s,
            }
        )
    return rows


def broadcasts(
    nodes: int, fanout: int, gbits: list[float], latency_us: float, chunks: int, costs: Costs, *, peers: bool
) -> list[dict[str, Any]]:
    """Return rows of the table of broadcasts, one for each rate of the links."""
    rows = []
    for gbit in gbits:
        run = Broadcast(nodes, fanout, gbit * 1e9, chunks=chunks, latency_us=latency_us, costs=costs, peers=peers)
        wall_s = run.run()
        rows.append({"gbit": gbit, "wall_s": wall_s, "bound_s": run.bound_s, "ratio": wall_s / run.bound_s})
    return rows


def _shown(key: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if key.endswith("_s"):
        return f"{value * 1e3:.1f} ms"
    return f"{value:,.0f}" if value == int(value) else f"{value:.2f}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the status to exit with."""
    options = _options(arguments)
    try:
        costs = load(options.costs) if options.costs else MEASURED
    except (OSError, ValueError) as error:
        print(f"scale: {error}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    gbits = options.gbit[:1] if options.shared_cores else options.gbit
    # Nothing of a cluster is garbage before its end.
    gc.disable()
    for nodes in options.nodes:
        for fanout in options.fanout:
            if isinstance(fanout, int) and fanout >= nodes:
                continue  # that is flat
            began_s = time.monotonic()
            number = fanout if isinstance(fanout, int) else nodes
            try:
                if options.broadcast:
                    found = broadcasts(
                        nodes, number, gbits, options.latency_us, options.broadcast, costs, peers=fanout == PEERS
                    )
                else:
                    found = launches(nodes, number, gbits, options.latency_us, options.shared_cores, costs)
            except Unexpected as error:
                print(f"scale: {nodes} nodes, fan-out {fanout}: {error}", file=sys.stderr)
                return 1
            gc.collect()
            for values in found:
                row = {"nodes": nodes, "fanout": fanout, "depth": depth_of(nodes, number), **values}
                if not rows:
                    print("| " + " | ".join(row) + " |\n|" + " ---: |" * len(row))
                rows.append(row)
                print("| " + " | ".join(_shown(key, value) for key, value in row.items()) + " |", flush=True)
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            told = (
                f"{nodes:,} nodes, fan-out {fanout}: {time.monotonic() - began_s:.1f} s, {peak_mb:,} MB at most so far"
            )
            print(f"scale: {told}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
