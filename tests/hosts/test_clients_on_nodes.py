"""Commands on a node's host: its agent passes them on, for users of whom a job runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot.core.errors import RequestError
from tests.hosts.hosts import Host, Network, eventually
from tests.hosts.test_many_hosts import add_nodes, make_head, states
from tests.support.other_user import OTHER, as_other, open_to_all

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A head and two nodes, to whose sockets everybody gets through."""
    with Network(tmp_path) as network:
        make_head(network)
        add_nodes(network, network.hosts["head"], "one", "two")
        open_to_all(tmp_path)
        yield network
        network.end_daemons()


def at(host: Host, action: Callable[[heorot.Cluster], Any]) -> Any:
    """Do something with the cluster as it is reached from a host; return what came of it, or the refusal."""
    try:
        with heorot.connect(host.directory) as cluster:
            return action(cluster)
    except RequestError as error:
        return [error.code, error.message]


def who(cluster: heorot.Cluster, nodes: str) -> list[str]:
    return [text.decode().strip() for text in cluster.run(["id", "-u"], nodes).stdout]


def spawn(cluster: heorot.Cluster) -> str:
    return cluster.spawn(["sleep", "600"], "n0", detached=True).id


def echo(cluster: heorot.Cluster, size: int) -> list[int]:
    completed = cluster.run(["cat"], "n[0-1]", b"x" * size)
    return [len(text) for text in completed.stdout]


def test_a_user_of_whom_a_job_runs_there_has_the_cluster_there(network: Network) -> None:
    head, one, two = (network.hosts[name] for name in ("head", "one", "two"))
    # Nobody has a job there yet.
    refused = as_other(partial(at, one, partial(who, nodes="n1")))
    assert refused[0] == "not-permitted"
    assert "speaks for" in refused[1]
    job = as_other(partial(at, head, spawn))
    assert as_other(partial(at, one, partial(who, nodes="n[0-1]"))) == [str(OTHER)] * 2
    assert as_other(partial(at, one, partial(echo, size=3_000_000))) == [3_000_000] * 2
    assert as_other(partial(at, two, partial(who, nodes="n1")))[0] == "not-permitted"
    # Root is the administrator of all nodes, and nobody becomes that from one.
    assert at(one, partial(who, nodes="n1"))[0] == "not-permitted"
    head.end("bphead", kill=True)
    head.start("bphead")
    eventually("the nodes are back", lambda: states(head) == {"n0": "up", "n1": "up"})
    assert as_other(partial(at, one, partial(who, nodes="n1"))) == [str(OTHER)]
    assert head.run("bpjob", "kill", job, HEOROT_DIR=str(head.directory)).returncode == 0

    def over() -> bool:
        return bool(as_other(partial(at, one, partial(who, nodes="n1")))[0] == "not-permitted")

    eventually("with the job, the node's word for its user is gone", over)


def test_the_socket_goes_with_the_agent_and_comes_back_with_it(network: Network) -> None:
    one = network.hosts["one"]
    assert (one.directory / "head.sock").exists()
    at(one, partial(who, nodes="n0"))
    one.end("bpnode")
    assert not (one.directory / "head.sock").exists()
    one.start("bpnode")
    eventually("the agent listens again", (one.directory / "head.sock").exists)
