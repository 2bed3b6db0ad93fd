"""Signals, detached jobs and the process table."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from itertools import pairwise
from typing import Any

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, host_pids

TRAP = 'trap "echo got-it; exit 9" USR1; echo ready; while :; do sleep 0.05; done'


def test_a_signal_reaches_one_rank_alone(shared: Cluster) -> None:
    with shared.start("bpsh", "-p", "n1,n2,n3", "/bin/sh", "-c", TRAP) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(3)) == [
            b"  1: ready\n",
            b"  2: ready\n",
            b"  3: ready\n",
        ]
        job = next(job["job"] for job in shared.jobs() if job["state"] != "done")
        shared.check("bpkill", "-USR1", f"{job}:1")
        assert process.stdout.readline() == b"  2: got-it\n"
        shown = shared.await_job(job, lambda shown: bool(shown["statuses"]), "one rank over")
        assert shown["statuses"] == {"1": {"code": 9}}
        shared.check("bpkill", "-KILL", job)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + 9


def test_stop_and_continue_by_cluster_pid(shared: Cluster) -> None:
    job = shared.detach("n0,n7", "/bin/sh", "-c", "while :; do sleep 0.05; done")
    pids = shared.await_job(job, lambda shown: len(shown["pids"]) == 2, "both started")["pids"]

    def state(rank: str) -> str:
        rows = shared.processes("-j", job, "-r")
        return str(next(row["state"] for row in rows if row["pid"] == pids[rank]))

    shared.check("bpkill", "-STOP", str(pids["1"]))
    await_that(lambda: state("1") == "T", "rank 1 stopped")
    assert state("0") in "RS"
    shared.check("bpkill", "-CONT", str(pids["1"]))
    await_that(lambda: state("1") in "RS", "rank 1 going on")
    shared.check("bpkill", "-KILL", str(pids["0"]))
    shown = shared.await_job(job, lambda shown: "0" in shown["statuses"], "rank 0 killed")
    assert shown["statuses"] == {"0": {"signal": 9}}
    shared.check("bpkill", "-TERM", job)
    assert shared.run("bpjob", "wait", job).returncode == 128 + 15
    assert shared.job(job)["statuses"] == {"0": {"signal": 9}, "1": {"signal": 15}}


def test_a_process_group_is_signalled_as_one(shared: Cluster) -> None:
    marker = uuid.uuid4().hex
    job = shared.detach("n4", "/bin/sh", "-c", "sleep 600 & sleep 600 & wait", marker)
    await_that(lambda: len(shared.processes("-j", job)) == 3, "the rank and its two children in the table")
    pid = next(row["pid"] for row in shared.processes("-j", job) if row["leader"])
    shared.check("bpkill", "-KILL", "--", f"-{pid}")
    assert shared.run("bpjob", "wait", job).returncode == 128 + 9
    await_that(lambda: not shared.processes("-j", job), "the group gone")


def test_a_signal_to_what_does_not_exist_says_so(shared: Cluster) -> None:
    result = shared.run("bpkill", "99.99")
    assert result.returncode == 1
    assert b"99.99" in result.stderr
    result = shared.run("bpkill", "77777")
    assert result.returncode == 1
    assert b"77777" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_bpsh_forwards_signals_and_gives_their_status(shared: Cluster, number: int) -> None:
    with shared.start("bpsh", "-a", "/bin/sh", "-c", "echo ready; exec sleep 600", process_group=0) as process:
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (128 + number, -number)


def test_a_detached_job_runs_on_and_is_read_by_whoever_attaches(shared: Cluster) -> None:
    script = "echo before; read word || word=no-input; echo after $word; exit 4"
    job = shared.detach("n2,n5", "/bin/sh", "-c", script)
    assert job == shared.job(job)["job"]
    shared.await_job(job, lambda shown: shown["exited"] == 2 or shown["running"] == 2, "running")
    result = shared.run("bpjob", "attach", "-f", "--label", job, stdin=b"from-me\n")
    assert sorted(result.stdout.splitlines()) in (
        [b"n2: after from-me", b"n2: before", b"n5: after from-me", b"n5: before"],
        [b"n2: after no-input", b"n2: before", b"n5: after no-input", b"n5: before"],
    )
    assert result.returncode == 4
    assert all(known["job"] != job for known in shared.jobs() if known["running"])


def test_a_detached_job_keeps_status_and_output_until_it_is_collected(shared: Cluster) -> None:
    job = shared.detach("-a", "/bin/sh", "-c", "head -c 400000 /dev/zero; exit 6")
    assert shared.run("bpjob", "wait", job).returncode == 6
    shown = shared.job(job)
    assert shown["statuses"] == {str(rank): {"code": 6} for rank in range(8)}
    assert not shown["attended"]
    result = shared.run("bpjob", "attach", job)
    assert (result.stdout, result.returncode) == (b"\0" * 3_200_000, 6)


def test_the_table_shows_every_process_and_whose_child_it_is(shared: Cluster) -> None:
    marker = uuid.uuid4().hex
    job = shared.detach("n3,n6", "/bin/sh", "-c", "setsid sleep 601 & (sleep 602 & exec sleep 603)", marker)
    expected = {(node, argument) for node in (3, 6) for argument in ("601", "602", "603")}

    def rows() -> list[dict[str, Any]]:
        return shared.processes("-j", job)

    await_that(lambda: {(row["node"], row["argv"][-1]) for row in rows()} >= expected, f"the table with {expected}")
    for row in rows():
        assert row["job"] == job
        assert row["rank"] == {3: 0, 6: 1}[row["node"]]
        assert row["user"] == "root"
    leaders = [row for row in rows() if row["leader"]]
    assert {row["pid"] for row in leaders} <= set(
        shared.await_job(job, lambda shown: len(shown["pids"]) == 2, "both started")["pids"].values()
    )
    shared.check("bpkill", "-KILL", job)
    await_that(lambda: not rows(), "the table empty: the children ended with their job")


def test_pids_are_unique_in_the_cluster_and_say_their_node(shared: Cluster) -> None:
    marker = uuid.uuid4().hex
    job = shared.detach("-a", "/bin/sh", "-c", "sleep 600 & sleep 600 & wait", marker)
    await_that(lambda: len(shared.processes("-j", job)) == 24, "three processes on each of eight nodes")
    rows = shared.processes("-j", job)
    assert len({row["pid"] for row in rows}) == 24
    ranges: dict[int, list[int]] = {}
    for row in rows:
        ranges.setdefault(row["node"], []).append(row["pid"])
    ordered = [pids for _, pids in sorted(ranges.items())]
    assert all(max(low) < min(high) for low, high in pairwise(ordered))
    # The PID in the table is the one that the process itself sees.
    assert len(host_pids(marker)) == 8
    pid = int(shared.check("bpsh", "n5", "/bin/sh", "-c", "echo $$"))
    assert min(ordered[5]) - 65536 < pid < min(ordered[6])
    shared.check("bpkill", "-KILL", job)
    await_that(lambda: not host_pids(marker), "the job gone")


def test_a_node_sees_its_own_processes_alone(shared: Cluster) -> None:
    job = shared.detach("n1", "sleep", "600")
    script = "for file in /proc/[0-9]*/comm; do read name < $file && echo $name; done"
    assert b"sleep" in shared.check("bpsh", "n1", "/bin/sh", "-c", script).split()
    assert b"sleep" not in shared.check("bpsh", "n2", "/bin/sh", "-c", script).split()
    shared.check("bpkill", "-KILL", job)


def test_user_directory_umask_and_environment_go_along(shared: Cluster, tmp_path: os.PathLike[str]) -> None:
    script = 'id -u; pwd; umask; echo "$GREETING"; ulimit -n'
    output = shared.run(
        "bpsh",
        "n2",
        "/bin/sh",
        "-c",
        script,
        cwd=tmp_path,
        umask=0o037,
        env=shared.environment | {"GREETING": "h\xe9llo"},
    ).stdout.decode()
    limit = subprocess.run(["/bin/sh", "-c", "ulimit -n"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert output == f"{os.getuid()}\n{tmp_path}\n0037\nh\xe9llo\n{limit}"
