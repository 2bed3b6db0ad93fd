"""Large arguments, many processes, full disks, ports that are taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import heorot
from heorot.config.layout import FAILED_START
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, host_pids, kill_hard

pytestmark = pytest.mark.slow


def test_an_argument_of_128_kib_arrives_whole(shared: Cluster) -> None:
    # MAX_ARG_STRLEN of Linux counts the final zero byte.
    argument = ("0123456789abcdef" * 8192)[:-1]
    assert shared.check("bpsh", "n0,n7", "/bin/sh", "-c", "echo ${#1}", "sh", argument) == b"131071\n" * 2


def test_an_argument_beyond_the_kernels_limit_is_refused_by_name(shared: Cluster) -> None:
    with heorot.connect(shared.directory) as connection:
        completed = connection.run(["/bin/echo", "x" * 131072], nodes="n3")
    assert completed.statuses[0].code == 126
    assert "arguments and environment are too long" in completed.statuses[0].text


def test_an_environment_of_100000_bytes_arrives_whole(shared: Cluster) -> None:
    value = "v" * 100_000
    result = shared.run("bpsh", "n4", "/bin/sh", "-c", "echo ${#LARGE}", env=shared.environment | {"LARGE": value})
    assert result.stdout == b"100000\n"


def test_many_small_variables_arrive_too(shared: Cluster) -> None:
    variables = {f"VARIABLE_{number}": "x" * 20 for number in range(3000)}
    result = shared.run("bpsh", "n1", "/usr/bin/env", env=shared.environment | variables)
    assert sum(line.startswith(b"VARIABLE_") for line in result.stdout.splitlines()) == 3000


def test_five_thousand_processes_on_a_node_are_all_in_the_table_and_end_together(own: Cluster) -> None:
    script = "i=0; while [ $i -lt 4999 ]; do sleep 600 & i=$((i+1)); done; echo ready; wait"
    with own.start("bpsh", "--max-processes", "6000", "n3", "/bin/sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        rows = own.processes("-n", "n3")
        assert len(rows) == 5000
        assert len({row["pid"] for row in rows}) == 5000
        assert own.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 7
        own.check("bpkill", "-KILL", rows[0]["job"])
        process.communicate(timeout=DEADLINE_S)
    await_that(lambda: not own.processes("-n", "n3"), "all of them gone")


def test_a_fork_bomb_is_stopped_by_its_jobs_limit(own: Cluster) -> None:
    marker = uuid.uuid4().hex
    bomb = "b() { sleep 600 & b & b & wait; }; b"
    result = own.run("bpsh", "--max-processes", "200", "n1", "/bin/sh", "-c", bomb, marker)
    assert result.returncode == 128 + 9
    assert b"200" in result.stderr
    await_that(lambda: not own.processes("-n", "n1"), "no process of the bomb left")
    assert not host_pids(marker)
    assert own.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 7


def test_thousand_ranks_on_eight_nodes(shared: Cluster) -> None:
    nodes = ",".join(["n[0-7]"] * 125)
    output = shared.check("bpsh", nodes, "/bin/sh", "-c", "echo $BPROC_RANK")
    assert sorted(map(int, output.split())) == list(range(1000))


def test_many_jobs_one_after_the_other_leave_no_trace(shared: Cluster) -> None:
    head = shared.head_pid()
    inits = [node["init_pid"] for node in shared.status()["nodes"]]

    def descriptors() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in [head, *inits]]

    shared.check("bpsh", "-a", "true")
    before = descriptors()
    for _ in range(30):
        shared.check("bpsh", "-a", "/bin/echo")
    await_that(lambda: descriptors() <= before, f"no more descriptors than {before}")
    assert all(job["state"] == "done" for job in shared.jobs())
    assert shared.processes() == []


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = str(tmp_path / "head.toml")
        new = Cluster(tmp_path / "head")
        options = ["--listen", f"127.0.0.1:{port}", "--socket", str(new.directory / "head.sock")]
        new.check("heorot", "head", "init", "--config", config, *options)
        result = new.run("bphead", "--config", config)
    assert result.returncode == 1
    assert f"127.0.0.1 port {port}".encode() in result.stderr
    assert b"in use" in result.stderr


def test_two_clusters_cannot_share_a_directory(own: Cluster) -> None:
    result = own.run("heorot", "up", "--nodes", "2")
    assert result.returncode == 125
    assert b"runs in" in result.stderr
    assert len(own.status()["nodes"]) == 7


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of two nodes on a file system of 8 MB."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        made = Cluster(small / "cluster")
        made.up(2)
        try:
            yield made
        finally:
            made.down()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_full_disk_stops_writers_and_loses_nothing(cramped: Cluster) -> None:
    # Nobody reads this job: its output goes to the spool, which is on the small file system.
    job = cramped.detach("n0", "/bin/sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end; exit 3")
    spool = cramped.directory / "nodes" / "n0"

    def full() -> bool:
        rows = cramped.processes("-j", job)
        state = os.statvfs(spool)
        return bool(rows) and state.f_bavail * state.f_bsize < 100_000

    await_that(full, "the disk full while the job stands still")
    assert cramped.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 2
    result = cramped.run("bpjob", "attach", "-f", job)
    assert result.stdout == b"x" * 30_000_000 + b"\nend\n"
    assert result.returncode == 3


def test_a_full_disk_at_the_start_is_said_and_nothing_is_left_but_the_logs(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        result = Cluster(small / "cluster").run("heorot", "up", "--nodes", "8")
        assert result.returncode == 125
        assert b"No space left" in result.stderr
        # No log, and then no directory, if there was no room for a word in any.
        assert not (small / "cluster").exists() or os.listdir(small / "cluster") == [FAILED_START]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_new_agent_takes_another_port_when_its_own_is_taken(own: Cluster) -> None:
    node = own.node(5)
    host, _, port = node["address"].partition(":")
    os.kill(node["agent_pid"], 19)
    blocker = subprocess.Popen(
        [sys.executable, "-I", "-c", f"""
import socket, time
while True:
    try:
        with socket.create_server(({host!r}, {port})):
            print("taken", flush=True)
            time.sleep(600)
    except OSError:
        pass
"""], stdout=subprocess.PIPE)  # fmt: skip
    try:
        kill_hard(node["agent_pid"])
        assert blocker.stdout is not None
        await_that(lambda: own.node(5)["agent_pid"] not in (node["agent_pid"], 0), "a new agent")
        own.await_up(5)
        assert own.check("bpsh", "n5", "echo", "there") == b"there\n"
    finally:
        blocker.kill()
        blocker.communicate()


def test_cluster_of_one_node() -> None:
    with cluster(1) as made:
        assert made.check("bpsh", "-a", "/bin/echo", "alone") == b"alone\n"
