"""How commands end: exit codes, signals, what cannot be started, nodes that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, cluster, kill_hard


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_of_a_rank_is_that_of_bpsh(shared: Cluster, code: int) -> None:
    assert shared.run("bpsh", "n3", "/bin/sh", "-c", f"exit {code}").returncode == code


def test_largest_exit_code_of_all_ranks_wins(shared: Cluster) -> None:
    result = shared.run("bpsh", "-a", "/bin/sh", "-c", 'exit "${BPROC_RANK#000000}"')
    assert result.returncode == 7


def test_death_by_a_signal_gives_128_and_its_number_and_names_node_and_signal(shared: Cluster) -> None:
    result = shared.run("bpsh", "n5", "/bin/sh", "-c", "kill -USR1 $$")
    assert result.returncode == 128 + 10
    assert b"n5" in result.stderr
    assert b"USR1" in result.stderr


def test_no_such_command_is_127_with_its_name(shared: Cluster) -> None:
    result = shared.run("bpsh", "-a", "/bin/no-such-command")
    assert result.returncode == 127
    assert b"/bin/no-such-command" in result.stderr
    assert b"no such command" in result.stderr
    assert result.stdout == b""


def test_no_permission_to_execute_is_126_with_the_name(shared: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "not-executable"
    file.write_text("#!/bin/sh\n")
    result = shared.run("bpsh", "n0,n7", str(file))
    assert result.returncode == 126
    assert str(file).encode() in result.stderr
    assert b"ermission denied" in result.stderr


def test_a_directory_is_no_program(shared: Cluster) -> None:
    result = shared.run("bpsh", "n1", "/tmp")
    assert result.returncode == 126
    assert b"/tmp" in result.stderr


def test_one_rank_that_cannot_start_does_not_stop_the_others(shared: Cluster) -> None:
    result = shared.run(
        "bpsh",
        "-p",
        "n0,n1",
        "/bin/sh",
        "-c",
        'cd /proc/self && [ "$BPROC_RANK" = 0000000 ] && exec /no/thing; echo ran',
    )
    assert result.stdout == b"  1: ran\n"
    assert result.returncode == 127


@pytest.mark.parametrize("nodes", ["n8", "n0,n77", "n[0-3,9]"])
def test_unknown_node_starts_nothing_and_says_which(shared: Cluster, nodes: str) -> None:
    result = shared.run("bpsh", nodes, "/bin/echo", "started")
    assert result.returncode == 125
    assert result.stdout == b""
    assert {"n8": b"n8", "n0,n77": b"n77", "n[0-3,9]": b"n9"}[nodes] in result.stderr


def test_empty_node_list_starts_nothing(shared: Cluster) -> None:
    result = shared.run("bpsh", "", "/bin/echo", "started")
    assert result.returncode == 125
    assert result.stdout == b""
    assert b"no node" in result.stderr


def test_node_that_is_down_starts_nothing_on_any(own: Cluster) -> None:
    kill_hard(own.node(6)["init_pid"])
    result = own.run("bpsh", "n0,n6", "/bin/echo", "started")
    assert result.returncode == 125
    assert result.stdout == b""
    assert b"n6" in result.stderr
    assert b"down" in result.stderr
    assert own.check("bpsh", "-a", "/bin/echo", "started") == b"started\n" * 6


def test_without_a_cluster_every_command_says_how_to_get_one(tmp_path: Path) -> None:
    nowhere = Cluster(tmp_path / "nothing")
    for name, *arguments in [["bpsh", "n0", "true"], ["bpps"], ["bpstat"], ["bpjob", "list"], ["bpkill", "1.1"]]:
        result = nowhere.run(name, *arguments)
        assert result.returncode == 125, name
        assert b"heorot up" in result.stderr, name


def test_repeated_nodes_run_repeatedly_in_the_order_given(shared: Cluster) -> None:
    result = shared.check("bpsh", "-s", "-p", "n5,n2,n5", "/bin/sh", "-c", "echo $BPROC_RANK")
    assert result == b"  5: 0000000\n  2: 0000001\n  5: 0000002\n"


def test_a_second_cluster_on_the_machine_is_another_world(shared: Cluster) -> None:
    with cluster(1) as other:
        job = other.detach("n0", "sleep", "600")
        assert all(row["job"] != job or row["argv"] != ["sleep", "600"] for row in shared.processes())
        assert [row["job"] for row in other.processes()] == [job]
        other.check("bpkill", "-KILL", job)


def test_a_name_cannot_drive_the_terminal_through_an_error(shared: Cluster) -> None:
    result = shared.run("bpsh", "n0", "/no/\x1b[2J\n\u202e")
    assert result.returncode == 127
    assert result.stderr == b"bpsh: n0 (rank 0): no such command: /no/\\x1b[2J\\n\\u202e\n"
