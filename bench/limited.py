"""Programs to many nodes over links of limited speed: ``python -m bench.limited``.

Every host is a network namespace, and its link, the head's included, is a token bucket in both directions. Measured is
``bpsh --image send`` of a program that no node has, from start to end. The lower bound is that of any method in which
each node gets the whole program over its link, and passes chunks on whole: size by rate, and one chunk's time for each
level of a binary tree.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.limited_hosts import LimitedCluster
from bench.rows import keep
from heorot.core.images.chunks import chunk_bytes_of

WARM_RUNS = 3


def bound_s(size: int, kbit: int, nodes: int) -> float:
    """Return the lower bound for a program of `size` bytes."""
    rate = kbit * 1000 / 8
    return (size + nodes.bit_length() * min(size, chunk_bytes_of(size))) / rate


def make_program(path: Path, size: int, seed: int, does: Path = Path("/bin/true")) -> None:
    """Write a program of `size` bytes that nobody has; it does what the program `does` does: by itself, nothing."""
    start = does.read_bytes()
    path.write_bytes(start + random.Random(seed).randbytes(size - len(start)))
    path.chmod(0o755)


def measure(cluster: LimitedCluster, size: int, kbit: int, seed: int) -> dict[str, float]:
    """Return what a launch of a program of `size` bytes takes with cold and with warm caches, and who sends how much.

    The libraries travel with the first one.
    """
    program = cluster.directory / f"program{seed}"
    make_program(program, size, seed)
    nodes = f"0-{cluster.nodes - 1}"
    cached, before = cluster.cached_bytes(), cluster.sent_bytes()
    cold_s = _timed(cluster, "--image", "send", nodes, str(program))
    size = cluster.cached_bytes() - cached
    sent = [(after - earlier) / size for after, earlier in zip(cluster.sent_bytes(), before, strict=True)]
    warm, plain = [], []
    for _ in range(WARM_RUNS):
        warm.append(_timed(cluster, "--image", "send", nodes, str(program)))
        plain.append(_timed(cluster, nodes, "/bin/true"))
    os.unlink(program)
    return {
        "size": size,
        "bound_s": bound_s(size, kbit, cluster.nodes),
        "cold_s": cold_s,
        "warm_s": statistics.median(warm),
        "true_s": statistics.median(plain),
        "head_sent": sent[0],
        "node_sent_mean": sum(sent[1:]) / cluster.nodes,
        "node_sent_max": max(sent[1:]),
    }


def _timed(cluster: LimitedCluster, *arguments: str) -> float:
    start = time.perf_counter()
    cluster.run("bpsh", *arguments)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each size and number of nodes; write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.limited", description=__doc__)
    parser.add_argument("--nodes", default="16,64,256")
    parser.add_argument("--megabytes", default="1,16")
    parser.add_argument("--kbit", type=int, default=10_000, help="of each link (default: %(default)s)")
    parser.add_argument("--fanout", type=int, default=32)
    parser.add_argument("--flat", action="store_true", help="the head sends to each node itself")
    options = parser.parse_args(arguments)
    return keep(f"limited{'-flat' if options.flat else ''}", _rows(options))


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for nodes in map(int, options.nodes.split(",")):
        fanout = nodes if options.flat else options.fanout
        with LimitedCluster(nodes, options.kbit, fanout, peers=not options.flat) as cluster:
            for number, megabytes in enumerate(options.megabytes.split(",")):
                row = measure(cluster, int(float(megabytes) * 1_000_000), options.kbit, number)
                bound = row["bound_s"]
                print(
                    f"{nodes:4} nodes, {row['size'] / 1e6:6.2f} MB: {row['cold_s']:7.2f} s,"
                    f" {row['cold_s'] / bound:5.2f} x the bound of {bound:.2f} s;"
                    f" warm {row['warm_s']:.2f} s (true {row['true_s']:.2f} s);"
                    f" sent by the head {row['head_sent']:.2f} x, by a node {row['node_sent_mean']:.2f} x,"
                    f" at most {row['node_sent_max']:.2f} x",
                    flush=True,
                )
                yield {"nodes": nodes, "flat": options.flat, "kbit": options.kbit, **row}


if __name__ == "__main__":
    sys.exit(main())
