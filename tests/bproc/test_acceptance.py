"""BProc's own tests as a list of what has to hold, as far as ranks are children: over every placement on nodes.

The names in brackets are those of BProc's tests. What needs a process that moves, a parent on a node, or groups across
nodes is not here.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot import RankEvent, Status, bproc
from tests.support.local_cluster import DEADLINE_S, LocalCluster, eventually

NODES = [0, 1, 2]
PAIRS = [(0, 0), (0, 1), (1, 0), (2, 1), (2, 2)]
INVALID = 99
TURNS = 8
placed = pytest.mark.parametrize("node", NODES)
pairs = pytest.mark.parametrize("pair", PAIRS, ids=str)


@placed
def test_the_end_of_a_child_is_told_with_its_pid_and_status_once(library: heorot.Cluster, node: int) -> None:
    """A1 (rfork): the parent's wait gives this PID, this status, once."""
    with library.spawn(["sh", "-c", "echo $$; exit 123"], node) as job:
        (child,) = job.ranks
        assert child.wait(DEADLINE_S) == Status(123)
        chunk = job.read(DEADLINE_S)
        assert chunk is not None
        # As root the PID that it sees is the one of the cluster; else that of the host, which is the same.
        assert int(chunk.data) == child.pid
        assert job.read(DEADLINE_S) is None
        assert job.wait() == [Status(123)]
        assert child.wait_event(0) == RankEvent(status=Status(123))


@placed
def test_a_detached_child_is_waited_for_by_its_job(library: heorot.Cluster, node: int) -> None:
    """A1 (rfork), forked twice."""
    job = library.spawn(["sh", "-c", "exit 123"], node, detached=True, stdout=heorot.DEVNULL, stderr=heorot.DEVNULL)
    assert library.wait(job.id, DEADLINE_S)["statuses"] == {"0": {"code": 123}}
    with library.attach(job.id) as joined:
        assert joined.wait() == [Status(123)]


def test_on_an_invalid_node_no_child_is_made(library: heorot.Cluster) -> None:
    """A2 (rfork): negative, no child, and nothing is told of one."""
    before = library.jobs()
    with pytest.raises(heorot.RequestError, match="there is no node n99") as caught:
        library.spawn(["true"], INVALID)
    assert caught.value.code == "bad-nodes"
    with pytest.raises(heorot.RequestError):
        library.spawn(["true"], [0, INVALID, 1])
    assert library.jobs() == before
    assert library.processes() == []


@pairs
def test_children_are_waited_for_one_by_one_in_any_order(
    library: heorot.Cluster, tmp_path: Path, pair: tuple[int, int]
) -> None:
    """A8 (wait1, wait2): right PID and status each, none twice, and no child at the end."""
    script = f"until [ -e {tmp_path}/$BPROC_RANK ]; do sleep 0.01; done; exit $((0$BPROC_RANK + 20))"
    with library.spawn(["sh", "-c", script], pair) as job:
        elder, younger = job.ranks
        pids = job.wait_started(DEADLINE_S)
        assert len(set(pids.values())) == 2
        assert [elder.node, younger.node] == list(pair)
        (tmp_path / "0000001").touch()
        assert younger.wait(DEADLINE_S) == Status(21)
        assert elder.status is None
        with pytest.raises(TimeoutError):
            elder.wait(0)
        (tmp_path / "0000000").touch()
        assert elder.wait(DEADLINE_S) == Status(20)
        assert [elder.pid, younger.pid] == [pids[0], pids[1]]
        assert job.wait(DEADLINE_S) == [Status(20), Status(21)]
        assert job.kill() == 0, "there is no child any more"


@placed
def test_a_child_that_stops_by_itself_is_told_of_again_and_again(library: heorot.Cluster, node: int) -> None:
    """A9 (wait3, child-stop-continue): wait(UNTRACED) tells; CONT; and at last wait tells the exit."""
    turns = f"i=0; while [ $i -lt {TURNS} ]; do kill -STOP $$; i=$((i+1)); done; exit 9"
    with library.spawn(["sh", "-c", turns], node) as job:
        (child,) = job.ranks
        stops = 0
        while (event := child.wait_event(DEADLINE_S)).status is None:
            if event.stopped_by:
                assert event.stopped_by == signal.SIGSTOP
                stops += 1
                assert child.signal(signal.SIGCONT) == 1
        assert event == RankEvent(status=Status(9))
        assert stops == TURNS


