"""Nodes without any head: what runs goes on, nothing is lost, and a head that comes back finds all of it."""

from __future__ import annotations

from heorot.daemons import control
from heorot.daemons.layout import Layout
from tests.cluster.harness import Cluster, await_that


def stop_head(cluster: Cluster) -> None:
    """Stop the only head, and wait until it is gone."""
    cluster.check("heorot", "head", "stop", "h0")
    layout = Layout(str(cluster.directory))

    def gone() -> bool:
        with control.connect(layout) as warden:
            return not any(head["pid"] for head in control.ask(warden, "status")["heads"])

    await_that(gone, "the head gone")


def start_head(cluster: Cluster) -> None:
    """Start the head again, and wait until every node is up."""
    cluster.check("heorot", "head", "start", "h0")
    await_that(lambda: cluster.run("heorot", "status").returncode == 0, "the head answers")
    cluster.await_up()


def test_a_head_that_was_stopped_stays_away_until_it_is_started(own: Cluster) -> None:
    before = own.status()["epoch"]
    stop_head(own)
    assert own.run("heorot", "status").returncode != 0
    start_head(own)
    assert own.status()["epoch"] == before + 1
    assert own.check("bpsh", "n6", "echo", "here") == b"here\n"
    wrong = own.run("heorot", "head", "stop", "h7")
    assert wrong.returncode != 0
    assert b"there is no head 'h7'; this cluster has h0" in wrong.stderr
