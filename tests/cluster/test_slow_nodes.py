"""Nodes that sleep through a change of heads: what they hold is not denied, and who waits for them is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, kill_hard, stopped

PATIENT = {"HEOROT_TIMES": "node_grace_ms=120000,adoption_grace_ms=600000"}
"""However slow this machine is, no node is given up before it was asked what a test asks."""


@pytest.fixture
def two_heads() -> Iterator[Cluster]:
    """Three nodes and two heads."""
    with cluster(3, "--heads", "2", environment=PATIENT) as made:
        yield made


def await_next_head(made: Cluster, epoch: int, nodes: set[int]) -> None:
    """Wait until a head of a later epoch has heard of these nodes, and so the others alone are silent."""

    def is_there() -> bool:
        status = made.status()
        up = {row["id"] for row in status["nodes"] if row["state"] == "up"}
        return bool(status["epoch"] > epoch and nodes <= up)

    await_that(is_there, f"the next head with the nodes {sorted(nodes)}")


@pytest.mark.parametrize("daemon", ["agent_pid", "init_pid"])
def test_what_a_sleeping_node_holds_is_not_denied(two_heads: Cluster, tmp_path: Path, daemon: str) -> None:
    go = tmp_path / "go"
    job = two_heads.detach("n1", "/bin/sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 9")
    two_heads.await_job(job, lambda shown: shown["state"] == "running", "the job running")
    epoch = two_heads.status()["epoch"]
    with two_heads.start("bpjob", "wait", job) as waiting, stopped(two_heads.node(1)[daemon]):
        kill_hard(two_heads.head_pid())
        await_next_head(two_heads, epoch, {0, 2})
        with two_heads.start("bpjob", "show", "--json", job) as show:
            # A second command asks while nobody can know the answer: it says for whom it waits.
            assert show.stderr is not None
            word = show.stderr.readline()
            assert word == b"bpjob: waiting for n1, of which the new head has not heard yet\n"
            assert waiting.poll() is None
            os.kill(two_heads.node(1)[daemon], signal.SIGCONT)
            output, _ = show.communicate(timeout=DEADLINE_S)
        assert b'"running"' in output
        go.touch()
        waiting.communicate(timeout=DEADLINE_S)
    assert waiting.returncode == 9


def test_words_for_states_name_the_nodes_that_sleep(two_heads: Cluster) -> None:
    epoch = two_heads.status()["epoch"]
    with stopped(two_heads.node(2)["agent_pid"]):
        kill_hard(two_heads.head_pid())
        await_next_head(two_heads, epoch, {0, 1})
        with two_heads.start("bpsh", "-a", "true") as launch, two_heads.start("bpstat") as table:
            _, said = launch.communicate(timeout=DEADLINE_S)
            _, told = table.communicate(timeout=DEADLINE_S)
    assert launch.returncode == 0
    assert b"left out n2, which has not been heard of since the change of heads" in said
    assert told == b"bpstat: n2 has not been heard of since the change of heads\n"
    assert table.returncode == 0
