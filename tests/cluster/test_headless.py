"""Nodes without any head: what runs goes on, nothing is lost, and a head that comes back finds all of it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from heorot.daemons import control
from heorot.daemons.layout import Layout
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, host_pids, kill_hard


def stop_head(cluster: Cluster) -> None:
    """Stop the only head, and wait until it is gone."""
    cluster.check("heorot", "head", "stop", "h0")
    layout = Layout(str(cluster.directory))

    def gone() -> bool:
        with control.connect(layout) as warden:
            return not any(head["pid"] for head in control.ask(warden, "status")["heads"])

    await_that(gone, "the head gone")


def start_head(cluster: Cluster) -> None:
    """Start the head again, and wait until every node is up."""
    cluster.check("heorot", "head", "start", "h0")
    await_that(lambda: cluster.run("heorot", "status").returncode == 0, "the head answers")
    cluster.await_up()


def test_a_head_that_was_stopped_stays_away_until_it_is_started(own: Cluster) -> None:
    before = own.status()["epoch"]
    stop_head(own)
    assert own.run("heorot", "status").returncode != 0
    start_head(own)
    assert own.status()["epoch"] == before + 1
    assert own.check("bpsh", "n6", "echo", "here") == b"here\n"
    wrong = own.run("heorot", "head", "stop", "h7")
    assert wrong.returncode != 0
    assert b"there is no head 'h7'; this cluster has h0" in wrong.stderr


SIZE = 5_000_000
WRITER = (
    "head -c 20000 /dev/zero | tr '\\0' a; while [ ! -e $1 ]; do sleep 0.02; done; "
    f"head -c {SIZE} /dev/zero | tr '\\0' b; exit 7"
)


@pytest.mark.parametrize("agents", ["left alone", "killed"])
def test_output_written_without_a_head_is_all_there_for_the_next_one(own: Cluster, tmp_path: Path, agents: str) -> None:
    """A job that writes more than any window while no head is there ends, and nothing of it is lost."""
    go, marker = tmp_path / "go", uuid.uuid4().hex
    with own.start("bpsh", "n2,n6", "/bin/sh", "-c", WRITER, marker, str(go), marker) as client:
        assert client.stdout is not None
        first = client.stdout.read(1)
        assert first == b"a"
        (job,) = {row["job"] for row in own.processes() if marker in row["argv"]}
        pids = {number: own.node(number)["agent_pid"] for number in (0, 2, 6)}
        stop_head(own)
        client.kill()
        client.communicate(timeout=DEADLINE_S)
    assert host_pids(marker)
    if agents == "killed":
        for pid in pids.values():
            kill_hard(pid)
    go.touch()
    await_that(lambda: not host_pids(marker), "the ranks at their end without a head")
    start_head(own)
    attached = own.run("bpjob", "attach", "--from-start", job)
    assert attached.returncode == 7, attached.stderr
    assert attached.stdout.count(b"b") == 2 * SIZE
