"""A cluster of several hosts, each with an address of its own: set up by the documented commands, with real daemons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot import bproc
from tests.hosts.hosts import HEAD_TIMERS, NODE_TIMERS, Host, Network, eventually, status_of

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


def make_head(network: Network, settings: str = "", **timers_ms: int) -> Host:
    """Make a host the head and start it; `settings` are added to its configuration."""
    head = network.host("head")
    socket = head.directory / "head.sock"
    done = head.run(
        "heorot", "head", "init", "--dir", head.directory, "--listen", f"{head.address}:7733", "--config", head.config,
        "--socket", socket,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    head.set_timers(**HEAD_TIMERS | timers_ms)
    head.add_settings(settings)
    head.start("bphead")
    eventually("the head serves", lambda: status_of(head))
    return head


def make_token(head: Host, *options: object) -> str:
    done = head.run("heorot", "token", "create", "--dir", head.directory, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def join(host: Host, head: Host, token: str, *options: object) -> tuple[int, str]:
    done = host.run(
        "heorot", "node", "join", head.address, "--token-file", "-", "--dir", host.directory, "--config", host.config,
        "--socket", host.directory / "head.sock", *options, stdin=token,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def add_nodes(network: Network, head: Host, *names: str, settings: str = "", **timers_ms: int) -> list[Host]:
    """Add hosts, let them join in this order, and wait until they are up; `settings` are added to what each has."""
    hosts = [network.host(name) for name in names]
    token = make_token(head, "--uses", len(hosts))
    for host in hosts:
        status, text = join(host, head, token)
        assert status == 0, text
        assert token.strip() not in text
        host.set_timers(**NODE_TIMERS | timers_ms)
        host.add_settings(settings)
        host.start("bpinit")
        host.start("bpnode")
    expected = {f"n{number}": "up" for number in range(len(hosts))}
    eventually("all nodes are up", lambda: states(head) == expected)
    # Nothing that anybody said holds the token, or a part of its secret.
    for host in (head, *hosts):
        assert token.strip()[60:80] not in host.logs()
    return hosts


def jobs(head: Host) -> list[dict[str, object]]:
    done = head.run("bpjob", "list", "--json", HEOROT_DIR=str(head.directory))
    return list(json.loads(done.stdout)) if done.returncode == 0 else []


def states(head: Host) -> dict[str, str]:
    return {node["name"]: node["state"] for node in status_of(head).get("nodes", [])}


def test_hosts_become_a_cluster_and_run_a_command(network: Network) -> None:
    head = make_head(network)
    nodes = add_nodes(network, head, "one", "two")
    done = head.run("bpsh", "-a", "cat", "/proc/net/fib_trie", HEOROT_DIR=str(head.directory))
    assert done.returncode == 0, done.stderr
    for host in nodes:
        assert f"|-- {host.address}\n" in done.stdout
    assert f"|-- {head.address}\n" not in done.stdout
    listed = json.loads(head.run("heorot", "node", "list", "--dir", head.directory, "--json").stdout)
    assert [row["id"] for row in listed] == [0, 1]
    year_ms = 365 * 24 * 3_600_000
    assert all(abs(row["certificate_ends_at_ms"] - row["joined_at_ms"] - year_ms) < 60_000 for row in listed)

    # One joins, and none of its daemons is ever started.
    status, text = join(network.host("three"), head, make_token(head))
    assert status == 0, text
    eventually("it is known", lambda: states(head) == {"n0": "up", "n1": "up", "n2": "down"})
    shown = head.run("heorot", "status", HEOROT_DIR=str(head.directory)).stdout
    assert shown.endswith("\nn2 has not been seen since this head leads (epoch 1).\n")
    found = head.run("heorot", "doctor", "--cluster", "--json", HEOROT_DIR=str(head.directory))
    assert (found.returncode, found.stderr) == (0, "")
    checks = {check["check"]: (check["ok"], check["text"]) for check in json.loads(found.stdout)}
    assert checks["nodes"] == (True, "2 of 3 are up")
    assert checks["nodes down"] == (False, "n2: look at heorot-init and heorot-node there")
    assert checks["heads"] == (False, "h0 active: nobody stands by for it")
    assert all(checks[name][0] for name in ("releases", "clocks", "users", "local store"))
    assert "questions" not in checks


def test_bprocs_calls_end_a_node_by_the_sites_command(network: Network) -> None:
    head = make_head(network)
    add_nodes(network, head, "one")
    head.end("bphead")
    calls = [("reboot", bproc.nodereboot), ("halt", bproc.nodehalt), ("pwroff", bproc.nodepwroff)]
    lines = "".join(f'{how} = "touch {head.directory / how}"\n' for how, _ in calls)
    head.config.write_text(head.config.read_text().replace("[power]\n", f"[power]\n{lines}", 1))
    head.start("bphead")
    eventually("the node is back", lambda: states(head) == {"n0": "up"})
    bproc.use(head.directory)
    try:
        for how, call in calls:
            call(0)
            assert bproc.nodestatus(0) == how
            eventually(f"{how} was run", (head.directory / how).exists)
            bproc.nodesetstatus(0, "up")
    finally:
        bproc.close()
        bproc.use(None)


def test_jobs_outlive_a_head_that_is_killed(network: Network) -> None:
    head = make_head(network)
    _, two = add_nodes(network, head, "one", "two")
    there = {"HEOROT_DIR": str(head.directory)}
    started = head.run("bpsh", "--detach", "-a", "sh", "-c", "read line; exit 3", **there)
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    assert status_of(head)["epoch"] == 1
    head.end("bphead", kill=True)
    assert status_of(head) == {}
    # From now on the site has a script for nodes that come; it does not like n1.
    script = head.directory / "node_up"
    script.write_text('#!/bin/sh\necho "$1 at $HEOROT_NODE_ADDRESS"\n[ "$1" = 0 ]\n')
    script.chmod(0o755)
    text = head.config.read_text()
    head.config.write_text(text.replace("[node_up]\n", f'[node_up]\ncommand = "{script}"\n'))
    head.start("bphead")
    eventually("the nodes are back", lambda: states(head) == {"n0": "up", "n1": "error"})
    log = (head.directory / "log" / "node_up" / "n1.log").read_text()
    assert log == f"1 at {two.address}\n"
    shown = head.run("bpstat", "n1", **there).stdout
    assert f"it ended with status 1: {log.strip()} (node_up)" in shown
    assert head.run("bpctl", "-S", "n1", "-s", "up", **there).returncode == 0
    assert status_of(head)["epoch"] == 2
    known = eventually("the job is known", lambda: [row for row in jobs(head) if row["job"] == job])
    assert known[0]["ranks"] == 2
    done = head.run("bpsh", "-a", "echo", "again", **there)
    assert (done.returncode, done.stdout.count("again")) == (0, 2)


def test_a_cut_cable_takes_one_node_down_and_mending_brings_it_back(network: Network) -> None:
    head = make_head(network)
    one, two = add_nodes(network, head, "one", "two")
    network.unplug(two)
    eventually("the node is down", lambda: states(head) == {"n0": "up", "n1": "down"})
    done = head.run("bpsh", "n1", "true", HEOROT_DIR=str(head.directory))
    assert done.returncode == 125
    assert "n1" in done.stderr
    network.unplug(two, back=True)
    eventually("the node is up again", lambda: states(head) == {"n0": "up", "n1": "up"})
    done = head.run("bpsh", "n1", "cat", "/proc/net/fib_trie", HEOROT_DIR=str(head.directory))
    assert f"|-- {two.address}\n" in done.stdout
    assert f"|-- {one.address}\n" not in done.stdout


def test_an_agent_of_another_cluster_gets_nowhere_and_both_logs_say_why(network: Network) -> None:
    head = make_head(network)
    other = network.host("other")
    done = other.run(
        "heorot", "head", "init", "--dir", other.directory, "--listen", f"{other.address}:7733", "--config",
        other.directory / "head.toml", "--socket", other.directory / "head.sock",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other.config = other.directory / "head.toml"
    other.start("bphead")
    eventually("the other head serves", lambda: status_of(other))
    stray = network.host("stray")
    assert join(stray, other, make_token(other))[0] == 0
    # The node is of the other cluster, and somebody pointed it at this head.
    stray.config.write_text(stray.config.read_text().replace(f'"{other.address}:7733"', f'"{head.address}:7733"'))
    stray.start("bpinit")
    stray.start("bpnode")
    eventually("the node says why", lambda: "not of this cluster" in stray.logs())
    eventually("the head says why", lambda: "refused our certificate" in head.logs())
    assert states(head) == {}
    # It goes on trying, and says it once.
    assert stray.logs().count("not of this cluster") == 1


def test_tokens_are_refused_with_the_reason_and_nothing_is_written(network: Network) -> None:
    head = make_head(network)
    host = network.host("one")
    used = make_token(head)
    assert join(host, head, used)[0] == 0
    (host.config).unlink()
    status, text = join(host, head, used)
    assert (status, text) == (1, "heorot: this token was used up; ask for a new one (heorot token create)\n")
    assert not host.config.exists()
    withdrawn = make_token(head)
    (token_id,) = [
        row["id"]
        for row in json.loads(head.run("heorot", "token", "list", "--json", "--dir", head.directory).stdout)
        if row["uses_left"]
    ]
    assert head.run("heorot", "token", "revoke", "--dir", head.directory, token_id).returncode == 0
    status, text = join(host, head, withdrawn)
    assert status == 1
    assert "wrong, withdrawn or long over" in text
    other = network.host("other")
    done = other.run(
        "heorot", "head", "init", "--dir", other.directory, "--listen", "127.0.0.1:1", "--config", other.config
    )
    assert done.returncode == 0, done.stderr
    status, text = join(host, head, make_token(other))
    assert status == 1
    assert "nothing secret was sent" in text


def test_a_node_renews_its_certificate_over_the_network(network: Network) -> None:
    head = make_head(network)
    host = network.host("one")
    assert join(host, head, make_token(head, "--node", 7))[0] == 0
    directory = host.directory / "nodes" / "n7"
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    configs = ("--head-config", host.directory / "none.toml", "--node-config", host.config)
    early = host.run("heorot", "certificate", "renew", "--within", "90d", *configs)
    assert early.returncode == 0
    assert "nothing to do" in early.stdout
    done = host.run("heorot", "certificate", "renew", *configs)
    assert done.returncode == 0, done.stderr
    assert "node:7: renewed, valid until" in done.stdout
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert [name for name in sorted(after) if after[name] != before.get(name)] == ["cert.pem"]
    host.start("bpinit")
    host.start("bpnode")
    eventually("the node is up", lambda: states(head).get("n7") == "up")
    # Taken out of the registry, it gets no other.
    assert head.run("heorot", "node", "remove", "--dir", head.directory, 7).returncode == 0
    done = host.run("heorot", "certificate", "renew", *configs)
    assert done.returncode == 1
    assert "does not know this node with this key" in done.stderr
