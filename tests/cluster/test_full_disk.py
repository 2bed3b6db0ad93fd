"""A cluster whose directory lies on a small file system that is filled: by itself, and by somebody else."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, await_that
from tests.support.disks import fill, free_bytes, small_disk

LINES = 3_000_000
"""What the talkative job says: more than the disk holds."""

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


def send_programs(cluster: Cluster, place: Path, count: int) -> None:
    """Run programs that no node has: from now on the caches of the head and of both nodes hold them."""
    for number in range(count):
        program = place / f"echo{number}"
        program.write_bytes(Path("/bin/echo").read_bytes() + random.Random(number).randbytes(700_000))
        program.chmod(0o755)
        assert cluster.check("bpsh", "--image", "send", "n[0-1]", str(program), "sent") == b"sent\n" * 2


def cached_bytes(cluster: Cluster) -> int:
    return sum(path.stat().st_size for path in cluster.directory.glob("*/*/images/files/*"))


def test_a_disk_that_caches_and_a_spool_have_filled_costs_no_head_and_no_byte(small: Cluster, tmp_path: Path) -> None:
    send_programs(small, tmp_path, 3)
    cached = cached_bytes(small)
    assert cached > 6_000_000
    go = tmp_path / "go"
    job = small.detach("n0", "/bin/sh", "-c", f"until [ -e {go} ]; do sleep 0.01; done; seq {LINES}; exit 3")
    small.check("heorot", "head", "stop", "h0", "h1")
    go.touch()
    disk = small.directory.parent
    await_that(
        lambda: free_bytes(disk) < 65536 and cached_bytes(small) == 0, "the disk full of what the job has written"
    )
    small.check("heorot", "head", "start", "h0", "h1")
    result = small.run("bpjob", "attach", "-f", job)
    assert result.returncode == 3, result.stderr
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, LINES + 1))
    small.await_up(0, 1)
    # With room again, what was dropped comes again.
    send_programs(small, tmp_path, 1)
