"""Hosts of heads that are nodes as well: ``master`` is that of the head that leads, before a failover and after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import NODE_TIMERS, Host, Network, etcd_on, eventually, status_of
from tests.hosts.test_head_hosts import Heads, roles
from tests.hosts.test_many_hosts import make_token, states
from tests.support.commands import command as argv_of

pytestmark = pytest.mark.slow


@pytest.fixture
def heads(tmp_path: Path) -> Iterator[Heads]:
    with Network(tmp_path) as network:
        heads = Heads(network)
        with etcd_on(heads.first, heads.second, heads.third) as members:
            heads.begin(members)
            yield heads
            network.end_daemons()


def become_node(host: Host, head: Host, token: str) -> str:
    """Make the host of a head a node, with the documented commands; return what was said."""
    config = host.directory / "node.toml"
    done = host.run(
        "heorot", "node", "join", head.address, "--token-file", "-", "--dir", host.directory, "--config", config,
        "--head-config", host.config, stdin=token,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    timers = "".join(f"{name} = {value}\n" for name, value in NODE_TIMERS.items())
    config.write_text(config.read_text().replace("[timers]\n", f"[timers]\n{timers}", 1))
    for daemon in ("bpinit", "bpnode"):
        host.start(daemon, [*argv_of(daemon), "--config", str(config)])
    return done.stdout


def masters(host: Host) -> dict[int, str]:
    """Return which nodes are on hosts of heads, as the registry of a head's host has it."""
    done = host.run("heorot", "node", "list", "--dir", host.directory, "--json")
    return {node["id"]: node["head"] for node in json.loads(done.stdout) if node["head"]}


def addresses(host: Host, nodes: str, among: list[Host]) -> list[str]:
    """Run a command on nodes; return on which of the hosts that was, by rank."""
    done = host.run("bpsh", "-s", nodes, "sh", "-c", "cat /proc/net/fib_trie; echo end", HEOROT_DIR=str(host.directory))
    assert done.returncode == 0, done.stderr
    return [
        next(one.directory.name for one in among if f"|-- {one.address}\n" in part)
        for part in done.stdout.split("end\n")[:-1]
    ]


def test_master_is_the_host_whose_head_leads_and_its_ranks_outlive_the_head(heads: Heads) -> None:
    first, second = heads.first, heads.second
    hosts = list(heads.network.hosts.values())
    here, there = {"HEOROT_DIR": str(first.directory)}, {"HEOROT_DIR": str(second.directory)}
    refused = first.run("bpsh", "master", "true", **here)
    assert (refused.returncode, refused.stderr) == (
        125,
        "bpsh: 'master' is the host of the head that leads, h0, and that host is no node: 'heorot node join' there, as"
        " root, makes it one; or name nodes, for example n0\n",
    )
    token = make_token(first, "--uses", 2)
    said = become_node(first, first, token)
    assert said.startswith("This host is node n3 of cluster ")
    assert "\nWhile its head h0 leads, node lists know it as master.\n" in said
    # Through the head on standby, which passes the host on.
    become_node(second, second, token)
    up = {f"n{number}": "up" for number in range(5)}
    eventually("the hosts of the heads are nodes", lambda: states(first) == up)
    eventually("both heads know whose hosts they are", lambda: [masters(first), masters(second)] == [
        {3: "h0", 4: "h1"}] * 2)  # fmt: skip
    assert "(host of the head h1)\n" in first.run("heorot", "node", "list", "--dir", first.directory).stdout

    for host in (first, second):
        assert addresses(host, "master,n0", hosts) == ["head", "one"]
    done = second.run("bpsh", "-a", "sh", "-c", "echo $HEOROT_NODE", **there)
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["0", "1", "2"]), done.stderr

    started = first.run("bpsh", "--detach", "master", "sleep", "600", **here)
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    first.end("bphead", kill=True)
    eventually("the other head leads", lambda: roles(second).get("h1") == "active" and states(second) == up)
    assert addresses(second, "master,n0", hosts) == ["head2", "one"]
    # What was started on the former one goes on there.
    (row,) = [row for row in json.loads(second.run("bpps", "--json", **there).stdout) if row["job"] == job]
    assert row["node"] == 3
    first.start("bphead")
    eventually("the first host passes on", lambda: roles(first) == {"h0": "standby", "h1": "active"})
    assert addresses(first, "master", hosts) == ["head2"]
    assert first.run("bpkill", str(row["pid"]), **here).returncode == 0
    eventually("the rank has ended", lambda: _running(second, job) == 0)

    # A head that is no head any more has no host: its node is one like the others.
    first.end("bphead")
    done = second.run("heorot", "head", "remove", "h0", "--force", "--config", second.config)
    assert done.returncode == 0, done.stderr
    eventually("n3 is like others", lambda: {node["id"]: node["head"] for node in status_of(second)["nodes"]} == {
        0: "", 1: "", 2: "", 3: "", 4: "h1"})  # fmt: skip
    done = second.run("bpsh", "-a", "sh", "-c", "echo $HEOROT_NODE", **there)
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["0", "1", "2", "3"]), done.stderr


def _running(host: Host, job: str) -> int:
    shown = host.run("bpjob", "show", "--json", job, HEOROT_DIR=str(host.directory))
    return int(json.loads(shown.stdout)["running"])
