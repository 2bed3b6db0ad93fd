"""GNU parallel, clush and pdsh through `bprsh`: a command on several nodes, input, statuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.local_cluster import Finished, LocalCluster

CLUSH = str(Path(sys.executable).parent / "clush")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Where these programs keep what they remember; a remote shell has another home, and is not asked for one."""
    return {"HOME": str(tmp_path), "PARALLEL_HOME": str(tmp_path / "parallel"), "LC_ALL": "C"}


def ran(cluster: LocalCluster, home: dict[str, str], *words: str, input: bytes | None = None) -> Finished:
    return cluster.run(*words, input=input, env={**cluster.environment, **home})


def test_parallel_shares_work_among_nodes(cluster: LocalCluster, home: dict[str, str]) -> None:
    nodes = "2/n0,2/n1,2/root@n2"
    words = ("--will-cite", "--ssh", "bprsh", "-S", nodes, "-k", "echo {} $((HEOROT_NODE + 10))")
    result = ran(cluster, home, "parallel", *words, ":::", "a", "b c", "it's", "$d", "*")
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["a", "b c", "it's", "$d", "*"]
    assert {line.rsplit(" ", 1)[1] for line in lines} <= {"10", "11", "12"}


def test_parallel_counts_failures_and_runs_on_all_nodes(cluster: LocalCluster, home: dict[str, str]) -> None:
    options = ("--will-cite", "--ssh", "bprsh", "-S", "1/n0,1/n1,1/n2")
    assert ran(cluster, home, "parallel", *options, "exit {}", ":::", "0", "3", "4").returncode == 2
    result = ran(cluster, home, "parallel", *options, "--nonall", "echo $HEOROT_NODE")
    assert sorted(result.stdout.split()) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("worker", ["ssh", "rsh"])
def test_clush_runs_gathers_and_tells_statuses(cluster: LocalCluster, home: dict[str, str], worker: str) -> None:
    options = ("-R", worker, "-O", f"{worker}_path=bprsh", "-w", "n[0-2]")
    result = ran(cluster, home, CLUSH, *options, "-b", "echo same; cat", input=b"in\n")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.endswith(b"\nsame\nin\n")
    assert b"n[0-2] (3)" in result.stdout
    result = ran(cluster, home, CLUSH, *options, "-S", "exit $((HEOROT_NODE * 2))")
    assert result.returncode == 4
    said = {b"clush: n1: exited with exit code 2", b"clush: n2: exited with exit code 4"}
    assert set(result.stderr.splitlines()) == said


def test_clush_copies_by_scp(cluster: LocalCluster, home: dict[str, str], tmp_path: Path) -> None:
    source, there = tmp_path / "a file", tmp_path / "there"
    source.write_bytes(os.urandom(100_000))
    options = ("-R", "ssh", "-O", "ssh_path=bprsh", "-O", "scp_path=scp -S bprsh", "-w", "n1")
    result = ran(cluster, home, CLUSH, *options, "--copy", str(source), "--dest", str(there))
    assert (result.returncode, result.stderr) == (0, b"")
    assert there.read_bytes() == source.read_bytes()


def test_pdsh_runs_it_on_every_host(cluster: LocalCluster, home: dict[str, str]) -> None:
    words = ("-R", "exec", "-S", "-w", "n[0-2]", "bprsh", "-l", "%u", "%h", "echo $HEOROT_NODE; exit $HEOROT_NODE")
    result = ran(cluster, home, "pdsh", *words)
    assert sorted(result.stdout.splitlines()) == [b"n0: 0", b"n1: 1", b"n2: 2"]
    assert result.returncode == 2
