"""Several ranks on a node, on a real cluster: where they are, what they know of each other, and their own files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import heorot.aio
from tests.cluster.harness import Cluster

SAY = (
    "echo $HEOROT_RANK/$HEOROT_SIZE on $HEOROT_NODE: $HEOROT_LOCAL_RANK/$HEOROT_LOCAL_SIZE"
    " $HEOROT_NNODES $HEOROT_NODELIST $NODES"
)


def said(output: bytes) -> list[str]:
    return sorted(output.decode().splitlines())


def test_ranks_are_in_equal_blocks_and_know_their_neighbours(shared: Cluster) -> None:
    output = shared.check("bpsh", "--ranks", "8", "n[1-3]", "/bin/sh", "-c", SAY)
    assert said(output) == [
        "0/8 on 1: 0/3 3 n[1-3] 1,2,3",
        "1/8 on 1: 1/3 3 n[1-3] 1,2,3",
        "2/8 on 1: 2/3 3 n[1-3] 1,2,3",
        "3/8 on 2: 0/3 3 n[1-3] 1,2,3",
        "4/8 on 2: 1/3 3 n[1-3] 1,2,3",
        "5/8 on 2: 2/3 3 n[1-3] 1,2,3",
        "6/8 on 3: 0/2 3 n[1-3] 1,2,3",
        "7/8 on 3: 1/2 3 n[1-3] 1,2,3",
    ]


def test_so_many_on_each_node_and_no_more_nodes_than_it_takes(shared: Cluster) -> None:
    script = "echo $HEOROT_RANK $HEOROT_NODE $HEOROT_LOCAL_RANK $HEOROT_NODELIST"
    everywhere = shared.check("bpsh", "-a", "--ranks-per-node=2", "/bin/sh", "-c", script)
    assert said(everywhere) == sorted(f"{rank} {rank // 2} {rank % 2} n[0-7]" for rank in range(16))
    some = shared.check("bpsh", "--ranks=4", "--ranks-per-node=2", "n[5,3,1]", "/bin/sh", "-c", script)
    assert said(some) == ["0 5 0 n[3,5]", "1 5 1 n[3,5]", "2 3 0 n[3,5]", "3 3 1 n[3,5]"]
    refused = shared.run("bpsh", "--ranks=9", "--ranks-per-node=4", "n[0-1]", "/bin/true")
    assert refused.returncode == 125
    assert refused.stderr == b"bpsh: 9 ranks, 4 on each node, need 3 nodes; the list has 2\n"


def test_what_was_brought_under_a_name_that_others_use_stays(shared: Cluster) -> None:
    environment = {**shared.environment, "NODES": "mine", "HEOROT_LOCAL_RANK": "9"}
    result = shared.run("bpsh", "n2", "/bin/sh", "-c", "echo $NODES $HEOROT_LOCAL_RANK", env=environment)
    assert result.stdout == b"mine 0\n"


def test_each_rank_has_files_of_its_own_by_name(shared: Cluster, tmp_path: Path) -> None:
    for rank in range(4):
        (tmp_path / f"in.{rank}").write_text(f"for {rank}\n")
    files = ("-I", f"{tmp_path}/in.%r", "-O", f"{tmp_path}/%n.%r.100%%", "-E", f"{tmp_path}/err.%j")
    command = ("/bin/sh", "-c", "cat; echo $HEOROT_JOB >&2")
    result = shared.run("bpsh", "--ranks", "4", *files, "n[6-7]", *command)
    assert result.returncode == 0
    for rank, node in enumerate(("n6", "n6", "n7", "n7")):
        assert (tmp_path / f"{node}.{rank}.100%").read_text() == f"for {rank}\n"
    # That of stderr is one for the ranks of a node, and said.
    (job,) = {name.name.removeprefix("err.") for name in tmp_path.glob("err.*")}
    assert set((tmp_path / f"err.{job}").read_text().splitlines()) == {job}
    assert result.stderr.decode() == (
        f"bpsh: the ranks of each node of n[6-7] write to one file, '{tmp_path}/err.%j': what they write is mixed"
        " there; %r in the name is the rank\n"
    )


def test_both_streams_may_go_to_a_rank_s_one_file(shared: Cluster, tmp_path: Path) -> None:
    name = f"{tmp_path}/all.%r"
    shared.check("bpsh", "--ranks=3", "-O", name, "-E", name, "n4", "/bin/sh", "-c", "echo out; echo err >&2")
    assert [(tmp_path / f"all.{rank}").read_text() for rank in range(3)] == ["out\nerr\n"] * 3


def test_a_terminal_and_a_file_of_its_own_do_not_get_in_each_other_s_way(shared: Cluster, tmp_path: Path) -> None:
    result = shared.run("bpsh", "--pty", "--ranks=2", "-O", f"{tmp_path}/%r", "n4", "/bin/sh", "-c", "echo x; tty >&2")
    assert result.returncode == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["x\n", "x\n"]


def test_a_file_that_cannot_be_opened_is_named_as_it_would_be(shared: Cluster) -> None:
    result = shared.run("bpsh", "-O", "/no/%n/%r", "n3", "/bin/true")
    assert result.returncode == 126
    assert result.stderr == b"bpsh: n3 (rank 0): cannot write to /no/n3/0: No such file or directory\n"


def test_a_pattern_that_means_nothing_starts_nothing(shared: Cluster) -> None:
    result = shared.run("bpsh", "-O", "out.%t", "n3", "/bin/true")
    assert result.returncode == 2
    assert (
        b"'%t' in 'out.%t' means nothing; there are %r (rank), %n (node, such as n3), %j (job) and %%" in result.stderr
    )


def test_the_library_has_the_same(shared: Cluster, tmp_path: Path) -> None:
    with heorot.connect(shared.directory) as cluster:
        done = cluster.run(["/bin/sh", "-c", "echo $HEOROT_LOCAL_RANK"], "n[0-1]", ranks=3)
        assert done.stdout == [b"0\n", b"1\n", b"0\n"]
        cluster.run(["/bin/echo", "hi"], "n[0-1]", ranks_per_node=2, stdout=f"{tmp_path}/%r.%n").check()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.n0", "1.n0", "2.n1", "3.n1"]
        with pytest.raises(ValueError, match="'%q' in 'x%q' means nothing"):
            cluster.spawn(["true"], "n0", stdout="x%q")
        with pytest.raises(ValueError, match="must be 0 or more"):
            cluster.spawn(["true"], "n0", ranks=-1)


def test_the_asynchronous_library_has_the_same(shared: Cluster) -> None:
    async def run() -> list[bytes]:
        async with heorot.aio.connect(shared.directory) as cluster:
            return (await cluster.run(["/bin/sh", "-c", "echo $HEOROT_NODE"], "n[0-1]", ranks=3)).stdout

    assert asyncio.run(run()) == [b"0\n", b"0\n", b"1\n"]


def test_a_copy_from_many_nodes_names_the_node_where_it_is_told_to(shared: Cluster, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        (tmp_path / node).mkdir()
    (tmp_path / "file").write_text("x\n")
    assert shared.check("bpcp", f"n[1-2]:{tmp_path}/file", f"{tmp_path}/%n/100%%") == b""
    assert [(tmp_path / node / "100%").read_text() for node in ("n1", "n2")] == ["x\n", "x\n"]
    refused = shared.run("bpcp", f"n[1-2]:{tmp_path}/file", f"{tmp_path}/%r")
    assert refused.returncode != 0
    assert b"'%r' in " in refused.stderr
    assert b"there are %n" in refused.stderr
