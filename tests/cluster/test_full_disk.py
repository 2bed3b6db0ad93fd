"""A cluster whose directory lies on a small file system that is filled: by itself, and by somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, await_that
from tests.support.disks import fill, small_disk

SIZE_MIB = 16


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of two heads and two nodes on a file system of its own."""
    with small_disk(tmp_path / "disk", f"{SIZE_MIB}m") as disk:
        made = Cluster(disk / "cluster")
        made.up(2, "--heads", "2")
        try:
            yield made
        finally:
            made.down()


def test_heads_come_and_go_and_nodes_attach_on_a_disk_that_somebody_else_has_filled(small: Cluster) -> None:
    job = small.detach("n[0-1]", "/bin/sleep", "600")
    epoch = small.status()["epoch"]
    fill(small.directory.parent)
    for _ in range(2):
        small.check("heorot", "head", "stop", "h0", "h1")
        fill(small.directory.parent)
        small.check("heorot", "head", "start", "h1", "h0")
        await_that(lambda: small.run("heorot", "status").returncode == 0, "a head that leads")
        assert small.status()["epoch"] > epoch
        small.await_up(0, 1)
        epoch = small.status()["epoch"]
    os.kill(small.node(1)["agent_pid"], 9)
    small.await_up(1)
    assert small.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 2
    assert small.job(job)["state"] == "running"
