"""Jobs that shall not run for ever without a head, and agents that start again meanwhile and forget no epoch."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from heorot.config.layout import Layout
from heorot.embedded import control
from heorot.runtime import state
from tests.cluster.harness import Cluster, await_that, cluster, host_pids, is_alive, kill_hard
from tests.cluster.test_headless import node_ps, start_head, stop_head
from tests.cluster.witness import Witness

pytestmark = pytest.mark.slow

LIMIT_S = 4
SCRIPTS = {
    "obeys": ("echo begun; sleep 600", 1),
    "is stubborn": ("trap '' HUP; echo begun; while :; do sleep 0.1; done", 9),
}
"""What a job does when it is hung up, and the signal that ends it."""


def headless_ms(made: Cluster, node: int) -> int:
    """Return for how long a node has been without a head; 0: it has one."""
    return int(node_ps(made, node)["headless_ms"] or 0)


def restart_agent(made: Cluster, node: int) -> None:
    """Kill a node's agent, and wait for the next one."""
    before = agent_pid(made, node)
    kill_hard(before)
    await_that(lambda: agent_pid(made, node) not in (0, before) and node_ps(made, node)["agent"], "another agent")


def agent_pid(made: Cluster, node: int) -> int:
    """Return the PID of a node's agent in the words of the supervisor: there may be no head."""
    with control.connect_warden(Layout(str(made.directory))) as warden:
        return next(int(row["agent_pid"]) for row in control.ask(warden, "status")["nodes"] if row["id"] == node)


@pytest.mark.parametrize("agents", ["left alone", "restarted"])
def test_a_job_with_a_limit_ends_after_so_long_without_a_head_and_the_next_one_collects_it(
    own: Cluster, agents: str
) -> None:
    markers = {name: uuid.uuid4().hex for name in (*SCRIPTS, "has no limit")}
    jobs = {
        name: own.detach("--headless", str(LIMIT_S), "n2,n6", "/bin/sh", "-c", script, markers[name])
        for name, (script, _) in SCRIPTS.items()
    }
    jobs["has no limit"] = own.detach("n2,n6", "/bin/sh", "-c", "echo begun; sleep 600", markers["has no limit"])
    for job in jobs.values():
        own.await_job(job, lambda shown: shown["running"] == 2, "the job runs")
    pids = {name: host_pids(marker) for name, marker in markers.items()}
    assert {name: len(found) for name, found in pids.items()} == dict.fromkeys(markers, 2)
    stop_head(own)
    if agents == "restarted":
        for node in (2, 6):
            await_that(lambda node=node: headless_ms(own, node) > 500, f"n{node} is alone")  # type: ignore[misc]
            before_ms = headless_ms(own, node)
            restart_agent(own, node)
            # The time goes on: it is bpinit that counts it.
            assert headless_ms(own, node) >= before_ms
    for name in SCRIPTS:
        await_that(lambda name=name: not any(is_alive(pid) for pid in pids[name]), f"what {name} is ended")  # type: ignore[misc]
        for node in (2, 6):
            assert headless_ms(own, node) >= 1000 * LIMIT_S, "ended too early"
    assert all(is_alive(pid) for pid in pids["has no limit"])
    start_head(own)
    for name, (_, number) in SCRIPTS.items():
        shown = own.await_job(jobs[name], lambda shown: shown["state"] == "done", "the next head knows the end")
        assert shown["statuses"] == {"0": {"signal": number}, "1": {"signal": number}}
        own.await_job(jobs[name], lambda shown: f"no head for {LIMIT_S} s" in shown["text"], "and why")
        attached = own.run("bpjob", "attach", "--from-start", jobs[name])
        assert (attached.returncode, attached.stdout) == (128 + number, b"begun\n" * 2), attached.stderr
    assert own.job(jobs["has no limit"])["running"] == 2


def test_a_head_that_returns_in_time_saves_the_job_and_the_time_begins_anew(own: Cluster) -> None:
    marker, limit_ms = uuid.uuid4().hex, 12_000
    job = own.detach("--headless", str(limit_ms // 1000), "n6", "/bin/sh", "-c", "sleep 600", marker)
    own.await_job(job, lambda shown: shown["running"] == 1, "the job runs")
    (pid,) = host_pids(marker)
    # Twice for more than half of the time: together that is too long.
    for _ in range(2):
        stop_head(own)
        await_that(lambda: headless_ms(own, 6) > limit_ms // 2, "most of its time is over")
        start_head(own)
        await_that(lambda: not headless_ms(own, 6), "n6 has a head")
        assert is_alive(pid)
        assert own.job(job)["running"] == 1
    stop_head(own)
    await_that(lambda: not is_alive(pid), "the job is ended")
    assert headless_ms(own, 6) >= limit_ms
    start_head(own)
    shown = own.await_job(job, lambda shown: shown["state"] == "done", "the next head knows the end")
    assert shown["statuses"] == {"0": {"signal": 1}}


def test_an_agent_that_was_restarted_without_a_head_refuses_a_lower_epoch_than_it_has_seen(tmp_path: Path) -> None:
    with cluster(3) as made, Witness(made, tmp_path, "n2") as witness:
        for _ in range(2):
            stop_head(made)
            start_head(made)
        assert made.status()["epoch"] == 3
        stop_head(made)
        # All that a head's host and the store know of epochs is lost; the nodes have it on their disks.
        (made.directory / "heads/h0/epoch").unlink()
        (made.directory / "coord/epoch").unlink()
        for node in range(3):
            assert state.recall(made.directory / f"nodes/n{node}/state", "epoch") == b"3"
            restart_agent(made, node)
        made.check("heorot", "head", "start", "h0")
        for node in range(3):
            refusal = f"n{node} has seen epoch 3; this head's is 1"
            await_that(lambda node=node, refusal=refusal: refusal in log_of(made, node), refusal)  # type: ignore[misc]
        status: dict[str, Any] = made.status()
        assert status["epoch"] == 1
        # While it is new, it cannot tell; then it takes them for lost.
        assert {node["state"] for node in status["nodes"]} <= {"unknown", "down"}
        assert [node_ps(made, node)["epoch"] for node in range(3)] == [3] * 3
        # It is mended by what the documents say: the highest epoch of the cluster, where the head's host keeps it.
        made.check("heorot", "head", "stop", "h0")
        await_that(lambda: made.run("heorot", "status").returncode != 0, "the head is gone")
        (made.directory / "heads/h0/epoch").write_text("3")
        start_head(made)
        assert made.status()["epoch"] == 4
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
        witness.check()


def log_of(made: Cluster, node: int) -> str:
    return (made.directory / "log" / f"n{node}.log").read_text()