@pairs
def test_children_that_are_stopped_and_let_go_on_are_told_of_each_by_itself(
    library: heorot.Cluster, pair: tuple[int, int]
) -> None:
    """A9, by a signal."""
    with library.spawn(["sleep", "1000"], pair) as job:
        job.wait_started(DEADLINE_S)
        for _ in range(TURNS // 2):
            for child in job.ranks:
                child.signal(signal.SIGSTOP)
                assert child.wait_event(DEADLINE_S).stopped_by == signal.SIGSTOP
            for child in reversed(job.ranks):
                child.signal(signal.SIGCONT)
                assert child.wait_event(DEADLINE_S).continued
        for child in job.ranks:
            child.kill()
            assert child.wait(DEADLINE_S) == Status(signal=signal.SIGKILL)


def test_one_launch_makes_children_on_all_nodes_duplicates_and_all(library: heorot.Cluster) -> None:
    """A15 (vrfork): shuffled five times; a PID for each, kill and wait for each."""
    chance = random.Random(5)
    nodes = [*NODES, *NODES, 1]
    for _ in range(5):
        chance.shuffle(nodes)
        with library.spawn(["sleep", "1000"], nodes) as job:
            pids = job.wait_started(DEADLINE_S)
            assert len(set(pids.values())) == len(nodes)
            assert [rank.node for rank in job.ranks] == nodes
            found = {row["pid"]: row["node"] for row in job.processes()}
            assert found == {pids[rank]: node for rank, node in enumerate(nodes)}
            for child in chance.sample(list(job.ranks), len(nodes)):
                assert child.signal(signal.SIGTERM) == 1
                assert child.wait(DEADLINE_S) == Status(signal=signal.SIGTERM)
            assert job.wait(DEADLINE_S) == [Status(signal=signal.SIGTERM)] * len(nodes)


def test_children_at_random_nodes_say_hello_and_are_awaited_turn_after_turn(library: heorot.Cluster) -> None:
    """A16 (stress): no child is lost."""
    chance = random.Random(16)
    for turn in range(TURNS):
        nodes = [chance.choice(NODES) for _ in range(chance.randint(1, 12))]
        done = library.run(["sh", "-c", f"echo hello {turn} $BPROC_RANK; exit {turn}"], nodes)
        assert done.stdout == [b"hello %d %07d\n" % (turn, rank) for rank in range(len(nodes))]
        assert done.statuses == [Status(turn)] * len(nodes)


FORKS = """
import errno, os, resource, time
if os.getuid() == 0:
    os.setuid(54_000 + int(os.environ["HEOROT_NODE"]))
resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except BlockingIOError as error:
    print(errno.errorcode[error.errno], children < 20, flush=True)
"""


@placed
def test_a_child_that_forks_until_it_fails_hears_why_and_all_end_with_it(library: heorot.Cluster, node: int) -> None:
    """A17 (rfork-fork): EAGAIN comes back, nothing hangs."""
    done = library.run([sys.executable, "-c", FORKS], node)
    assert done.stdout == [b"EAGAIN True\n"], done
    assert done.statuses == [Status(0)]
    eventually(lambda: library.processes() == [], "all that it has forked to end")


REPLACED = """
import os, sys
from heorot import bproc
print(os.getpid(), flush=True)
bproc.use(sys.argv[1])
bproc.rexec(int(sys.argv[2]), sys.argv[3], ["ignored", "one", "two words"], {"ONLY": "this", "PATH": "/usr/bin:/bin"})
"""


@placed
def test_a_process_is_replaced_by_one_on_a_node_under_its_own_pid(
    cluster: LocalCluster, tmp_path: Path, node: int
) -> None:
    """A21 (rexectest): the node's own file, with given arguments and environment; PID kept."""
    path = tmp_path / "there"
    path.write_text('#!/bin/sh\nread line\necho "$HEOROT_NODE|$line|$#|$1|$2|$ONLY|$HOME"\nexit 34\n')
    path.chmod(0o755)
    words = [sys.executable, "-c", REPLACED, str(cluster.directory), str(node), str(path)]
    with subprocess.Popen(
        words, env=cluster.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        output, errors = process.communicate(b"input\n", DEADLINE_S)
    assert (process.returncode, errors) == (34, b"")
    assert output.decode().splitlines() == [str(process.pid), f"{node}|input|2|one|two words|this|"]


ABOUT = """
from heorot import bproc
print(bproc.currnode(), bproc.numnodes(), *bproc.nodeaddr(bproc.NODE_SELF), bproc.nodestatus(bproc.NODE_MASTER))
"""


def test_each_node_knows_its_number_its_address_and_how_many_there_are(
    cluster: LocalCluster, library: heorot.Cluster
) -> None:
    """A22 (test-config), on a cluster whose nodes see its directory."""
    done = library.run([sys.executable, "-c", ABOUT], "up", environment=cluster.environment)
    addresses = [bproc.nodeaddr(node) for node in NODES]
    assert done.stderr == [b""] * 3
    assert [line.decode().split() for line in done.stdout] == [
        [str(node), "3", host, str(port), "up"] for node, (host, port) in enumerate(addresses)
    ]


def test_the_time_that_children_have_used_is_seen_while_they_run_and_afterwards(library: heorot.Cluster) -> None:
    """A23 (cputest): spin, and sleep."""
    script = "[ $BPROC_RANK = 0000000 ] && while :; do :; done; exec sleep 1000"
    with library.spawn(["sh", "-c", script], [1, 2]) as job:
        pids = job.wait_started(DEADLINE_S)

        def used_ms(rank: int) -> int:
            return next(int(row["user_time_ms"]) for row in job.processes() if row["pid"] == pids[rank])

        eventually(lambda: used_ms(0) >= 200, "the one that spins to use time")
        before_ms = used_ms(0)
        eventually(lambda: used_ms(0) > before_ms, "it to go on using time")
        job.kill()
        for child in job.ranks:
            assert child.wait(DEADLINE_S).signal == signal.SIGKILL
        spun, slept = (child.used for child in job.ranks)
        assert spun is not None
        assert slept is not None
        assert spun.cpu_time_ms >= 200 > slept.cpu_time_ms


def test_after_each_step_the_head_knows_how_many_children_there_are(library: heorot.Cluster) -> None:
    """A25: the books are right."""

    def books(wanted: dict[str, Any]) -> Callable[[], bool]:
        return lambda: {key: library.job(job.id)[key] for key in wanted} == wanted

    began = time.time()
    with library.spawn(["sleep", "1000"], [0, 1, 1, 2]) as job:
        pids = job.wait_started(DEADLINE_S)
        known = {str(rank): pid for rank, pid in pids.items()}
        eventually(books({"running": 4, "exited": 0, "pids": known, "rank_nodes": [0, 1, 1, 2]}), "four children")
        assert abs(library.job(job.id)["started_at_ms"] / 1000 - began) < DEADLINE_S
        job.ranks[2].signal(signal.SIGSTOP)
        eventually(books({"running": 4, "stopped": {"2": int(signal.SIGSTOP)}}), "one is stopped")
        assert sorted(row["pid"] for row in library.processes(1)) == sorted([pids[1], pids[2]])
        for gone, rank in enumerate((2, 0, 3, 1), 1):
            job.ranks[rank].kill()
            assert job.ranks[rank].wait(DEADLINE_S).signal == signal.SIGKILL
            eventually(books({"running": 4 - gone, "exited": gone, "stopped": {}}), "one child less")
            assert pids[rank] not in {row["pid"] for row in library.processes()}
        assert library.job(job.id)["state"] == "done"
