"""A file to many nodes on this machine, nobody having it, against a plain loop: ``python -m bench.broadcast``.

``bpcp FILE all:PATH`` of random bytes, so that no cache holds any of it, and a loop that writes the same bytes as
often, by turns. All nodes are on this machine: processors are what is scarce, and all put the file at the same path.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cluster import BenchError, Cluster, cpu_s
from bench.rows import keep

WRITE_BYTES = 128 * 1024


def loop_s(directory: Path, data: bytes, files: int) -> float:
    """Return how long it takes to write so many files, one after the other."""
    directory.mkdir()
    view = memoryview(data)
    start = time.perf_counter()
    for number in range(files):
        with open(directory / str(number), "wb", buffering=0) as file:
            for at in range(0, len(data), WRITE_BYTES):
                file.write(view[at : at + WRITE_BYTES])
    elapsed = time.perf_counter() - start
    shutil.rmtree(directory)
    return elapsed


def measure(cluster: Cluster, size: int, rounds: int) -> dict[str, float]:
    """Return the medians of a copy and of the loop."""
    daemons = cluster.daemon_pids()
    source, target = cluster.parent / "source", cluster.parent / "target"
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        data = random.Random(number).randbytes(size)
        source.write_bytes(data)
        plain_s = loop_s(cluster.parent / "plain", data, cluster.nodes)
        before = {kind: cpu_s(pids) for kind, pids in daemons.items()}
        copy_s = cluster.timed("bpcp", "-q", str(source), f"all:{target}")
        if target.read_bytes() != data:
            raise BenchError("the copy differs from the file")
        target.unlink()
        used = {f"{kind}_cpu_s": cpu_s(pids) - before[kind] for kind, pids in daemons.items()}
        rows.append({"plain_s": plain_s, "copy_s": copy_s, "ratio": copy_s / plain_s, **used})
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each size and number of nodes; write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.broadcast", description=__doc__)
    parser.add_argument("--nodes", default="64,256")
    parser.add_argument("--megabytes", default="16")
    parser.add_argument("--rounds", type=int, default=5)
    return keep("broadcast", _rows(parser.parse_args(arguments)))


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for nodes in map(int, options.nodes.split(",")):
        with Cluster(nodes) as cluster:
            for megabytes in options.megabytes.split(","):
                row = measure(cluster, int(float(megabytes) * (1 << 20)), options.rounds)
                print(
                    f"{nodes:4} nodes, {megabytes} MiB: bpcp {row['copy_s']:.2f} s,"
                    f" loop {row['plain_s']:.2f} s, ratio {row['ratio']:.2f}; CPU time: head"
                    f" {row['head_cpu_s']:.2f} s, agents {row['agents_cpu_s']:.2f} s, bpinits"
                    f" {row['inits_cpu_s']:.2f} s",
                    flush=True,
                )
                yield {"nodes": nodes, "mebibytes": float(megabytes), **row}


if __name__ == "__main__":
    sys.exit(main())
