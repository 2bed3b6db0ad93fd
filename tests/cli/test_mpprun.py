"""`mpprun` and `bpsrun`: which rank goes where, what is handed to bpsh, and both on a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.cli.mpprun import count_of, list_of, spread
from heorot.cli.options import UsageError
from tests.cluster.harness import Cluster, Finished, cluster, command
from tests.cluster.test_mpi import PROGRAM, all_said

WHERE = ("-s", "sh", "-c", "echo $HEOROT_NODE")


@pytest.fixture(scope="module")
def four() -> Iterator[Cluster]:
    """Four nodes."""
    with cluster(4) as made:
        yield made


@pytest.mark.parametrize(
    ("nodes", "ranks", "cyclic", "places"),
    [
        ([4, 5, 6], 3, False, "n[4-6]"),
        ([4, 5, 6], 2, False, "n[4-5]"),
        ([4, 5, 6], 7, False, "n4,n4,n[4-5],n[5-6],n6"),
        ([4, 5, 6], 7, True, "n[4-6],n[4-6],n4"),
        ([7], 3, False, "n7,n7,n7"),
        ([3, 1], 4, False, "n3,n3,n1,n1"),
    ],
)
def test_ranks_are_spread_in_blocks_or_in_turn(nodes: list[int], ranks: int, cyclic: bool, places: str) -> None:
    assert list_of(spread(nodes, ranks, cyclic)) == places


def test_the_number_of_ranks_may_stand_in_the_environment() -> None:
    assert (count_of("12"), count_of("")) == (12, 0)
    for text in ("x", "0", "-1", "9" * 12):
        with pytest.raises(UsageError):
            count_of(text)


def output(result: Finished) -> list[int]:
    """Return what the ranks have said, in order."""
    assert (result.returncode, result.stderr) == (0, b"")
    return [int(line) for line in result.stdout.split()]


def test_so_many_ranks_on_the_nodes_that_are_up(four: Cluster) -> None:
    assert output(four.run("mpprun", *WHERE)) == [0, 1, 2, 3]
    assert output(four.run("mpprun", "-np", "6", *WHERE)) == [0, 0, 1, 1, 2, 3]
    assert output(four.run("mpprun", "--nodes", "n3,n1", "-n4", "--cyclic", *WHERE)) == [3, 1, 3, 1]
    assert output(four.run("mpprun", *WHERE, env={**four.environment, "NP": "2"})) == [0, 1]


def test_words_behind_the_program_are_its_own(four: Cluster) -> None:
    result = four.run("mpprun", "-n", "1", "echo", "-np", "3", "--nodes", "x")
    assert result.stdout == b"-np 3 --nodes x\n"


def test_the_ranks_are_of_one_program_of_mpi(four: Cluster) -> None:
    all_said(four.run("mpprun", "-np", "8", *PROGRAM, "ring"), 8)
    assert four.run("mpprun", "-n", "4", *PROGRAM, "abort").returncode == 5


def test_it_is_mpirun_where_somebody_makes_a_link_to_it(four: Cluster, tmp_path: Path) -> None:
    *python, path = command("mpprun")
    link = tmp_path / "mpirun"
    link.symlink_to(path)
    done = subprocess.run([*python, link, "-np", "2", *WHERE], env=four.environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n1\n", b"")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), b"mpprun: no program given"),
        (("-n", "0", "true"), b"needs a number from 1"),
        (("-a", "true"), b"mpprun: unknown option -a"),
        (("--nodes", "n9", "true"), b"there is no node n9"),
    ],
)
def test_what_cannot_be_meant_is_refused(four: Cluster, words: tuple[str, ...], says: bytes) -> None:
    result = four.run("mpprun", *words)
    assert result.returncode in (2, 125)
    assert says in result.stderr


def test_bpsrun_starts_one_process_on_each_node_and_numbers_them_as_srun_does(four: Cluster) -> None:
    words = ("-N", "2", "-n", "2", "--input", "none")
    script = 'echo $SLURM_NODEID $SLURM_PROCID $SLURM_NTASKS $SLURM_NNODES $HEOROT_NODE "$@"'
    result = four.run("bpsrun", "--nodelist", "n3,n1", *words, "sh", "-c", script, "x", "--control-port", "a b")
    assert (result.returncode, result.stderr) == (0, b"")
    assert sorted(result.stdout.splitlines()) == [b"0 0 2 2 3 --control-port a b", b"1 1 2 2 1 --control-port a b"]


def test_bpsrun_is_one_job(four: Cluster) -> None:
    before = len(four.jobs())
    assert four.run("bpsrun", "-w", "n[0-3]", "sh", "-c", "exit 7").returncode == 7
    assert len(four.jobs()) == before + 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("true",), b"--nodelist says which"),
        (("-w", "n0"), b"no command given"),
        (("-w", "n0", "-N", "3", "true"), b"-N says 3 nodes, and --nodelist names 1"),
    ],
)
def test_bpsrun_refuses_what_cannot_be_meant(four: Cluster, words: tuple[str, ...], says: bytes) -> None:
    result = four.run("bpsrun", *words)
    assert result.returncode == 2
    assert says in result.stderr
