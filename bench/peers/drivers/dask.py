"""Dask: a scheduler, and for each node a worker with its nanny; ``Client.run`` on all of them."""

from __future__ import annotations

import os
import sys

from distributed import Client, LocalCluster

from bench.peers.drivers import serve, tasks

STEP = 4
"""So many workers start at a time."""


def main() -> None:
    """Serve as many nodes as the first argument says."""
    nodes = int(sys.argv[1])
    cluster = LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        dashboard_address=None,
        silence_logs=False,
    )
    with cluster, Client(cluster) as client:
        # All at once they would have to import at the same time, and nannies give up workers that take too long.
        for number in range(STEP, nodes + STEP, STEP):
            cluster.scale(min(number, nodes))
            client.wait_for_workers(min(number, nodes))

        def run(argv: list[str]) -> list[tuple[int, int]]:
            if not tasks.writes(argv):
                return [(status, 0) for status in client.run(tasks.run, argv).values()]
            return [(status, len(data)) for status, data in client.run(tasks.output, argv).values()]

        serve([[pid] for pid in client.run(os.getpid).values()], run)


if __name__ == "__main__":
    main()
