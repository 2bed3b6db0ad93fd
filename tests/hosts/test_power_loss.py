"""A host without power, and a process that sleeps: the one is noticed by its kernel, the other is not taken for it.

How long a process sleeps is measured by a connection of the kernel alone, which is given up after a known time. How
soon a lost host is noticed is not asserted, for the machine may be busy (docs/benchmarks.md has what was measured); but
heartbeats are so rare here that nobody could notice it by them before the tests give up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.hosts.hosts import DEADLINE_S, Host, Network, environment, eventually, status_of
from tests.hosts.test_many_hosts import join, make_token, states
from tests.support.commands import command as argv_of

pytestmark = pytest.mark.slow

Tree: TypeAlias = tuple[Network, Host, list[Host]]
TIMERS = {"heartbeat_ms": 120_000, "link_timeout_ms": 360_000}
"""So that no link is ended because its other end says nothing."""
assert TIMERS["link_timeout_ms"] > 2_000 * DEADLINE_S
AWHILE_S = 6
REFERENCE = """
import socket, sys
host, port, limit_s, size = sys.argv[1], *map(int, sys.argv[2:])
with socket.create_connection((host, port)) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_s * 1000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    print("connected", flush=True)
    try:
        sock.sendall(bytes(size))
        sock.recv(1)
    except TimeoutError:
        print("given up", flush=True)
"""
DEAF = """
import socket, time
with socket.create_server(("", 7999)) as server:
    print("there", flush=True)
    taken = server.accept()
    time.sleep(600)
"""


@contextmanager
def python_on(host: Host, program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program of a few lines on a host; it says a word when it is ready."""
    command = [*host.prefix, sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(sbin=True)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A head with n0 and n1 below it, and n2 below n0; each on a host of its own."""
    with Network(tmp_path_factory.mktemp("hosts")) as network:
        head = network.host("head")
        done = head.run(
            "heorot", "head", "init", "--dir", head.directory, "--listen", f"{head.address}:7733", "--config",
            head.config, "--socket", head.directory / "head.sock",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        head.config.write_text(head.config.read_text().replace("[tree]\n", "[tree]\nfanout = 2\n", 1))
        head.set_timers(**TIMERS)
        head.start("bphead")
        eventually("the head serves", lambda: status_of(head))
        nodes = [network.host(f"h{number}") for number in range(3)]
        token = make_token(head, "--uses", len(nodes))
        for node in nodes:
            status, text = join(node, head, token)
            assert status == 0, text
            node.set_timers(**TIMERS)
            node.start("bpinit")
            node.start("bpnode")
        eventually("all nodes are up", lambda: list(states(head).values()) == ["up"] * len(nodes))
        eventually("they are a tree", lambda: parents(head) == [-1, -1, 0])
        yield network, head, nodes


def parents(head: Host) -> list[int]:
    return [node["parent"] for node in status_of(head).get("nodes", [])]


def ranks(head: Host, job: str) -> tuple[int, int]:
    """Return how many ranks run, and how many are lost."""
    done = head.run("bpjob", "show", job, "--json", HEOROT_DIR=str(head.directory))
    shown = json.loads(done.stdout) if done.returncode == 0 else {}
    return shown.get("running", 0), shown.get("lost", 0)


def pids_of(host: Host) -> list[int]:
    """Return a host's daemons, and what they have started."""
    found = [daemon.pid for daemon in host.daemons.values()]
    for pid in found:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found += map(int, file.read().split())
    return found


def test_a_process_that_sleeps_is_not_taken_for_a_host_without_power(tree: Tree, tmp_path: Path) -> None:
    _, head, nodes = tree
    first = nodes[0]
    before = [host.logs().count("is gone") for host in (head, *nodes)]
    content, copy, gate = tmp_path / "content", first.directory / "copy", tmp_path / "gate"
    content.write_bytes(os.urandom(1 << 20) * 4)
    os.mkfifo(gate)
    sleepers = pids_of(first)
    with (
        python_on(first, DEAF),
        subprocess.Popen(["sh", "-c", f"read line < {gate}; cat {content}"], stdout=subprocess.PIPE) as source,
        subprocess.Popen(
            [*argv_of("bpsh"), "n0", "sh", "-c", f"cat > {copy}"],
            stdin=source.stdout,
            stderr=subprocess.PIPE,
            env=environment(HEOROT_DIR=str(head.directory)),
        ) as bpsh,
    ):
        try:
            eventually("the file is open", copy.exists)
            for pid in sleepers:
                os.kill(pid, signal.SIGSTOP)
            gate.write_text("go\n")
            # Neither end is read any more; the kernel itself takes that for a lost host after a while.
            with python_on(head, REFERENCE, first.address, 7999, AWHILE_S, 1 << 26) as reference:
                assert reference.stdout is not None
                assert reference.stdout.readline() == "given up\n"
        finally:
            for pid in sleepers:
                os.kill(pid, signal.SIGCONT)
        _, said = bpsh.communicate(timeout=DEADLINE_S)
        assert (bpsh.returncode, said) == (0, b"")
    assert copy.read_bytes() == content.read_bytes()
    assert [host.logs().count("is gone") for host in (head, *nodes)] == before


def test_a_host_without_power_is_noticed_above_and_below_it(tree: Tree) -> None:
    network, head, (first, _, below) = tree
    where = str(head.directory)
    there = {"HEOROT_DIR": where}
    job = head.run("bpsh", "--detach", "-a", "sleep", "600", **there).stdout.strip()
    eventually("the job runs", lambda: ranks(head, job) == (3, 0))
    network.unplug(first)
    # On the link above there is something now that is not acknowledged; the one below is idle.
    asked = [*argv_of("bpsh"), "n0", "true"]
    with subprocess.Popen(asked, stderr=subprocess.DEVNULL, env=environment(HEOROT_DIR=where)) as unanswered:
        eventually("the head notices", lambda: "the link to n0 is gone (" in head.logs())
        eventually("the node below notices", lambda: "the link to n0 is gone: " in below.logs())
        assert unanswered.wait(DEADLINE_S) == 255
    eventually("only its own rank is lost", lambda: ranks(head, job) == (2, 1))
    assert states(head) == {"n0": "down", "n1": "up", "n2": "up"}
    assert parents(head)[1:] == [-1, -1]
    assert head.run("bpsh", "n[1-2]", "echo", "here", **there).stdout == "here\n" * 2
