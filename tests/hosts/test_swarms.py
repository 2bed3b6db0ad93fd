"""Nodes on hosts of their own have a program from each other, in two trees, and from above when a peer is of no use."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import Host, Network, environment, eventually
from tests.hosts.test_many_hosts import add_nodes, make_head
from tests.support.commands import command as argv_of

pytestmark = pytest.mark.slow

NODES = 7
SIZE = 3_000_000
SLOW = "rate 16mbit burst 64kb limit 1mb"
"""A program takes some seconds."""


class Slow:
    """Seven nodes, all below the head, that have images from each other as soon as that is any better."""

    def __init__(self, network: Network) -> None:
        self.network = network
        settings = "\n[images]\nswarm_gain_ms = 0\n"
        self.head = make_head(network, settings, link_timeout_ms=60_000, node_grace_ms=60_000)
        names = [f"h{number}" for number in range(NODES)]
        self.nodes = add_nodes(network, self.head, *names, settings=settings, link_timeout_ms=60_000)
        for host in network.hosts.values():
            command = f"tc -n {host.namespace} qdisc add dev eth0 root tbf {SLOW}"
            subprocess.run(command.split(), check=True, env=environment(sbin=True))
        # The libraries; and from now on all know how fast the links are.
        assert_all_ran(self.start(Path("/bin/echo")))

    def start(self, program: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*argv_of("bpsh"), "-a", "--image", "send", str(program), "here"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(HEOROT_DIR=str(self.head.directory)),
        )


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    """For tests that start no daemon and leave all of them as they were."""
    with Network(tmp_path_factory.mktemp("swarm")) as network:
        yield Slow(network)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Slow]:
    with Network(tmp_path) as network:
        yield Slow(network)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(Path("/bin/echo").read_bytes() + os.urandom(SIZE))
    path.chmod(0o755)
    return path


def sent_bytes(host: Host) -> int:
    command = [*host.prefix, "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
    return int(subprocess.run(command, check=True, capture_output=True, env=environment(sbin=True)).stdout)


def assert_all_ran(process: subprocess.Popen[str]) -> None:
    output, errors = process.communicate(timeout=150)
    assert (output, errors, process.returncode) == ("here\n" * NODES, "", 0)


def incomplete(node: Host) -> list[Path]:
    return list(node.directory.glob("nodes/*/images/partial/*"))


def await_start(node: Host) -> None:
    eventually("the program is on its way", lambda: incomplete(node))


def test_nobody_sends_a_program_much_more_often_than_once(slow: Slow, program: Path) -> None:
    hosts = [slow.head, *slow.nodes]
    before = [sent_bytes(host) for host in hosts]
    assert_all_ran(slow.start(program))
    sent = [(sent_bytes(host) - earlier) / SIZE for host, earlier in zip(hosts, before, strict=True)]
    # The head would have sent it seven times, and all others nothing.
    assert max(sent) < 2
    assert sum(sent) > NODES


def test_a_peer_that_stops_in_the_middle_is_left(slow: Slow, program: Path) -> None:
    stopped = slow.nodes[3]
    pid = stopped.daemons["bpnode"].pid
    with slow.start(program) as process:
        await_start(stopped)
        os.kill(pid, signal.SIGSTOP)
        try:
            others = [node for node in slow.nodes if node is not stopped]
            eventually("all others have it", lambda: not any(map(incomplete, others)))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert_all_ran(process)


def test_a_peer_that_cannot_be_reached_is_not_needed(slow: Slow, program: Path) -> None:
    for node in slow.nodes:
        slow.network.cut(node, [other for other in slow.nodes if other is not node])
    try:
        assert_all_ran(slow.start(program))
    finally:
        for node in slow.nodes:
            slow.network.mend(node, [other for other in slow.nodes if other is not node])


def test_a_peer_whose_agent_dies_costs_no_rank(own: Slow, program: Path) -> None:
    with own.start(program) as process:
        for node in (own.nodes[3], own.nodes[0]):
            await_start(node)
            node.end("bpnode", kill=True)
            node.start("bpnode")
        assert_all_ran(process)
    assert not any(map(incomplete, own.nodes))
