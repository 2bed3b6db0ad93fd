"""``heorot node remove`` with real daemons: at once, through relays, under the next head, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.hosts import NODE_TIMERS, Host, Network, eventually, status_of
from tests.hosts.test_many_hosts import add_nodes, join, make_head, make_token, states

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


def remove(head: Host, number: int) -> None:
    done = head.run("heorot", "node", "remove", "--dir", head.directory, number)
    assert done.returncode == 0, done.stderr


def job_of(head: Host, job: str) -> dict[str, Any]:
    done = head.run("bpjob", "show", job, "--json", HEOROT_DIR=str(head.directory))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_removed_node_is_gone_at_once_and_takes_nobody_with_it(network: Network) -> None:
    head = make_head(network)
    head.end("bphead")
    head.config.write_text(head.config.read_text().replace("[tree]\n", "[tree]\nfanout = 2\n", 1))
    head.start("bphead")
    eventually("the head serves again", lambda: status_of(head))
    hosts = add_nodes(network, head, "a", "b", "c", "d")
    eventually("a tree", lambda: [n["parent"] for n in status_of(head).get("nodes", [])] == [-1, -1, 0, 0])
    epoch = status_of(head)["epoch"]
    started = head.run("bpsh", "--detach", "-a", "sleep", "1000", HEOROT_DIR=str(head.directory))
    job = started.stdout.strip()
    eventually("the job runs", lambda: job_of(head, job)["running"] == 4)

    # A leaf below a relay.
    remove(head, 3)
    eventually("its rank is over", lambda: job_of(head, job)["running"] == 3)
    assert "n3 was removed from the cluster" in json.dumps(job_of(head, job))
    assert states(head) == {"n0": "up", "n1": "up", "n2": "up"}
    eventually("it is told why", lambda: "n3 was removed from the cluster" in hosts[3].logs())
    eventually("what it ran has ended", lambda: holds(hosts[3], 3) == 0)
    done = head.run("bpsh", "n3", "true", HEOROT_DIR=str(head.directory))
    assert done.returncode == 125
    assert "there is no node n3" in done.stderr

    # The relay itself: what stands below it goes elsewhere, and runs on.
    remove(head, 0)
    eventually("its rank is over", lambda: job_of(head, job)["running"] == 2)
    eventually("the others are up", lambda: states(head) == {"n1": "up", "n2": "up"})
    eventually("its child has gone to the head", lambda: status_of(head)["nodes"][1]["parent"] in (-1, 1))
    assert job_of(head, job)["running"] == 2
    assert status_of(head)["epoch"] == epoch

    # Under the next head, too; each of them is tried again and again meanwhile.
    head.end("bphead", kill=True)
    head.start("bphead")
    eventually("the others are back", lambda: states(head) == {"n1": "up", "n2": "up"})
    eventually("the job is back", lambda: job_of(head, job)["running"] == 2)
    eventually("the new head has refused both", lambda: refused(head) == {"n0", "n3"})
    assert states(head) == {"n1": "up", "n2": "up"}
    done = head.run("bpjob", "kill", "-KILL", job, HEOROT_DIR=str(head.directory))
    assert done.returncode == 0, done.stderr


def test_a_number_that_is_given_anew_lets_nobody_in_who_had_it_before(network: Network) -> None:
    head = make_head(network)
    old, other = add_nodes(network, head, "old", "other")
    remove(head, 0)
    new = network.host("new")
    status, text = join(new, head, make_token(head, "--node", 0))
    assert status == 0, text
    new.set_timers(**NODE_TIMERS)
    new.start("bpinit")
    new.start("bpnode")
    eventually("both are up", lambda: states(head) == {"n0": "up", "n1": "up"})
    # The former host comes again with the certificate that it has.
    old.end("bpnode")
    old.start("bpnode")
    why = "n0 was removed from the cluster, and its number was given to another host"
    eventually("it is refused", lambda: why in old.logs())
    assert states(head) == {"n0": "up", "n1": "up"}
    for wanted, host in (("n0", new), ("n1", other)):
        done = head.run("bpsh", wanted, "hostname", HEOROT_DIR=str(head.directory))
        assert done.returncode == 0, done.stderr
        assert holds(host, int(wanted[1:])) == 0
    assert why not in new.logs()


def holds(host: Host, number: int) -> int:
    """Return how many processes a node holds, as it says itself."""
    done = host.run("heorot", "node", "ps", "--json", "--dir", host.directory)
    (shown,) = json.loads(done.stdout)
    return len(shown["processes"])


def refused(head: Host) -> set[str]:
    """Return whom the head that leads now has refused for having been removed."""
    lines = head.logs().partition("epoch 3")[2].splitlines()
    return {line.split(" is refused: ")[0].split()[-1] for line in lines if "was removed from the cluster" in line}
