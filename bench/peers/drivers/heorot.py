"""Heorot as a library: one connection, one job after the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.peers.drivers import serve
from heorot import connect


def main() -> None:
    """Serve the cluster whose directory is the first argument; the PIDs of its nodes are the second."""
    with connect(sys.argv[1]) as cluster:

        def run(argv: list[str]) -> list[tuple[int, int]]:
            job = cluster.spawn(argv)
            received: dict[int, int] = {}
            for chunk in job.output:
                received[chunk.rank] = received.get(chunk.rank, 0) + len(chunk.data)
            return [(0 if status.code == 0 else 1, received.get(rank, 0)) for rank, status in enumerate(job.wait())]

        def copy(source: Path, target: Path) -> int:
            return len(cluster.copy_to(source, "up", target).check().nodes)

        serve(json.loads(sys.argv[2]), run, copy)


if __name__ == "__main__":
    main()
