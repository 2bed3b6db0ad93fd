"""Input for some ranks only: these have all of it, the others none, and nobody waits for who does not read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import heorot
from tests.cluster.harness import DEADLINE_S, Cluster

COUNT = ("/bin/sh", "-c", "echo $HEOROT_RANK $(wc -c)")


def counted(output: bytes) -> list[str]:
    return sorted(output.decode().splitlines(), key=lambda line: int(line.split()[0]))


def write_much(job: heorot.Job) -> None:
    """Write more than all windows hold."""
    for _ in range(64):
        job.write(bytes(1 << 20), timeout_s=DEADLINE_S)


def test_only_these_ranks_have_it_and_all_of_it(shared: Cluster) -> None:
    data = os.urandom(3_000_000)
    result = shared.run("bpsh", "--ranks=8", "--input=0,5-6", "n[0-3]", *COUNT, stdin=data)
    assert result.returncode == 0
    sizes = {0: len(data), 5: len(data), 6: len(data)}
    assert counted(result.stdout) == [f"{rank} {sizes.get(rank, 0)}" for rank in range(8)]


def test_who_reads_no_more_is_told_though_others_of_its_node_run_on(shared: Cluster, tmp_path: Path) -> None:
    # Rank 0 ends at once; rank 1 of the same node, which never reads, goes on.
    script = '[ $HEOROT_RANK = 0 ] && exit; while [ ! -e "$0" ]; do sleep 0.05; done'
    told = tmp_path / "told"
    with heorot.connect(shared.directory) as cluster:
        command = ["/bin/sh", "-c", script, str(told)]
        with cluster.spawn(command, "n1", ranks=2, stdin=heorot.PIPE, stdin_ranks=[0]) as job:
            with pytest.raises(BrokenPipeError):
                write_much(job)
            told.touch()
            assert [status.code for status in job.wait(DEADLINE_S)] == [0, 0]


def test_a_terminal_is_given_no_keys_if_its_rank_is_not_chosen(shared: Cluster) -> None:
    script = "if read line; then echo $HEOROT_RANK got $line; else echo $HEOROT_RANK none; fi"
    result = shared.run("bpsh", "--pty", "--ranks=2", "--input=1", "n2", "/bin/sh", "-c", script, stdin=b"word\n")
    assert b"0 none" in result.stdout
    assert b"1 got word" in result.stdout


def test_all_and_none(shared: Cluster) -> None:
    assert shared.run("bpsh", "--input=all", "n[0-1]", "cat", stdin=b"x").stdout == b"xx"
    assert shared.run("bpsh", "--input=none", "n[0-1]", "cat", stdin=b"x").stdout == b""


def test_a_rank_that_does_not_exist_is_refused(shared: Cluster) -> None:
    result = shared.run("bpsh", "--input=3", "n[0-2]", "cat")
    assert result.returncode == 125
    assert result.stderr == b"bpsh: there is no rank 3 to give input to: the job has the ranks 0 to 2\n"


def test_input_goes_on_under_the_next_head(own: Cluster) -> None:
    with own.start("bpsh", "--ranks=4", "--input=1,3", "n[1-2]", *COUNT, stdin=subprocess.PIPE) as bpsh:
        assert bpsh.stdin is not None
        bpsh.stdin.write(b"a" * 500_000)
        os.kill(own.head_pid(), 9)
        bpsh.stdin.write(b"b" * 500_000)
        bpsh.stdin.close()
        bpsh.stdin = None
        status, output, _ = bpsh.outcome()
    assert (status, counted(output)) == (0, ["0 0", "1 1000000", "2 0", "3 1000000"])


def test_the_library_has_the_same(shared: Cluster) -> None:
    with heorot.connect(shared.directory) as cluster:
        done = cluster.run(["cat"], "n[0-2]", input=b"word", stdin_ranks=[1])
        assert done.stdout == [b"", b"word", b""]
        with pytest.raises(ValueError, match="ranks are numbers from 0"):
            cluster.run(["cat"], "n0", input=b"", stdin_ranks=[-1])
