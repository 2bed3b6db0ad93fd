"""Interior nodes that die in the middle of a launch or a broadcast, at each level of the tree.

The node that is to die is stopped first, so that what is on its way through it stays there until it is killed.
"""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from heorot.core.tree.shape import is_ancestor, parent_of
from tests.cluster.harness import DEADLINE_S, Cluster, Running, await_that, cluster, host_pids, kill_hard

NODES, FANOUT = 14, 2
"""n0 has n2 and n3 below it, n2 has n6 and n7; n1 has n4 and n5, n4 has n10 and n11."""
AT_EACH_LEVEL = pytest.mark.parametrize("victims", [[0], [2], [0, 2]], ids=str)
BEGIN = 'echo $BPROC_RANK >>"$0"; echo $BPROC_RANK'
END = "exit ${BPROC_RANK#??????}"
FAILED = re.compile(r"bpsh: n\S+(?: \(rank \d+\))?: exit status (\d)")


class Tree:
    """A cluster in which every rank counts itself."""

    def __init__(self, made: Cluster, place: Path) -> None:
        self.cluster = made
        self.log = place / uuid.uuid4().hex
        self.log.touch()
        self.gate = place / f"{self.log.name}.gate"
        os.mkfifo(self.gate)

    def launch(self, script: str, *options: str, program: str = "/bin/sh") -> Running:
        """Start `script` on all nodes; its last argument marks its processes."""
        return self.cluster.start("bpsh", "-a", "-p", *options, program, "-c", script, str(self.log))

    def started(self) -> list[int]:
        """The ranks that have begun, as often as they have."""
        return sorted(map(int, self.log.read_text().split()))

    def await_started(self, ranks: list[int]) -> None:
        await_that(lambda: self.started() == ranks, f"ranks {ranks} started; {self.started()} have")

    def await_whole(self) -> None:
        """Wait until every node is up and where it belongs."""

        def is_whole() -> bool:
            nodes = self.cluster.status()["nodes"]
            return all(node["state"] == "up" and node["parent"] == parent_of(node["id"], FANOUT) for node in nodes)

        await_that(is_whole, "every node in its place")

    @contextmanager
    def stopped(self, numbers: list[int]) -> Iterator[list[int]]:
        """Stop the agents of these nodes, and give their PIDs; they go on if nobody has killed them."""
        agents = [self.cluster.node(number)["agent_pid"] for number in numbers]
        for pid in agents:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield agents
        except BaseException:
            for pid in agents:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            raise

    def check(self, process: Running, lost: Set[int] = frozenset()) -> None:
        """Every rank has begun once, was heard once and has its own status; those of `lost` nodes have not begun."""
        output, errors = process.communicate(timeout=DEADLINE_S)
        living = [rank for rank in range(NODES) if rank not in lost]
        assert self.started() == living
        assert sorted(output.splitlines()) == [b"%3d: %07d" % (rank, rank) for rank in living]
        (job, *_) = [job["job"] for job in self.cluster.jobs() if str(self.log) in job["argv"]]
        statuses = self.cluster.job(job)["statuses"]
        assert {rank: statuses[str(rank)] for rank in living} == {rank: {"code": rank % 10} for rank in living}
        assert all("lost" in statuses[str(rank)] for rank in lost)
        assert process.returncode == (255 if lost else 9)
        said = errors.decode().splitlines()
        assert sum("the node was lost" in line for line in said) == len(lost), errors
        # Of the living ones it says who has failed, once for each status.
        failed = [FAILED.fullmatch(line) for line in said if "the node was lost" not in line]
        assert None not in failed, errors
        assert sorted(int(match[1]) for match in failed if match) == sorted({rank % 10 for rank in living} - {0}), (
            errors
        )
        assert not host_pids(str(self.log))


@pytest.fixture(scope="module")
def three_levels() -> Iterator[Cluster]:
    with cluster(NODES, "--fanout", str(FANOUT)) as made:
        yield made


@pytest.fixture
def tree(three_levels: Cluster, tmp_path: Path) -> Tree:
    made = Tree(three_levels, tmp_path)
    made.await_whole()
    return made


def outside(victims: list[int]) -> list[int]:
    """The ranks that a launch reaches while these nodes pass nothing on."""
    return [rank for rank in range(NODES) if not any(is_ancestor(victim, rank, FANOUT) for victim in victims)]


@AT_EACH_LEVEL
def test_agents_that_die_with_a_launch_in_their_hands_cost_no_rank(tree: Tree, victims: list[int]) -> None:
    with tree.stopped(victims) as agents, tree.launch(f"{BEGIN}; {END}") as process:
        tree.await_started(outside(victims))
        for pid in agents:
            kill_hard(pid)
        tree.check(process)


@AT_EACH_LEVEL
def test_agents_that_die_with_ends_of_ranks_in_their_hands_lose_none(tree: Tree, victims: list[int]) -> None:
    with tree.launch(f'{BEGIN}; read line <"$0.gate"; {END}') as process:
        tree.await_started(list(range(NODES)))
        with tree.stopped(victims) as agents:
            gate = os.open(tree.gate, os.O_RDWR)
            try:
                os.write(gate, b"\n" * NODES)
                await_that(lambda: not host_pids(str(tree.log)), "all ranks over")
            finally:
                os.close(gate)
            for pid in agents:
                kill_hard(pid)
        tree.check(process)


def test_nodes_that_die_at_each_level_lose_their_own_ranks_alone(tree: Tree) -> None:
    victims = [0, 4]
    inits = [tree.cluster.node(number)["init_pid"] for number in victims]
    with tree.stopped(victims) as agents, tree.launch(f"{BEGIN}; {END}") as process:
        tree.await_started(outside(victims))
        for pid in [*inits, *agents]:
            kill_hard(pid)
        tree.check(process, lost=set(victims))
    tree.cluster.check("heorot", "node", "start", *(f"n{number}" for number in victims))


def make_program(place: Path, name: str) -> Path:
    """A shell that no node has seen, of 8 MB."""
    program = place / name
    program.write_bytes(Path("/bin/sh").read_bytes() + os.urandom(8_000_000))
    program.chmod(0o755)
    return program


def cached_blocks(tree: Tree, number: int) -> int:
    """How much of the disk a node's cache takes."""
    return sum(file.st_blocks for file in tree.cluster.files_in(f"nodes/n{number}/images/*/*"))


@pytest.mark.skipif(os.getuid() != 0, reason="a program that is sent is shown in a mount namespace, which needs root")
def test_a_broadcast_goes_on_when_an_agent_and_a_node_of_two_levels_die(tree: Tree, tmp_path: Path) -> None:
    dead = 4
    program = make_program(tmp_path, "program")
    agent, init = tree.cluster.node(0)["agent_pid"], tree.cluster.node(dead)["init_pid"]
    before = cached_blocks(tree, 0)
    with (
        tree.stopped([dead]) as agents,
        tree.launch(f"{BEGIN}; {END}", "--image", "send", program=str(program)) as process,
    ):
        await_that(lambda: cached_blocks(tree, 0) > before + 1_000, "a part of the program on n0")
        for pid in [agent, init, *agents]:
            kill_hard(pid)
        tree.check(process, lost={dead})
    tree.cluster.check("heorot", "node", "start", f"n{dead}")
