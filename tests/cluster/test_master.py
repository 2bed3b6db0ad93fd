"""``master`` as BProc's users know it: the host whose head leads runs ranks, and is not among all nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from heorot.daemons.health import HealthSettings, check_nodes
from tests.cluster.harness import Cluster, await_that, cluster, kill_hard


@pytest.fixture(scope="module")
def mastered() -> Iterator[Cluster]:
    """Three nodes, one on the host of the heads, and two heads."""
    with cluster(3, "--heads", "2", "--master") as made:
        yield made


def bpsh(made: Cluster, *words: str) -> list[str]:
    """Run a command, one node after the other; return its lines."""
    return made.check("bpsh", "-s", *words).decode().splitlines()


def test_the_host_of_the_head_runs_ranks_where_it_is_named_and_only_there(mastered: Cluster) -> None:
    node = ("sh", "-c", "echo $HEOROT_NODE")
    assert bpsh(mastered, "master", "hostname") == [os.uname().nodename]
    assert bpsh(mastered, "master,n0", *node) == ["3", "0"]
    assert bpsh(mastered, "n0,-1,n3", *node) == ["0", "3", "3"]
    for everything in ("-a", "-A", "all", "up"):
        assert bpsh(mastered, everything, *node) == ["0", "1", "2"]
    assert bpsh(mastered, "all,master", *node) == ["0", "1", "2", "3"]


def test_tables_show_it_as_the_node_of_a_head_s_host(mastered: Cluster) -> None:
    table = [line.split() for line in mastered.check("bpstat").decode().splitlines()]
    assert [(row[0], row[-1]) for row in table] == [("Node(s)", "Master"), ("0-2", "-"), ("3", "h0")]
    rows = [line.split() for line in mastered.check("bpstat", "-l").decode().splitlines()]
    assert [row[-1] for row in rows] == ["Master", "-", "-", "-", "h0"]
    assert mastered.check("bpstat", "-n", "master") == b"3\n"
    said = mastered.check("heorot", "status").decode()
    assert "\nn3 is on the host of the head h0: master while that leads, and not among all nodes.\n" in said


def test_its_processes_are_those_of_a_node_and_outlive_the_head(mastered: Cluster) -> None:
    job = mastered.detach("master,n1", "sleep", "600")

    def pids() -> dict[int, int]:
        return {row["node"]: row["pid"] for row in mastered.processes() if row["job"] == job}

    await_that(lambda: sorted(pids()) == [1, 3], "both ranks")
    before = pids()
    epoch = mastered.status()["epoch"]
    kill_hard(mastered.head_pid())
    await_that(lambda: mastered.status()["epoch"] > epoch, "the next head")
    mastered.await_up()
    # Both heads are on this host.
    assert bpsh(mastered, "master", "hostname") == [os.uname().nodename]
    assert pids() == before
    mastered.check("bpkill", str(before[3]))
    mastered.await_job(job, lambda row: row["running"] == 1, "the end of the rank on the head's host")
    mastered.check("bpjob", "kill", job)


def test_it_is_set_stopped_and_started_like_any_node(mastered: Cluster) -> None:
    mastered.check("bpctl", "-M", "-s", "drain", "--reason", "fan")
    refused = mastered.run("bpsh", "master", "true")
    assert (refused.returncode, b"n3 is set to drain (by root: fan)" in refused.stderr) == (125, True)
    mastered.check("bpctl", "-M", "-s", "up")
    mastered.check("heorot", "node", "stop", "master")
    await_that(lambda: mastered.node(3)["state"] == "down", "n3 down")
    refused = mastered.run("bpsh", "master", "true")
    assert (refused.returncode, b"n3 is down" in refused.stderr) == (125, True)
    assert bpsh(mastered, "-a", "echo", "here") == ["here"] * 3
    mastered.check("heorot", "node", "start", "master")
    mastered.await_up()


def test_the_site_s_check_reaches_it(mastered: Cluster) -> None:
    found = check_nodes(HealthSettings(("/bin/true",), mastered.directory, limit_ms=30_000))
    assert sorted(found) == [(node, "") for node in range(4)]


def test_where_the_host_of_the_head_is_no_node_it_is_said_what_to_type(shared: Cluster) -> None:
    for words in (("bpsh", "master", "hostname"), ("bpsh", "n0,-1", "true"), ("bpctl", "-M", "-s", "drain")):
        refused = shared.run(*words)
        assert refused.returncode == (1 if words[0] == "bpctl" else 125)
        assert refused.stdout == b""
        assert b"that host is no node: 'heorot up --master' makes one for it, in a new cluster" in refused.stderr
