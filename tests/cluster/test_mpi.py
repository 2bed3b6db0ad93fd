"""`bpsh --mpi`: ranks find each other by PMI-1, through broken heads, links and nodes, and end together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, Finished, Running, await_that, cluster, kill_hard
from tests.cluster.test_failover import kill_head

PROGRAM = (sys.executable, "-IS", str(Path(__file__).resolve().parents[1] / "support" / "pmi_program.py"))


@pytest.fixture
def two_heads() -> Iterator[Cluster]:
    """Six nodes in a tree of fan-out two, and two heads."""
    with cluster(6, "--fanout", "2", "--heads", "2") as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Where ranks stop, and are let through."""
    made = tmp_path / "gate"
    made.mkdir()
    return made


def all_said(result: Finished, size: int) -> None:
    """See that all ranks have come to their end."""
    assert result.stderr == b""
    assert sorted(result.stdout.splitlines()) == sorted(b"%d of %d" % (rank, size) for rank in range(size))
    assert result.returncode == 0


def outcome(process: Running) -> Finished:
    """Wait for the end of a job."""
    return Finished((), *process.outcome())


def reached(gate: Path, step: str, ranks: int) -> None:
    """Wait until all ranks stand at a step."""
    await_that(lambda: all((gate / f"{step}.{rank}").exists() for rank in range(ranks)), f"all ranks at {step}")


def test_ranks_tell_each_other_their_cards_twenty_times(shared: Cluster) -> None:
    all_said(shared.run("bpsh", "--mpi", "n[0-7],n[0-7]", *PROGRAM, "ring"), 16)


def test_ranks_that_speak_pmi_2_do_the_same(shared: Cluster) -> None:
    all_said(shared.run("bpsh", "--mpi", "n[0-3],n[0-3]", *PROGRAM, "second"), 8)


def test_ranks_of_one_job_may_speak_pmi_1_and_pmi_2(shared: Cluster) -> None:
    all_said(shared.run("bpsh", "--mpi", "n[0-3]", *PROGRAM, "mixed"), 4)


def test_ranks_of_one_node_need_nobody_else(shared: Cluster) -> None:
    all_said(shared.run("bpsh", "--mpi", "n3,n3,n3", *PROGRAM, "ring"), 3)


def test_sixty_four_ranks_on_sixty_four_nodes(large: Cluster) -> None:
    all_said(large.run("bpsh", "--mpi", "-a", *PROGRAM, "start"), 64)


def test_ranks_know_who_they_are_and_no_other_job_is_told_so(shared: Cluster) -> None:
    environment = {**shared.environment, "PMI_FD": "77", "PMI_RANK": "9", "PMI_PORT": "x:1", "MPI_LOCALRANKID": "9"}
    words = "echo $PMI_RANK/$PMI_SIZE $MPI_LOCALRANKID/$MPI_LOCALNRANKS $PMI_FD ${PMI_PORT-none}; ls -l /proc/$$/fd/3"
    result = shared.run("bpsh", "--mpi", "-s", "n1,n2,n2", "sh", "-c", words, env=environment)
    lines = result.stdout.splitlines()
    assert lines[0::2] == [b"0/3 0/1 3 none", b"1/3 0/2 3 none", b"2/3 1/2 3 none"]
    assert all(b"socket:" in line for line in lines[1::2])
    plain = shared.run("bpsh", "n1", "sh", "-c", "echo ${PMI_FD-none}; ls /proc/$$/fd", env=environment)
    assert plain.stdout.split()[0] == b"none"
    assert b"3" not in plain.stdout.split()


def test_a_program_that_knows_nothing_of_mpi_runs_as_without_it(shared: Cluster) -> None:
    result = shared.run("bpsh", "--mpi", "n[0-1]", "sh", "-c", "exit $BPROC_RANK")
    assert result.returncode == 1
    assert b"MPI" not in result.stderr


def test_abort_ends_the_job_with_its_status(shared: Cluster) -> None:
    result = shared.run("bpsh", "--mpi", "n[0-7]", *PROGRAM, "abort")
    assert result.returncode == 5
    assert b"rank 7 on n7 called MPI_Abort with 5" in result.stderr


def test_a_rank_that_ends_without_finalize_ends_the_others(shared: Cluster) -> None:
    result = shared.run("bpsh", "--mpi", "n[0-7]", *PROGRAM, "die")
    assert result.returncode == 3
    assert b"rank 1 on n1 ended with status 3 before MPI_Finalize" in result.stderr


def test_who_waits_for_a_rank_that_has_no_use_for_mpi_is_ended(shared: Cluster) -> None:
    words = f"[ $PMI_RANK = 0 ] || exec {' '.join(PROGRAM)} ring"
    result = shared.run("bpsh", "--mpi", "n[0-2]", "sh", "-c", words)
    assert result.returncode == 1
    assert b"rank 0 on n0 is over, and others wait for it in MPI" in result.stderr


def test_nonsense_costs_a_rank_its_connection_and_nothing_else(shared: Cluster) -> None:
    all_said(shared.run("bpsh", "--mpi", "n[0-3]", *PROGRAM, "nonsense"), 4)
    all_said(shared.run("bpsh", "--mpi", "n[0-3]", *PROGRAM, "ring"), 4)


def test_a_flood_of_puts_keeps_nobody_waiting(shared: Cluster, gate: Path) -> None:
    with shared.start("bpsh", "--mpi", "n0,n0,n1", *PROGRAM, "flood", gate) as flood:
        reached(gate, "floods", 3)
        all_said(shared.run("bpsh", "--mpi", "n[0-3]", *PROGRAM, "ring"), 4)
        assert shared.run("bpsh", "n[0-1]", "true").returncode == 0
        (gate / "floods").touch()
        all_said(outcome(flood), 3)


def test_heads_that_are_killed_in_init_in_a_barrier_and_before_the_end(two_heads: Cluster, gate: Path) -> None:
    with two_heads.start("bpsh", "--mpi", "n[0-5]", *PROGRAM, "gates", gate) as process:
        reached(gate, "begin", 6)
        (gate / "begin").touch()
        kill_head(two_heads)
        reached(gate, "late", 6)
        kill_head(two_heads)
        (gate / "late").touch()
        reached(gate, "end", 6)
        (gate / "end").touch()
        kill_head(two_heads)
        all_said(outcome(process), 6)


def test_agents_that_are_killed_in_a_barrier_are_not_noticed(own: Cluster, gate: Path) -> None:
    with own.start("bpsh", "--mpi", "-a", *PROGRAM, "gates", gate) as process:
        reached(gate, "begin", 7)
        (gate / "begin").touch()
        reached(gate, "late", 7)
        for node in (0, 2, 5):
            kill_hard(own.node(node)["agent_pid"])
        (gate / "late").touch()
        reached(gate, "end", 7)
        kill_hard(own.node(1)["agent_pid"])
        (gate / "end").touch()
        all_said(outcome(process), 7)


def test_a_node_that_is_killed_in_a_barrier_ends_the_job_which_names_it(own: Cluster, gate: Path) -> None:
    with own.start("bpsh", "--mpi", "-a", *PROGRAM, "gates", gate) as process:
        reached(gate, "begin", 7)
        (gate / "begin").touch()
        reached(gate, "late", 7)
        os.kill(own.node(5)["init_pid"], 9)
        result = outcome(process)
    assert result.returncode == 255
    assert b"n5 went down; MPI cannot go on without it" in result.stderr
