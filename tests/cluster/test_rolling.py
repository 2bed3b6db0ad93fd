"""A command on some nodes at a time on a real cluster: order, failures, signals, a head that is lost in between."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, host_pids


@pytest.fixture
def marker() -> str:
    """A word that no other process has."""
    return uuid.uuid4().hex


def test_the_next_nodes_begin_when_these_are_over(shared: Cluster, tmp_path: Path) -> None:
    # Whoever finds more than one other at work was begun with too early.
    script = "d=$0; touch $d/$HEOROT_NODE; set -- $d/*; echo $HEOROT_NODE $(($# <= 2)); sleep 0.05; rm $d/$HEOROT_NODE"
    result = shared.run("bpsh", "--rolling=2", "-s", "n[7,0-4]", "/bin/sh", "-c", script, str(tmp_path))
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().split() == ["7", "1", "0", "1", "1", "1", "2", "1", "3", "1", "4", "1"]


def test_each_group_is_a_job_and_their_statuses_are_said_once_folded(shared: Cluster) -> None:
    before = {job["job"] for job in shared.jobs()}
    result = shared.run("bpsh", "--fanout", "3", "-p", "-a", "/bin/sh", "-c", "echo x; exit $((HEOROT_NODE / 3))")
    assert result.returncode == 2
    assert sorted(result.stdout.splitlines()) == [b"%3d: x" % node for node in range(8)]
    assert result.stderr.decode().splitlines() == ["bpsh: n[3-5]: exit status 1", "bpsh: n[6-7]: exit status 2"]
    assert len({job["job"] for job in shared.jobs()} - before) == 3


def test_it_stops_after_a_failure_if_it_is_told_to(shared: Cluster) -> None:
    command = ("/bin/sh", "-c", "[ $HEOROT_NODE != 3 ] || kill -9 $$")
    result = shared.run("bpsh", "--rolling=2", "--stop-on-failure", "-a", *command)
    assert result.returncode == 137
    lines = result.stderr.decode().splitlines()
    assert lines == ["bpsh: n3 (rank 1): killed by SIGKILL", "bpsh: n[4-7]: not begun"]
    goes_on = shared.run("bpsh", "--rolling=2", "-a", *command)
    assert (goes_on.returncode, b"not begun" in goes_on.stderr) == (137, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_and_begins_nothing_more(shared: Cluster, marker: str, number: signal.Signals) -> None:
    with shared.start("bpsh", "--rolling=2", "-a", "/bin/sh", "-c", "echo begun; sleep 1000", marker) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"begun\n"] * 2
        process.send_signal(number)
        status, output, errors = process.outcome()
    assert status == (-number if number == signal.SIGINT else 128 + number)
    assert output == b""
    assert b"bpsh: n[2-7]: not begun\n" in errors
    assert not host_pids(marker)


def test_a_killed_one_leaves_nothing_and_begins_nothing(shared: Cluster, marker: str, tmp_path: Path) -> None:
    script = "touch $1/$HEOROT_NODE; echo begun; sleep 1000"
    with shared.start("bpsh", "--rolling=1", "-a", "/bin/sh", "-c", script, "sh", str(tmp_path), marker) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
    await_that(lambda: not host_pids(marker), "nothing is left")
    assert shared.check("bpsh", "-a", "/bin/true") == b""
    assert os.listdir(tmp_path) == ["0"]


def test_a_closed_output_ends_all(shared: Cluster) -> None:
    with shared.start("bpsh", "--rolling=1", "-a", "/bin/sh", "-c", "yes") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        process.stdout = None
        assert process.wait(DEADLINE_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b"bpsh: n[1-7]: not begun\n"


def test_a_node_that_went_down_is_a_failure_and_the_others_go_on(own: Cluster) -> None:
    own.check("heorot", "node", "stop", "n2")
    result = own.run("bpsh", "--rolling=2", "n[0-5]", "/bin/sh", "-c", "echo $HEOROT_NODE")
    assert result.returncode == 125
    assert sorted(result.stdout.split()) == [b"0", b"1", b"4", b"5"]
    assert b"n2 is down" in result.stderr


def test_it_goes_on_under_the_next_head(own: Cluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    script = 'echo $HEOROT_NODE; while [ ! -e "$0" ]; do sleep 0.05; done'
    with own.start("bpsh", "--rolling=3", "-s", "-a", "/bin/sh", "-c", script, str(go_on)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        os.kill(own.head_pid(), 9)
        go_on.touch()
        status, output, _ = process.outcome()
    assert (status, output.split()) == (0, [b"1", b"2", b"3", b"4", b"5", b"6"])


def test_who_names_no_nodes_is_refused(shared: Cluster) -> None:
    result = shared.run("bpsh", "--rolling=3", "n77", "/bin/true")
    assert (result.returncode, result.stdout) == (125, b"")
    assert b"there is no node n77" in result.stderr
