"""Heads on hosts of their own, which agree through etcd: the one on standby passes its clients on, and takes over when
the active one's host is lost.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hosts.hosts import (
    DEADLINE_S,
    HEAD_TIMERS,
    NODE_TIMERS,
    Host,
    Network,
    environment,
    etcd_on,
    eventually,
    status_of,
)
from tests.hosts.test_many_hosts import add_nodes, join, make_token, states
from tests.support.commands import command as argv_of
from tests.support.etcd import Etcd

pytestmark = pytest.mark.slow

UP = {"n0": "up", "n1": "up", "n2": "up"}


class Heads:
    """Two hosts with a head each, and a third one with the third member of etcd."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.first = network.host("head")
        self.second = network.host("head2")
        self.second.config = self.second.directory / "head.toml"
        self.third = network.host("third")

    def begin(self, members: Etcd) -> None:
        """Make the cluster: h0 is the active head, h1 on standby, and three nodes know both."""
        first, second = self.first, self.second
        done = first.run(
            "heorot", "head", "init", "--dir", first.directory, "--listen", f"{first.address}:7733",
            "--config", first.config, "--socket", first.directory / "head.sock",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        first.set_timers(**HEAD_TIMERS)
        urls = ", ".join(f'"{url}"' for url in members.urls)
        # The tests say which head leads: it is to be lost when they kill it, and not when the machine is busy for 2 s.
        store = f'[store]\nkind = "etcd"\nlease_ms = 4000\nendpoints = [{urls}]\n'
        first.config.write_text(first.config.read_text().replace("[store]\n", store))
        first.start("bphead")
        eventually("the first head serves", lambda: status_of(first))
        self.add_second()
        add_nodes(self.network, first, "one", "two", "three")
        eventually("the second host passes on", lambda: states(second) == UP)

    def add_second(self) -> None:
        """Make the second host a head as well, with the documented commands."""
        first, second = self.first, self.second
        bundle = second.directory / "bundle"
        done = first.run(
            "heorot", "head", "add", "h1", "--address", second.address, "--config", first.config, "--output", bundle
        )
        assert (done.returncode, done.stderr) == (0, "")
        done = second.run(
            "heorot", "head", "join", bundle, "--listen", f"{second.address}:7733", "--dir", second.directory,
            "--config", second.config, "--socket", second.directory / "head.sock",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        second.start("bphead")
        eventually("the second head stands by", lambda: roles(first) == {"h0": "active", "h1": "standby"})
        # So that nodes which join hear of both.
        first.end("bphead")
        first.start("bphead")
        eventually("the other head has taken over", lambda: roles(first) == {"h0": "standby", "h1": "active"})
        done = second.run("heorot", "head", "switch", "--dir", second.directory)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("h0 is the active head, epoch 3, ")


@pytest.fixture
def heads(tmp_path: Path) -> Iterator[Heads]:
    with Network(tmp_path) as network:
        heads = Heads(network)
        with etcd_on(heads.first, heads.second, heads.third) as members:
            heads.begin(members)
            yield heads
            network.end_daemons()


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def roles(host: Host) -> dict[str, str]:
    return {head["name"]: head["role"] for head in status_of(host).get("heads", [])}


def test_commands_on_a_standby_host_run_everywhere_and_go_on_there_when_it_takes_over(heads: Heads) -> None:
    first, second = heads.first, heads.second
    there = {"HEOROT_DIR": str(second.directory)}
    assert roles(second) == {"h0": "active", "h1": "standby"}
    done = second.run("bpsh", "-a", "id", "-u", **there)
    assert (done.returncode, done.stdout.split()) == (0, ["0"] * 3)
    # Input, output and the exit status take the same way.
    done = second.run("bpsh", "n1", "sh", "-c", "cat; exit 7", stdin="x" * 3_000_000, **there)
    assert (done.returncode, done.stdout) == (7, "x" * 3_000_000)
    started = second.run("bpsh", "--detach", "-a", "sleep", "600", **there)
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    done = second.run("heorot", "node", "drain", "n2", "--reason", "fan", **there)
    assert (done.returncode, done.stdout) == (
        0,
        "n2 is drained: nothing is started there any more; 1 rank goes on there\n",
    ), done.stderr
    # What is acknowledged, the next head knows, however soon after it comes.
    first.end("bphead", kill=True)
    drained = {**UP, "n2": "drain"}
    eventually(
        "the nodes are at the second head", lambda: states(second) == drained and status_of(second)["epoch"] >= 2
    )
    done = second.run("bpsh", "n2", "true", **there)
    assert (done.returncode, done.stderr) == (
        125,
        "bpsh: n2 is set to drain (by root: fan); 'bpstat -l' shows it\n",
    )
    assert second.run("heorot", "node", "resume", "n2", **there).returncode == 0
    assert roles(second)["h1"] == "active"
    # What passed this host's clients on has ended: the keeper has the head alone.
    assert len(children(second.daemons["bphead"].pid)) == 1
    done = second.run("bpsh", "-a", "echo", "again", **there)
    assert (done.returncode, done.stdout.split()) == (0, ["again"] * 3), done.stderr
    # The first host's head comes back on standby: its clients are passed on to the second.
    first.start("bphead")
    eventually("the first host passes on", lambda: states(first) == UP)
    done = first.run("bpjob", "kill", job, HEOROT_DIR=str(first.directory))
    assert done.returncode == 0, done.stderr


def test_a_head_whose_lease_is_gone_and_whose_links_are_well_ends_when_its_successor_speaks(heads: Heads) -> None:
    first, second = heads.first, heads.second
    before = status_of(second)["epoch"]
    keeper = first.daemons["bphead"]
    # Stopped, it neither renews the lease nor learns that it is gone; its head and all links go on.
    keeper.send_signal(signal.SIGSTOP)
    try:
        eventually(
            "the nodes are at the other head", lambda: states(second) == UP and status_of(second)["epoch"] > before
        )
        done = second.run("bpsh", "-a", "echo", "here", HEOROT_DIR=str(second.directory))
        assert (done.returncode, done.stdout.split()) == (0, ["here"] * 3), done.stderr
        assert f"the head ends: another head leads, in epoch {before + 1}" in first.logs()
    finally:
        keeper.send_signal(signal.SIGCONT)
    eventually("the first host is on standby", lambda: roles(first) == {"h0": "standby", "h1": "active"})


def joined(head: Host) -> list[int]:
    """Return the numbers of the nodes in the registry of a head's host."""
    done = head.run("heorot", "node", "list", "--dir", head.directory, "--json")
    assert done.returncode == 0, done.stderr
    return [node["id"] for node in json.loads(done.stdout)]


def uses_left(head: Host) -> list[int]:
    """Return how often each token that a head's host knows can be used, the oldest first."""
    done = head.run("heorot", "token", "list", "--dir", head.directory, "--json")
    assert done.returncode == 0, done.stderr
    return [token["uses_left"] for token in json.loads(done.stdout)]


COUNTING = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.05; done; cat; exit 5"
"""For longer than it takes to notice that a host is lost, and to elect another head."""
COUNTED = "".join(f"{number}\n" for number in range(300))


def test_the_active_head_s_host_vanishes_and_jobs_and_commands_go_on(heads: Heads, tmp_path: Path) -> None:
    first, second, network = heads.first, heads.second, heads.network
    here, there = {"HEOROT_DIR": str(first.directory)}, {"HEOROT_DIR": str(second.directory)}
    token = make_token(first)
    eventually("the other head's host has the token", lambda: uses_left(second) == [0, 1])
    started = first.run("bpsh", "--detach", "n0", "sh", "-c", COUNTING, **here)
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    output = tmp_path / "output"
    with open(output, "wb") as file:
        command = subprocess.Popen(
            [*second.prefix, *argv_of("bpsh"), "n1", "sh", "-c", COUNTING],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.PIPE,
            env=environment(sbin=True, **there),
        )
    with command:
        try:
            eventually("the command writes", lambda: output.read_bytes().count(b"\n") > 10)
            before = status_of(second)["epoch"]
            network.unplug(first)
            eventually("the other host takes over", lambda: roles(second).get("h1") == "active")
            assert status_of(second)["epoch"] == before + 1
            eventually("the nodes have come", lambda: states(second) == UP)
            done = second.run("bpsh", "-a", "echo", "again", **there)
            assert (done.returncode, done.stdout.split()) == (0, ["again"] * 3), done.stderr
            # The former head hears nobody, does not know who leads, and claims nothing.
            eventually("the former head says that it is alone", lambda: set(states(first).values()) == {"unknown"})
            shown = first.run("heorot", "status", **here).stdout
            assert "\nThis head has had no contact with any node for " in shown
            assert status_of(first)["contact"]["lost"] == [0, 1, 2]
            # The former head's host is back: its head is on standby, and passes clients on.
            network.unplug(first, back=True)
            eventually("the first host is on standby", lambda: roles(first) == {"h0": "standby", "h1": "active"})
            _, errors = command.communicate(b"the end\n", DEADLINE_S)
        finally:
            command.kill()
    assert (command.returncode, output.read_text()) == (5, COUNTED + "the end\n"), errors
    done = first.run("bpjob", "attach", job, **here)
    assert (done.returncode, done.stdout) == (5, COUNTED), done.stderr
    # The second head knows the nodes that joined through the first, and others join through it with the first's token.
    assert joined(second) == [0, 1, 2]
    four = network.host("four")
    status, text = join(four, second, token)
    assert status == 0, text
    assert joined(second) == [0, 1, 2, 3]
    eventually("the first host knows the node", lambda: joined(first) == [0, 1, 2, 3])
    assert uses_left(first) == [0, 0]
    four.set_timers(**NODE_TIMERS)
    four.start("bpinit")
    four.start("bpnode")
    all_up = {**UP, "n3": "up"}
    eventually("it is up", lambda: states(first) == all_up)
    # Back again, on purpose. Commands that come meanwhile find a socket all the time.
    with ThreadPoolExecutor() as pool:
        ask = lambda: second.run("bpsh", "n0", "echo", "meanwhile", **there)  # noqa: E731
        meanwhile = [pool.submit(ask) for _ in range(3)]
        done = second.run("heorot", "head", "switch", "--dir", second.directory, "h0")
        meanwhile += [pool.submit(ask) for _ in range(5)]
        answers = [answer.result() for answer in meanwhile]
    assert done.returncode == 0, done.stderr
    assert [(one.returncode, one.stdout) for one in answers] == [(0, "meanwhile\n")] * 8, [
        one.stderr for one in answers
    ]
    eventually("the nodes are at the first head", lambda: states(second) == all_up and roles(second)["h0"] == "active")
    done = second.run("bpsh", "-a", "echo", "again", **there)
    assert (done.returncode, done.stdout.split()) == (0, ["again"] * 4), done.stderr
    # A certificate is renewed by either; a node that was taken out stays out.
    done = four.run(
        "heorot", "certificate", "renew", "--node-config", four.config, "--head-config", four.directory / "none"
    )
    assert done.returncode == 0, done.stderr
    done = second.run("heorot", "node", "remove", "--dir", second.directory, "n3")
    assert done.returncode == 0, done.stderr
    eventually("the first host has forgotten the node", lambda: joined(first) == [0, 1, 2])
    assert joined(second) == [0, 1, 2]
