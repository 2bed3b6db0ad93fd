"""Configurations that change while daemons run: what can be used is used, and no job notices."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import HEAD_TIMERS, Host, Network, environment, eventually, status_of
from tests.hosts.test_many_hosts import add_nodes, states
from tests.support.commands import command as argv_of

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A head, made without saying its address where there is no way out, and one node."""
    with Network(tmp_path) as network:
        head = network.host("head")
        done = head.run(
            "heorot", "head", "init", "--dir", head.directory, "--config", head.config,
            "--socket", head.directory / "head.sock",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert f"heorot node join {head.address}:7733" in done.stdout
        assert "systemctl enable --now heorot-head heorot-renew.timer" in done.stdout
        head.set_timers(**HEAD_TIMERS)
        head.start("bphead")
        eventually("the head serves", lambda: status_of(head))
        add_nodes(network, head, "one")
        eventually("the node is up", lambda: states(head) == {"n0": "up"})
        yield network
        network.end_daemons()


def reload(host: Host) -> subprocess.CompletedProcess[str]:
    return host.run("heorot", "head", "reload", "--dir", host.directory)


def change(host: Host, old: str, new: str) -> None:
    text = host.config.read_text()
    assert text.count(old) == 1
    host.config.write_text(text.replace(old, new))


def test_a_head_takes_over_what_has_changed_and_refuses_what_it_cannot_use(network: Network) -> None:
    head = network.hosts["head"]
    there = {"HEOROT_DIR": str(head.directory)}
    running = subprocess.Popen(
        [*head.prefix, *argv_of("bpsh"), "n0", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(sbin=True, **there),
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"before\n")
    running.stdin.flush()
    assert running.stdout.readline() == b"before\n"
    assert reload(head).stdout == "h0: nothing has changed\n"
    epoch = status_of(head)["epoch"]
    change(head, "[limits]\n", "[limits]\nmax_processes = 7\n")
    assert reload(head).stdout == "h0: changed: [limits] max_processes\n"
    eventually("the next term has begun", lambda: status_of(head).get("epoch") == epoch + 1)
    eventually("the node is up again", lambda: states(head) == {"n0": "up"})
    done = head.run("bpsh", "n0", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait", **there)
    assert "processes exceed its limit of 7" in done.stderr
    # By a signal, it comes to the same; the log says it.
    change(head, "max_processes = 7\n", "max_processes = 8\n")
    head.daemons["bphead"].send_signal(signal.SIGHUP)
    eventually("another term has begun", lambda: status_of(head).get("epoch") == epoch + 2)
    change(head, "max_processes = 8\n", "max_processes = 0\n")
    refused = reload(head)
    assert refused.returncode == 1
    assert "[limits] max_processes: 0 is out of range: use 1 to" in refused.stderr
    change(head, "max_processes = 0\n", "max_processes = 8\n")
    change(head, 'listen = "0.0.0.0:7733"', 'listen = "0.0.0.0:7734"')
    refused = reload(head)
    assert refused.returncode == 1
    assert "[head] listen cannot change while the head runs: systemctl restart heorot-head" in refused.stderr
    assert status_of(head)["epoch"] == epoch + 2
    output, _ = running.communicate(b"after\n")
    assert (output, running.returncode) == (b"after\n", 0)


def test_an_agent_begins_anew_with_what_has_changed_and_its_ranks_go_on(network: Network) -> None:
    head, node = network.hosts["head"], network.hosts["one"]
    there = {"HEOROT_DIR": str(head.directory)}
    job = head.run("bpsh", "--detach", "n0", "sleep", "600", **there).stdout.strip()
    agent = node.daemons["bpnode"]
    change(node, "[timers]\n", "[timers]\nheartbeat_ms = 0\n#")
    agent.send_signal(signal.SIGHUP)
    eventually("it says that it cannot", lambda: "the settings stay as they are" in node.logs())
    change(node, "[timers]\nheartbeat_ms = 0\n#", "[timers]\nheartbeat_ms = 300\n#")
    listening = (node.directory / "head.sock").stat().st_ino
    agent.send_signal(signal.SIGHUP)
    eventually("it has begun anew", lambda: (node.directory / "head.sock").stat().st_ino != listening)
    assert agent.poll() is None
    eventually("the node is up", lambda: states(head) == {"n0": "up"})
    (row,) = json.loads(head.run("bpjob", "list", "--json", **there).stdout)
    assert (row["job"], row["running"]) == (job, 1)
    assert head.run("bpjob", "kill", job, **there).returncode == 0


def test_a_configuration_is_checked_before_a_daemon_uses_it(network: Network) -> None:
    head, node = network.hosts["head"], network.hosts["one"]
    done = head.run("heorot", "config", "check", "--head-config", head.config)
    assert (done.returncode, done.stdout) == (0, f"{head.config}: good\n")
    done = node.run("heorot", "config", "check", "--node-config", node.config, "--json")
    assert json.loads(done.stdout) == [{"path": str(node.config), "problem": ""}]
    change(node, "number = 0", "number = 1")
    done = node.run("heorot", "config", "check", "--node-config", node.config)
    assert done.returncode == 1
    assert "nodes/n1" in done.stderr
    head.config.chmod(0o666)
    done = head.run("heorot", "config", "check", "--head-config", head.config)
    assert done.returncode == 1
    assert "everybody may write" in done.stderr
