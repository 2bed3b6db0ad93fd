"""Dask: a scheduler, and for each node a worker with its nanny; ``Client.run`` on all of them."""

from __future__ import annotations

import os
import sys

from distributed import Client, LocalCluster

from bench.peers.drivers import serve, tasks


def main() -> None:
    """Serve as many nodes as the first argument says."""
    nodes = int(sys.argv[1])
    cluster = LocalCluster(
        n_workers=nodes,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        dashboard_address=None,
        silence_logs=False,
    )
    with cluster, Client(cluster) as client:
        client.wait_for_workers(nodes)

        def run(argv: list[str]) -> list[tuple[int, int]]:
            if not tasks.writes(argv):
                return [(status, 0) for status in client.run(tasks.run, argv).values()]
            return [(status, len(data)) for status, data in client.run(tasks.output, argv).values()]

        serve([[pid] for pid in client.run(os.getpid).values()], run)


if __name__ == "__main__":
    main()
