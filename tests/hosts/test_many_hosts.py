"""A cluster of several hosts, each with an address of its own: set up by the documented commands, with real daemons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import Host, Network, eventually, status_of


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


def make_head(network: Network) -> Host:
    head = network.host("head")
    socket = head.directory / "head.sock"
    done = head.run(
        "heorot", "head", "init", "--dir", head.directory, "--listen", f"{head.address}:7733", "--config", head.config,
        "--socket", socket,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
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
        *options, stdin=token,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def states(head: Host) -> dict[str, str]:
    return {node["name"]: node["state"] for node in status_of(head).get("nodes", [])}


def test_hosts_become_a_cluster_and_run_a_command(network: Network) -> None:
    head = make_head(network)
    nodes = [network.host("one"), network.host("two")]
    token = make_token(head, "--uses", 2)
    for host in nodes:
        status, text = join(host, head, token)
        assert status == 0, text
        assert token.strip() not in text
        host.start("bpinit")
        host.start("bpnode")
    eventually("both nodes are up", lambda: states(head) == {"n0": "up", "n1": "up"})
    done = head.run("bpsh", "-a", "cat", "/proc/net/fib_trie", HEOROT_DIR=str(head.directory))
    assert done.returncode == 0, done.stderr
    for host in nodes:
        assert host.address in done.stdout
    assert head.address not in done.stdout
    listed = json.loads(head.run("heorot", "node", "list", "--dir", head.directory, "--json").stdout)
    assert [row["id"] for row in listed] == [0, 1]
    # Nothing that the daemons said holds the secret.
    for host in (head, *nodes):
        assert token.strip() not in host.logs()
        assert token.strip()[60:80] not in host.logs()


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
