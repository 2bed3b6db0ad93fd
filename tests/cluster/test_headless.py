"""Nodes without any head: what runs goes on, nothing is lost, and a head that comes back finds all of it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from heorot.config.layout import Layout
from heorot.embedded import control
from tests.cluster.harness import DEADLINE_S, Cluster, Running, await_that, host_pids, kill_hard


def stop_head(cluster: Cluster) -> None:
    """Stop the only head, and wait until it is gone."""
    cluster.check("heorot", "head", "stop", "h0")
    layout = Layout(str(cluster.directory))

    def gone() -> bool:
        with control.connect_warden(layout) as warden:
            return not any(head["pid"] for head in control.ask(warden, "status")["heads"])

    await_that(gone, "the head gone")


def start_head_only(cluster: Cluster) -> None:
    """Start the head again, and wait until it answers."""
    cluster.check("heorot", "head", "start", "h0")
    await_that(lambda: bool(cluster.known()), "the head answers")


def start_head(cluster: Cluster) -> None:
    """Start the head again, and wait until every node is up."""
    start_head_only(cluster)
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


def node_ps(cluster: Cluster, number: int) -> dict[str, Any]:
    """What a node says itself."""
    (node,) = json.loads(cluster.check("heorot", "node", "ps", f"n{number}", "--json"))
    assert node["node"] == number
    return dict(node)


def test_a_node_tells_what_it_holds_without_head_and_agent(own: Cluster) -> None:
    marker = uuid.uuid4().hex
    job = own.detach("n1,n3", "/bin/sh", "-c", "echo kept; sleep 600", marker)
    ended = own.detach("n3", "echo", "over")
    own.await_job(ended, lambda shown: shown["state"] == "done", "the short job over")
    epoch = own.status()["epoch"]
    row = next(row for row in own.processes("-n", "n3") if marker in row["argv"])
    held = node_ps(own, 3)
    assert (held["agent"], held["headless_ms"], held["epoch"]) == (True, None, epoch)
    stop_head(own)
    await_that(lambda: node_ps(own, 3)["headless_ms"] is not None, "n3 notices")
    alone = node_ps(own, 3)
    assert alone["agent"]
    assert {j["job"]: (j["running"], j["exited"], j["kept_bytes"]) for j in alone["jobs"]} == {
        job: (1, 0, 5),
        ended: (0, 1, 5),
    }
    seen = next(process for process in alone["processes"] if process["leader"])
    assert seen.pop("kept_bytes") == 5
    assert {key: seen[key] for key in seen if key not in ("state", "user_time_ms", "memory_bytes")} == {
        key: row[key] for key in row if key not in ("state", "user_time_ms", "memory_bytes")
    }
    own.check("heorot", "node", "stop", "n1")
    # Without an agent, too: its bpinit is asked.
    layout = Layout(str(own.directory))
    with control.connect_warden(layout) as warden:
        pids = {node["id"]: node["agent_pid"] for node in control.ask(warden, "status")["nodes"]}
    kill_hard(pids[3])
    assert node_ps(own, 3)["headless_ms"] >= alone["headless_ms"]
    shown = own.check("heorot", "node", "ps", "n3").decode()
    assert "none for" in shown
    assert f"echo kept; sleep 600 {marker}" in shown
    # One that does not run is said; the others are shown.
    result = own.run("heorot", "node", "ps", "--json")
    assert result.returncode == 1
    assert b"heorot node ps: n1: bpinit does not run" in result.stderr
    assert [node["node"] for node in json.loads(result.stdout)] == [0, 2, 3, 4, 5, 6]
    wrong = own.run("heorot", "node", "ps", "n7")
    assert wrong.returncode == 2
    assert b"on this host there is n[0-6]" in wrong.stderr
    start_head_only(own)
    # Two words of the agent's: the second one comes when the epoch is on disk. On a busy machine more than one head may
    # have come.
    await_that(lambda: node_ps(own, 3)["headless_ms"] is None and node_ps(own, 3)["epoch"] > epoch, "n3 obeys a head")


def test_without_nodes_here_it_is_said(tmp_path: Path) -> None:
    result = Cluster(tmp_path).run("heorot", "node", "ps")
    assert (result.returncode, result.stdout) == (125, b"")
    assert f"no node of the cluster at {tmp_path} is on this host".encode() in result.stderr


PATIENT = f"""
import heorot.core.client.session
heorot.core.client.session.RELEASE_TIMEOUT_S = {DEADLINE_S}
from heorot.start import run
run("bpsh")
"""
"""bpsh that waits for a next head to tell it what it has, however long it takes to come."""


def test_what_bpsh_has_got_without_a_head_is_released_at_the_next_one(own: Cluster) -> None:
    size = 150_000  # more than a pipe holds, less than a window: bpsh has it all, and cannot write it
    bpsh = [sys.executable, "-c", PATIENT, "n0", "/bin/sh", "-c", f"head -c {size} /dev/zero"]
    with Running(bpsh, bufsize=0, env=own.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        (job,) = await_that(lambda: [row["job"] for row in own.jobs() if row["state"] == "done"], "the job's end")
        stop_head(own)
        assert process.stdout is not None
        left = size
        while left and (data := process.stdout.read(left)):
            left -= len(data)
        assert not left
        start_head(own)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    refused = own.run("bpjob", "attach", job)
    assert b"its output was collected" in refused.stderr
