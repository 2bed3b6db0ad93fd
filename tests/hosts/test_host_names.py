"""Names of nodes on hosts of their own: in node lists, and in the hosts file that ranks see."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.hosts import Host, Network, eventually
from tests.hosts.test_many_hosts import add_nodes, join, make_head, make_token, states
from tests.support.other_user import NOBODY, as_other

pytestmark = pytest.mark.slow


class NamedHost(Host):
    """A host that has a name of its own: at first that of its directory."""

    called = ""
    """What it calls itself instead."""

    @property
    def prefix(self) -> list[str]:
        """See `Host`."""
        name = self.called or self.directory.name
        return [
            *super().prefix, "unshare", "--uts", "sh", "-c",
            f'echo {name} > /proc/sys/kernel/hostname; exec "$@"', "sh",
        ]  # fmt: skip


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path, NamedHost) as network:
        yield network


def bpsh(head: Host, *words: str) -> list[str]:
    """Run a command on nodes, one after the other; return its lines."""
    done = head.run("bpsh", "-s", *words, HEOROT_DIR=str(head.directory))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def seen_on(head: Host, node: str) -> dict[str, str]:
    """Return what the ranks on a node see of names and addresses of nodes."""
    lines = bpsh(head, node, "sh", "-c", "sed -n '/Heorot begins/,/Heorot ends/{/^#/!p}' /etc/hosts")
    return {" ".join(line.split()[1:]): line.split()[0] for line in lines if line.strip()}


def test_nodes_are_known_by_the_names_of_their_hosts_everywhere(network: Network) -> None:
    head = make_head(network)
    c1, c2 = add_nodes(network, head, "c1", "c2.site")
    host_name = os.uname().nodename
    # In node lists, also where the node is down.
    assert bpsh(head, "c2.site,C1,c[1-2]", "uname", "-n") == ["c2.site", "c1", "c1", "c2.site"]
    shown = head.run("bpstat", "-l", HEOROT_DIR=str(head.directory)).stdout.splitlines()
    assert [line.split()[-1] for line in shown] == ["Host", "c1", "c2.site"]
    assert head.run("bpstat", "-A", "c2", HEOROT_DIR=str(head.directory)).stdout == "1\n"
    # In what ranks see, and other users, too; the host's own file is as it was.
    own = Path("/etc/hosts").read_bytes()
    expected = {"master": head.address, "c1 n0": c1.address, "c2.site c2 n1": c2.address}
    eventually("both nodes know all names", lambda: all(seen_on(head, node) == expected for node in ("n0", "n1")))
    assert bpsh(head, "n0", "getent", "hosts", "n1", "c2") == bpsh(head, "n0", "getent", "hosts", "c2.site", "c2")
    for number, host in enumerate((c1, c2)):
        file = host.directory / "nodes" / f"n{number}" / "hosts"
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid) == (0o644, 0)
        assert as_other(file.read_text, NOBODY)[0] == "OSError", "reached by the mount alone"
    assert Path("/etc/hosts").read_bytes() == own
    assert os.uname().nodename == host_name
    # A host of its own keeps its IPC and its shared memory.
    for kind in ("ipc", "uts"):
        (inside,) = bpsh(head, "n0", "readlink", f"/proc/self/ns/{kind}")
        assert (inside == os.readlink(f"/proc/self/ns/{kind}")) is (kind == "ipc")
    # Who comes later is told all, and told of.
    (c3,) = [network.host("c3")]
    assert join(c3, head, make_token(head))[0] == 0
    c3.start("bpinit")
    c3.start("bpnode")
    expected["c3 n2"] = c3.address
    eventually("the new node is known, and knows all", lambda: states(head).get("n2") == "up" and all(
        seen_on(head, node) == expected for node in ("n0", "n1", "n2")
    ))  # fmt: skip
    printed = head.run("heorot", "hosts", HEOROT_DIR=str(head.directory)).stdout.splitlines()
    assert printed == [f"{address} {names}" for names, address in expected.items()]
    # A node that is taken out is forgotten by all.
    assert head.run("heorot", "node", "remove", "1", "--dir", head.directory).returncode == 0
    del expected["c2.site c2 n1"]
    eventually("the removed node is forgotten", lambda: all(seen_on(head, node) == expected for node in ("n0", "n2")))
    refused = head.run("bpsh", "c2", "true", HEOROT_DIR=str(head.directory))
    assert (refused.returncode, refused.stdout) == (125, "")


def test_a_node_cannot_take_the_name_of_another_or_of_a_word(network: Network) -> None:
    head = make_head(network)
    c1, c2 = add_nodes(network, head, "c1", "up")
    status = json.loads(head.run("heorot", "status", "--json", HEOROT_DIR=str(head.directory)).stdout)
    assert [node["host_name"] for node in status["nodes"]] == ["c1", ""]
    said = head.run("heorot", "status", HEOROT_DIR=str(head.directory)).stdout
    assert "n1 has joined as 'up', by which node lists do not know it: in a node list it is a state of nodes." in said
    assert "n1 has joined as 'up'" in head.logs()
    # Broken into, it calls itself as the other does, whose host is away.
    for daemon in ("bpnode", "bpinit"):
        c1.end(daemon)
    eventually("the first is down", lambda: states(head)["n0"] == "down")
    assert isinstance(c2, NamedHost)
    c2.called = "c1"
    for daemon in ("bpnode", "bpinit"):
        c2.end(daemon)
    for daemon in ("bpinit", "bpnode"):
        c2.start(daemon)
    lie = "n1 calls itself 'c1' and has joined as 'up'"
    eventually("the head has heard it", lambda: lie in head.logs())
    eventually("it is up", lambda: states(head)["n1"] == "up")
    assert lie in head.run("heorot", "status", HEOROT_DIR=str(head.directory)).stdout
    done = head.run("bpsh", "c1", "uname", "-n", HEOROT_DIR=str(head.directory))
    assert (done.returncode, done.stdout) == (125, "")
    assert "n0 is down" in done.stderr
