"""A cluster of an ordinary user: no namespaces, no PID ranges, everything else as ever."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, await_that, host_pids, is_alive, kill_hard, parent
from tests.support.embedded import make_user_namespace


@pytest.fixture(scope="module")
def rootless() -> Iterator[Cluster]:
    """Five nodes that belong to an ordinary user."""
    place = Path(tempfile.mkdtemp(prefix="r."))
    namespace = make_user_namespace()
    made = Cluster(place / "cluster", user_namespace=namespace)
    try:
        made.up(5, "--fanout", "2")
        yield made
    finally:
        if made.directory.exists():
            made.down()
        shutil.rmtree(place)
        os.close(namespace)


def test_every_process_belongs_to_the_user(rootless: Cluster) -> None:
    assert rootless.check("bpsh", "-a", "/usr/bin/id", "-u") == b"65534\n" * 5
    for node in rootless.status()["nodes"]:
        # No privilege is left to them.
        status = Path(f"/proc/{node['init_pid']}/status").read_text()
        assert "CapEff:\t0000000000000000" in status


def test_statuses_streams_and_signals_are_as_ever(rootless: Cluster) -> None:
    data = os.urandom(200_000)
    assert rootless.check("bpsh", "n4", "/bin/cat", stdin=data) == data
    assert rootless.run("bpsh", "-a", "/bin/sh", "-c", "exit 5").returncode == 5
    job = rootless.detach("n3", "sleep", "600")
    pid = rootless.await_job(job, lambda shown: bool(shown["pids"]), "started")["pids"]["0"]
    # Without namespaces the PID in the table is the host's.
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    rootless.check("bpkill", "-KILL", str(pid))
    assert rootless.run("bpjob", "wait", job).returncode == 128 + 9


def test_descendants_end_with_their_job_even_in_sessions_of_their_own(rootless: Cluster) -> None:
    marker = uuid.uuid4().hex
    script = "setsid /bin/sh -c 'sleep 600; :' - $0 & (setsid /bin/sh -c 'sleep 600; :' - $0 &) ; echo ready; sleep 600"
    with rootless.start("bpsh", "n2", "/bin/sh", "-c", script, marker) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        await_that(lambda: len(host_pids(marker)) == 3, "the rank and two runaways")
        process.kill()
    await_that(lambda: not host_pids(marker), "none of them left")


def test_nothing_is_left_after_the_wardens_death(rootless: Cluster) -> None:
    marker = uuid.uuid4().hex
    rootless.detach("-a", "/bin/sh", "-c", "setsid sleep 600 & exec sleep 600", marker)
    status = rootless.status()
    daemons = [pid for node in status["nodes"] for pid in (node["agent_pid"], node["init_pid"])] + [rootless.head_pid()]
    kill_hard(parent(rootless.head_pid()))
    rootless.down()
    assert not [pid for pid in daemons if is_alive(pid)]
    await_that(lambda: not host_pids(marker), "no process left")
    assert not rootless.directory.exists()
