"""On a host of a cluster of many machines no command advises ``heorot up``, but says how its daemons are started.

The configurations are those that ``heorot head init`` and ``heorot node join`` write, in an /etc of the test's.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from heorot.client import search as reconnect
from heorot.client.search import HeadSearch
from heorot.config.files import Address
from heorot.config.text import render_node
from tests.cluster.harness import command
from tests.support.own_etc import with_configuration
from tests.support.waiting import await_that

CLIENTS = [
    ("bpstat",),
    ("bpps",),
    ("bpkill", "1"),
    ("bpjob", "list"),
    ("bpsh", "-a", "true"),
    ("bpcp", "-q", "/etc/passwd", "n0:/tmp"),
    ("heorot", "status"),
]
HEAD = (
    "no head listens in {directory}: this is the host of the head h0 of the cluster c1; 'systemctl start heorot-head'"
    " starts it if it does not run, and 'heorot status', as root, says why it does not lead"
)
NODE = (
    "no head listens in {directory}: this host is the node n3 of the cluster c1, whose agent passes commands on:"
    " 'systemctl start heorot-node' starts it if it does not run; on the host of a head"
    " (head0, 192.0.2.7) they need no agent"
)


class Host:
    """A host with an /etc/heorot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configuration = directory / "configuration"
        self.etc = directory / "etc"
        self.state = directory / "state"
        self.clients = directory / "clients"
        for path in (self.configuration, self.etc, self.clients):
            path.mkdir()

    def run(self, *words: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of Heorot here; `at` is the HEOROT_DIR, if there is any."""
        environment = {name: value for name, value in os.environ.items() if name != "HEOROT_DIR"}
        if at is not None:
            environment["HEOROT_DIR"] = str(at)
        argv = [*with_configuration(self.etc, self.configuration), *command(words[0]), *words[1:]]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def make_head(self) -> Host:
        """Make it the host of a head."""
        made = self.run(
            "heorot", "head", "init", "--cluster", "c1", "--name", "h0", "--address", "127.0.0.1",
            "--dir", str(self.state), "--socket", str(self.clients / "head.sock"),
        )  # fmt: skip
        assert made.returncode == 0, made
        return self

    def make_node(self) -> Host:
        """Make it a node."""
        heads = [Address("head0", 7733), Address("192.0.2.7", 7733)]
        text = render_node(
            cluster="c1",
            directory=str(self.state),
            number=3,
            listen=Address("127.0.0.1", 7734),
            heads=heads,
            capacity=1023,
        )
        (self.configuration / "node.toml").write_text(text)
        return self


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with an empty /etc/heorot."""
    return Host(tmp_path)


@pytest.mark.parametrize("words", CLIENTS, ids=" ".join)
def test_on_a_heads_host_commands_say_how_the_head_is_started(host: Host, words: tuple[str, ...]) -> None:
    done = host.make_head().run(*words, at=host.clients)
    name = "heorot status" if words[0] == "heorot" else words[0]
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"{name}: {HEAD.format(directory=host.clients)}\n"


def test_a_head_that_was_killed_leaves_its_socket_and_the_same_is_said(host: Host) -> None:
    host.make_head()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(host.clients / "head.sock"))
    done = host.run("bpstat", at=host.clients)
    (host.clients / "head.sock").unlink()
    assert (done.returncode, done.stderr) == (125, f"bpstat: {HEAD.format(directory=host.clients)}\n")


@pytest.mark.parametrize("at", ["/run/heorot", "state"])
def test_on_a_heads_host_commands_say_where_its_socket_is(host: Host, at: str) -> None:
    directory = host.make_head().directory / at
    done = host.run("bpstat", at=directory)
    says = f"no head listens in {directory}: commands reach the cluster c1 of this host through {host.clients}"
    assert (done.returncode, done.stderr) == (125, f"bpstat: {says}; set HEOROT_DIR={host.clients}\n")


@pytest.mark.parametrize("words", [("bpstat",), ("bpsh", "-a", "true"), ("heorot", "status")], ids=" ".join)
def test_on_a_node_commands_say_who_passes_them_on(host: Host, words: tuple[str, ...]) -> None:
    done = host.make_node().run(*words)
    name = "heorot status" if words[0] == "heorot" else words[0]
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"{name}: {NODE.format(directory='/run/heorot')}\n"


@pytest.mark.parametrize("words", ["head start", "head stop h0", "node start n3", "node stop n3"])
def test_commands_for_the_daemons_of_heorot_up_name_the_services(host: Host, words: str) -> None:
    done = host.make_head().make_node().run("heorot", *words.split(), at=host.clients)
    assert done.returncode == 125
    for unit in ("head h0 ('systemctl start heorot-head')", "node n3 ('systemctl start heorot-init heorot-node')"):
        assert unit in done.stderr


@pytest.mark.parametrize("words", ["node list", "node remove n1", "token list", "token create", "head switch"])
def test_what_is_administered_on_heads_is_refused_on_a_node(host: Host, words: str) -> None:
    done = host.make_node().run("heorot", *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "heorot: this host is the node n3 of the cluster c1 and has nothing of a head: run this"
    )


def test_a_directory_that_no_configuration_is_about_is_for_heorot_up(host: Host) -> None:
    directory = host.make_head().directory / "elsewhere"
    assert f"start one with 'heorot up --dir {directory} " in host.run("bpstat", at=directory).stderr


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("clients", "commands look there for the cluster c1, of which this host has the head h0"),
        ("state", "it holds the keys and the state of the head h0 of the cluster c1"),
        ("/run/heorot", "commands look there for the cluster c1, of which this host has the head h0"),
    ],
)
def test_on_a_heads_host_heorot_up_makes_no_cluster_where_the_heads_is(host: Host, at: str, why: str) -> None:
    directory = host.make_head().directory / at
    before = sorted(directory.iterdir()) if directory.exists() else None
    done = host.run("heorot", "up", "-n", "1", "--dir", str(directory))
    advice = "name a directory of its own with --dir or HEOROT_DIR"
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"heorot up: no cluster is made in {directory}: {why}; {advice}\n"
    assert (sorted(directory.iterdir()) if directory.exists() else None) == before


def test_on_a_node_heorot_up_makes_no_cluster_where_commands_look(host: Host) -> None:
    done = host.make_node().run("heorot", "up", "-n", "1")
    assert "commands look there for the cluster c1, of which this host has the node n3" in done.stderr


def test_a_configuration_that_cannot_be_used_is_named(host: Host) -> None:
    (host.configuration / "head.toml").write_text("[head]\nnam = 1\n")
    done = host.run("bpstat")
    assert done.stderr.startswith("bpstat: no head listens in /run/heorot: /etc/heorot/head.toml: ")


def test_a_heads_directory_that_goes_with_its_service_is_no_cluster_that_was_taken_down(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heorot.config.host_role.HEAD_PATH", host.make_head().configuration / "head.toml")
    monkeypatch.setattr(reconnect, "GONE_S", 1.0)
    search = HeadSearch(str(host.clients), None)
    host.clients.rmdir()
    said: list[str] = []

    def look() -> bool:
        try:
            search.attempt()
        except Exception as error:
            said.append(str(error))
        return bool(said)

    await_that(look, "an end of the search, some time after the directory has gone")
    assert said == [HEAD.format(directory=host.clients)]
