"""A cluster that grows: heads are added and removed while its nodes live, on hosts of their own, over etcd."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.hosts import (
    DEADLINE_S,
    HEAD_TIMERS,
    Host,
    Network,
    environment,
    etcd_on,
    eventually,
    status_of,
)
from tests.hosts.test_head_hosts import joined, roles
from tests.hosts.test_many_hosts import add_nodes, join, make_token, states
from tests.support.commands import command as argv_of
from tests.support.etcd import Etcd

pytestmark = pytest.mark.slow

UP = {"n0": "up", "n1": "up"}


class Grown:
    """One head and two nodes that know no other, with etcd on hosts of its own; `add` makes further heads."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.stores = [network.host(f"e{number}") for number in range(3)]
        self.first = network.host("head")
        self.nodes: list[Host] = []

    def begin(self, members: Etcd) -> None:
        first = self.first
        done = first.run(
            "heorot", "head", "init", "--dir", first.directory, "--listen", f"{first.address}:7733",
            "--config", first.config, "--socket", first.directory / "head.sock",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        first.set_timers(**HEAD_TIMERS)
        urls = ", ".join(f'"{url}"' for url in members.urls)
        store = f'[store]\nkind = "etcd"\nlease_ms = 2000\nendpoints = [{urls}]\n'
        first.config.write_text(first.config.read_text().replace("[store]\n", store))
        first.start("bphead")
        eventually("the first head serves", lambda: status_of(first))
        self.nodes = add_nodes(self.network, first, "one", "two")

    def add(self, by: Host, name: str) -> Host:
        """Make another host a head, with the documented commands; nothing is restarted."""
        host = self.network.host(name)
        host.config = host.directory / "head.toml"
        bundle = host.directory / "bundle"
        done = by.run(
            "heorot", "head", "add", name, "--address", host.address, "--config", by.config, "--output", bundle
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"The active head tells the nodes of {host.address}:7733 now" in done.stdout
        done = host.run(
            "heorot", "head", "join", bundle, "--listen", f"{host.address}:7733", "--dir", host.directory,
            "--config", host.config, "--socket", host.directory / "head.sock",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        host.start("bphead")
        return host


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[Grown]:
    with Network(tmp_path) as network:
        cluster = Grown(network)
        with etcd_on(*cluster.stores) as members:
            cluster.begin(members)
            yield cluster
            network.end_daemons()


def heads_listed(head: Host) -> tuple[list[str], list[dict[str, Any]]]:
    """Return which heads there are to be, and which nodes keep another list."""
    known = status_of(head).get("head_list", {"heads": [], "others": []})
    return [f"{one['name']} {one['address']}" for one in known["heads"]], known["others"]


def kept(node: Host) -> Path:
    """Return the file with the heads that a node knows."""
    (path,) = node.directory.glob("nodes/n*/state/heads")
    return path


def test_a_head_that_is_added_after_the_nodes_takes_over_and_the_first_one_is_removed(grown: Grown) -> None:
    first, network = grown.first, grown.network
    former = {node.config.read_text() for node in grown.nodes}
    second = grown.add(first, "h1")
    both = [f"h0 {first.address}:7733", f"h1 {second.address}:7733"]
    eventually("all nodes know both", lambda: heads_listed(first) == (both, []))
    eventually("the second head stands by", lambda: roles(first) == {"h0": "active", "h1": "standby"})
    assert {node.config.read_text() for node in grown.nodes} == former
    assert {stat.S_IMODE(kept(node).stat().st_mode) for node in grown.nodes} == {0o600}
    # An agent that is restarted meanwhile knows what was kept.
    grown.nodes[0].end("bpnode", kill=True)
    grown.nodes[0].start("bpnode")
    eventually("it is back", lambda: states(second) == UP)
    there = {"HEOROT_DIR": str(second.directory)}
    command = subprocess.Popen(
        [*second.prefix, *argv_of("bpsh"), "-a", "sh", "-c", "echo ready; read line; echo $line; exit 5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(sbin=True, **there),
    )
    with command:
        try:
            assert command.stdout is not None
            assert [command.stdout.readline() for _ in UP] == [b"ready\n"] * 2
            network.unplug(first)
            eventually("the second head leads", lambda: roles(second).get("h1") == "active")
            eventually("it has all nodes", lambda: states(second) == UP)
            out, errors = command.communicate(b"the end\n", DEADLINE_S)
        finally:
            command.kill()
    assert (command.returncode, out.split(b"\n")) == (5, [b"the end", b"the end", b""]), errors
    # The first head is given up for good. Its host comes back all the same, and nobody obeys it.
    done = second.run("heorot", "head", "remove", "h0", "--config", second.config)
    assert (done.returncode, done.stderr) == (0, "")
    eventually("all nodes know the second only", lambda: heads_listed(second) == (both[1:], []))
    network.unplug(first, back=True)
    eventually("the first one knows it", lambda: "h0 was removed from the cluster" in first.logs())
    epoch = status_of(second)["epoch"]
    second.end("bphead", kill=True)
    second.start("bphead")
    eventually("the second leads again", lambda: roles(second).get("h1") == "active" and states(second) == UP)
    assert status_of(second)["epoch"] == epoch + 1
    done = second.run("bpsh", "-a", "echo", "again", **there)
    assert (done.returncode, done.stdout.split()) == (0, ["again"] * 2), done.stderr


def test_remove_refuses_what_would_lose_nodes_and_status_names_them(grown: Grown) -> None:
    first, one = grown.first, grown.nodes[0]
    done = first.run("heorot", "head", "remove", "h0", "--config", first.config)
    assert (done.returncode, done.stdout) == (1, "")
    assert "h0 is the active head; first, on its host: heorot head switch" in done.stderr
    # A node that cannot be told: its agent stands still.
    agent = one.daemons["bpnode"]
    agent.send_signal(signal.SIGSTOP)
    try:
        second = grown.add(first, "h1")
        both = [f"h0 {first.address}:7733", f"h1 {second.address}:7733"]
        eventually("the other node knows both", lambda: heads_listed(first)[1] and 1 not in lacking(first))
        shown = first.run("heorot", "status", HEOROT_DIR=str(first.directory)).stdout
        assert "Heads: n0 is not yet told of h1." in shown
    finally:
        agent.send_signal(signal.SIGCONT)
    eventually("all nodes know both", lambda: heads_listed(first) == (both, []) and states(first) == UP)
    done = first.run("heorot", "head", "remove", "h1", "--config", first.config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"h1 at {second.address}:7733 is removed")
    eventually("all nodes know one", lambda: heads_listed(first) == (both[:1], []))
    eventually("the second knows it", lambda: "h1 was removed from the cluster" in second.logs())
    # It is added again, and the active head removed by force: that one hands over, and leads no more.
    bundle = first.directory / "again"
    done = first.run(
        "heorot", "head", "add", "h1", "--address", second.address, "--config", first.config, "--output", bundle
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually("all nodes know both", lambda: heads_listed(first) == (both, []))
    done = first.run("heorot", "head", "remove", "--force", "h0", "--config", first.config)
    assert (done.returncode, done.stderr) == (0, "")
    eventually("the second head leads", lambda: roles(second).get("h1") == "active" and states(second) == UP)
    eventually("all nodes know one", lambda: heads_listed(second) == (both[1:], []))
    second.end("bphead", kill=True)
    second.start("bphead")
    eventually("it leads again", lambda: roles(second).get("h1") == "active" and states(second) == UP)


def lacking(head: Host) -> list[int]:
    """Return the nodes that keep another list of heads."""
    return [node for group in heads_listed(head)[1] for node in group["nodes"]]


def test_a_head_on_standby_passes_on_who_joins_who_renews_and_who_knows_no_other(grown: Grown) -> None:
    first, network, (one, two) = grown.first, grown.network, grown.nodes
    network.unplug(two)
    eventually("the node is away", lambda: states(first) == {"n0": "up", "n1": "down"})
    second = grown.add(first, "h1")
    both = [f"h0 {first.address}:7733", f"h1 {second.address}:7733"]
    eventually("the second head stands by", lambda: roles(first) == {"h0": "active", "h1": "standby"})
    done = first.run("heorot", "head", "switch", "--dir", first.directory)
    assert done.returncode == 0, done.stderr
    eventually("the first head stands by", lambda: roles(second) == {"h0": "standby", "h1": "active"})
    # A node that was away all the time knows the first head alone, which does not lead any more.
    network.unplug(two, back=True)
    eventually("it is back, and knows both", lambda: states(second) == UP and heads_listed(second) == (both, []))
    # A token of one head's host is good at any, and a host that joins is told of all of them.
    for number, by, through in ((2, second, first), (3, first, second)):
        token = make_token(by)
        eventually("all hosts have the token", lambda: tokens(second) == tokens(first))
        host = network.host(f"n{number}")
        status, text = join(host, through, token)
        assert status == 0, text
        assert f"node n{number} of cluster" in text
        assert {f"{head.address}:7733" for head in (first, second)} <= set(host.config.read_text().split('"'))
        eventually("all hosts know the node", lambda: joined(first) == joined(second))
        assert joined(first) == list(range(number + 1))
    # What node.toml names is on standby, or gone: the node knows better.
    renew = ("heorot", "certificate", "renew", "--node-config", one.config, "--head-config", one.directory / "none")
    for _ in range(2):
        done = one.run(*renew)
        assert done.returncode == 0, done.stderr
        one.config.write_text(one.config.read_text().replace(f'"{first.address}:7733"', '"198.18.99.99:7733"'))
    network.unplug(second)
    stray = network.host("stray")
    first.end("bphead")
    status, text = join(stray, first, make_token(first))
    assert status == 1
    assert "Connection refused; is a head active? 'heorot status' on a head's host says it" in text


def tokens(head: Host) -> list[str]:
    """Return the ids of the tokens that a head's host knows."""
    done = head.run("heorot", "token", "list", "--dir", head.directory, "--json")
    assert done.returncode == 0, done.stderr
    return [token["id"] for token in json.loads(done.stdout)]
