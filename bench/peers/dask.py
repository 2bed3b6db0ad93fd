"""Dask: a worker for each node, asked all at once."""

from __future__ import annotations

from bench.peers.peer import DrivenPeer


class Dask(DrivenPeer):
    """``LocalCluster``, whose workers are processes with nannies."""

    key, name = "dask", "Dask"
    how = "`Client.run` on a `LocalCluster` of processes with nannies, over plain TCP"
    wheels = (("distributed", "distributed"),)
    driver = "dask"
    most_nodes = 64
    most_nodes_because = "not tried: its workers take too much memory, and minutes to start"
