"""Jobs that may take so long and no longer, on a real cluster: with and without a client, an agent or a head."""

from __future__ import annotations

import os
import uuid

import pytest

import heorot
from tests.cluster.harness import Cluster, await_that, host_pids, kill_hard
from tests.cluster.test_headless import start_head, stop_head

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def marker() -> str:
    """A word that no other process has."""
    return uuid.uuid4().hex


def test_the_status_is_124_and_why_is_said_once_for_all_nodes(shared: Cluster) -> None:
    result = shared.run("bpsh", "--timeout", "0.3", "n[0-3]", "/bin/sleep", "1000")
    assert result.returncode == 124
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("bpsh: job ")
    assert line.endswith(": it was ended: its time limit of 0.3 s is over")


def test_those_that_were_too_slow_are_named_and_the_others_are_not(shared: Cluster) -> None:
    script = "[ $HEOROT_NODE -lt 2 ] && exit 0; trap 'exit 5' TERM; sleep 1000 & wait"
    result = shared.run("bpsh", "--timeout=0.5s", "n[0-3]", "/bin/sh", "-c", script)
    assert result.returncode == 124
    assert b"bpsh: n[2-3]: exit status 124\n" in result.stderr


def test_who_does_not_obey_is_killed_and_said_to_be(shared: Cluster, marker: str) -> None:
    result = shared.run("bpsh", "--timeout=0.2s", "n5", "/bin/sh", "-c", STUBBORN, marker)
    assert result.returncode == 137
    assert b"n5 (rank 0): killed by SIGKILL\n" in result.stderr
    assert not host_pids(marker)


def test_who_is_stopped_is_ended_too(shared: Cluster) -> None:
    result = shared.run("bpsh", "--timeout=0.5", "n5", "/bin/sh", "-c", "kill -STOP $$")
    assert result.returncode == 124


def test_who_is_quick_enough_is_left_alone(shared: Cluster) -> None:
    result = shared.run("bpsh", "--timeout=1d", "n[4-5]", "/bin/sh", "-c", "echo done; exit 3")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"done\n" * 2, b"")


def test_a_job_that_nobody_reads_ends_all_the_same_and_says_what_its_limit_was(shared: Cluster) -> None:
    job = shared.detach("--timeout", "0.3s", "n[6-7]", "/bin/sleep", "1000")
    waited = shared.run("bpjob", "wait", job)
    assert waited.returncode == 124
    assert waited.stderr.decode() == f"bpjob: job {job}: it was ended: its time limit of 0.3 s is over\n"
    shown = shared.job(job)
    assert (shown["time_limit_ms"], shown["statuses"]) == (300, {"0": {"code": 124}, "1": {"code": 124}})
    assert b"0.3 s from the start on each node" in shared.check("bpjob", "show", job)


def test_what_lingers_takes_of_the_same_time(shared: Cluster, marker: str) -> None:
    result = shared.run(
        "bpsh", "--linger", "--timeout=0.5", "n2", "/bin/sh", "-c", f"sleep 1000.{int(marker, 16)} & exit 3"
    )
    assert result.returncode == 3
    assert b"its time limit of 0.5 s is over" in result.stderr
    assert not host_pids(f"1000.{int(marker, 16)}")


def test_the_library_has_the_same(shared: Cluster) -> None:
    with heorot.connect(shared.directory) as cluster:
        done = cluster.run(["/bin/sleep", "1000"], "n[0-1]", time_limit_s=0.2)
        assert [status.code for status in done.statuses] == [124, 124]
        with pytest.raises(ValueError, match="time_limit_s must be 0, or from"):
            cluster.spawn(["true"], "n0", time_limit_s=1e-9)


def test_it_ends_without_head_agent_and_client_and_the_next_head_knows(own: Cluster, marker: str) -> None:
    job = own.detach("--timeout", "3", "n2,n6", "/bin/sh", "-c", "echo begun; sleep 1000", marker)
    own.await_job(job, lambda shown: bool(shown["running"] == 2), "it runs")
    agent = own.node(6)["agent_pid"]
    stop_head(own)
    kill_hard(agent)
    await_that(lambda: not host_pids(marker), "its time is over")
    start_head(own)
    shown = own.await_job(job, lambda shown: shown["state"] == "done" and bool(shown["text"]), "the next head knows")
    assert shown["statuses"] == {"0": {"code": 124}, "1": {"code": 124}}
    assert shown["text"] == "it was ended: its time limit of 3 s is over"


def test_an_attended_job_keeps_its_time_under_the_next_head(own: Cluster, marker: str) -> None:
    with own.start("bpsh", "--timeout=3", "n[1-2]", "/bin/sh", "-c", "echo begun; sleep 1000", marker) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        os.kill(own.head_pid(), 9)
        status, _, errors = process.outcome()
    assert status == 124
    assert b"its time limit of 3 s is over" in errors
    assert not host_pids(marker)
