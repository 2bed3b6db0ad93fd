"""A head's host whose disk is lost is made anew from a backup, and its nodes and their jobs come back to it."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.security.backup import EPOCHS_AHEAD
from tests.hosts.hosts import Network, eventually, status_of
from tests.hosts.test_many_hosts import add_nodes, jobs, make_head, states

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network
        network.end_daemons()


def test_a_head_made_anew_from_nothing_finds_its_nodes_and_their_jobs(network: Network, tmp_path: Path) -> None:
    head = make_head(network)
    add_nodes(network, head, "one", "two")
    there = {"HEOROT_DIR": str(head.directory)}
    kept = tmp_path / "kept"
    done = head.run("heorot", "backup", "--config", head.config, kept)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    # The head goes on for some terms before its disk is lost, which the backup does not know.
    for _ in range(2):
        head.end("bphead", kill=True)
        head.start("bphead")
        eventually("it leads again", lambda: status_of(head))
    eventually("the nodes are back", lambda: states(head) == {"n0": "up", "n1": "up"})
    job = head.run("bpsh", "--detach", "-a", "sh", "-c", "echo out; exec sleep 600", **there).stdout.strip()
    head.end("bphead", kill=True)
    shutil.rmtree(head.directory)
    head.directory.mkdir()

    done = head.run("heorot", "restore", kept)
    assert (done.returncode, done.stderr) == (0, "")
    assert "This host is the head h0 of cluster" in done.stdout
    head.start("bphead")
    eventually("the nodes are back", lambda: states(head) == {"n0": "up", "n1": "up"})
    assert status_of(head)["epoch"] > EPOCHS_AHEAD
    known = eventually("the job is known", lambda: [row for row in jobs(head) if row["job"] == job])
    assert known[0]["running"] == 2
    assert head.run("bpjob", "kill", job, **there).returncode == 0
    # Who has joined may renew, and others may join.
    add_token = head.run("heorot", "token", "create", "--dir", head.directory)
    assert add_token.returncode == 0, add_token.stderr
    done = head.run("heorot", "restore", kept)
    assert done.returncode == 1
    assert "exists already; remove it, or name another with --config" in done.stderr
