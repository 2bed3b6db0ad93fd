"""Each node of an embedded cluster is a host: it has a name and an address, and knows those of all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, Cluster, cluster, command

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nodes have names of their own as root only")


def test_each_node_has_its_name_and_they_find_each_other(shared: Cluster) -> None:
    assert shared.check("bpsh", "-a", "-s", "uname", "-n").decode().split() == [f"n{number}" for number in range(8)]
    found = shared.check("bpsh", "n[2,5]", "-s", "getent", "hosts", "n3", "n7", "master").decode().split()
    assert found == ["127.1.0.3", "n3", "127.1.0.7", "n7", "127.0.0.1", "master"] * 2


def test_a_server_at_a_nodes_name_is_reached_from_another_node(shared: Cluster) -> None:
    """Both listen at the same port: each node has an address of its own."""
    serve = (
        "import socket; s = socket.create_server((socket.gethostname(), 0)); print(*s.getsockname(), flush=True);"
        "c = s.accept()[0]; c.sendall(socket.gethostname().encode()); c.close()"
    )
    ask = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(9).decode())"
    python = ["python3", "-c"]
    with shared.start("bpsh", "n3", *python, serve) as server:
        assert server.stdout is not None
        host, port = server.stdout.readline().decode().split()
        assert host == "127.1.0.3"
        assert shared.check("bpsh", "n6", *python, ask, "n3", port) == b"n3\n"
        server.wait()


def test_addresses_of_nodes_are_told_apart(shared: Cluster) -> None:
    nodes = json.loads(shared.check("bpstat", "--json"))
    assert [node["address"].partition(":")[0] for node in nodes] == [f"127.1.0.{number}" for number in range(8)]


def test_what_the_host_says_of_names_holds_on_nodes(shared: Cluster) -> None:
    own = Path("/etc/hosts").read_bytes()
    assert shared.check("bpsh", "n0", "cat", "/etc/hosts").startswith(own)


def test_a_bare_node_has_names_too() -> None:
    with cluster(2, "--bare") as bare:
        assert bare.check("bpsh", "n1", "getent", "hosts", "n0").split() == [b"127.1.0.0", b"n0"]
        assert bare.check("bpsh", "n1", "uname", "-n") == b"n1\n"


def test_a_rank_names_its_own_node_and_nodes_by_their_names(shared: Cluster) -> None:
    words = ["env", f"PYTHONPATH={ROOT / 'src'}", f"HEOROT_DIR={shared.directory}", *command("bpsh")]
    assert shared.check("bpsh", "n5", *words, "self", "uname", "-n") == b"n5\n"
    assert shared.check("bpstat", "-n", "all!self,localhost").split() == [b"%d" % node for node in range(8)]
    assert shared.check("bpstat", "-A", "n5") == b"5\n"
    assert shared.check("bpstat", "-A", "127.1.0.6") == b"6\n"
    header, row = shared.check("bpstat", "-l", "n5").decode().splitlines()
    assert (header.split()[-1], row.split()[-1]) == ("Host", "n5")
    printed = shared.check("heorot", "hosts").decode().splitlines()
    assert [line for line in printed if "master" not in line] == [f"127.1.0.{node} n{node}" for node in range(8)]
