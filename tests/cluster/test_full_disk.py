"""A cluster whose directory lies on a small file system that is filled: by itself, and by somebody else."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, await_that
from tests.support.disks import fill, free_bytes, small_disk
from tests.support.etcd import free_ports

pytestmark = pytest.mark.slow

LINES = 3_000_000
"""What the talkative job says: more than the disk holds."""

SIZE_MIB = 16


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    with small_cluster(tmp_path / "disk", f"{SIZE_MIB}m") as made:
        yield made


@contextmanager
def small_cluster(disk: Path, size: str) -> Iterator[Cluster]:
    """Have a cluster of two heads and two nodes on a file system of its own."""
    with small_disk(disk, size):
        made = Cluster(disk / "cluster")
        made.up(2, "--heads", "2")
        try:
            yield made
        finally:
            made.down()


def test_heads_come_and_go_and_nodes_attach_on_a_disk_that_somebody_else_has_filled(small: Cluster) -> None:
    job = small.detach("n[0-1]", "/bin/sleep", "600")
    epoch = small.status()["epoch"]
    fill(small.directory.parent)
    for _ in range(2):
        small.check("heorot", "head", "stop", "h0", "h1")
        fill(small.directory.parent)
        small.check("heorot", "head", "start", "h1", "h0")
        await_that(lambda: bool(small.known()), "a head that leads")
        assert small.status()["epoch"] > epoch
        small.await_up(0, 1)
        epoch = small.status()["epoch"]
    os.kill(small.node(1)["agent_pid"], 9)
    small.await_up(1)
    assert small.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 2
    assert small.job(job)["state"] == "running"


def send_programs(cluster: Cluster, place: Path, count: int) -> None:
    """Run programs that no node has: from now on the caches of the head and of both nodes hold them."""
    for number in range(count):
        program = place / f"echo{number}"
        program.write_bytes(Path("/bin/echo").read_bytes() + random.Random(number).randbytes(700_000))
        program.chmod(0o755)
        assert cluster.check("bpsh", "--image", "send", "n[0-1]", str(program), "sent") == b"sent\n" * 2


def cached_bytes(cluster: Cluster) -> int:
    return sum(file.st_size for file in cluster.files_in("*/*/images/files/*"))


def test_a_disk_that_caches_and_a_spool_have_filled_costs_no_head_and_no_byte(small: Cluster, tmp_path: Path) -> None:
    send_programs(small, tmp_path, 3)
    cached = cached_bytes(small)
    assert cached > 6_000_000
    go = tmp_path / "go"
    job = small.detach("n0", "/bin/sh", "-c", f"until [ -e {go} ]; do sleep 0.01; done; seq {LINES}; exit 3")
    small.check("heorot", "head", "stop", "h0", "h1")
    go.touch()
    disk = small.directory.parent
    await_that(
        lambda: free_bytes(disk) < 65536 and cached_bytes(small) == 0, "the disk full of what the job has written"
    )
    small.check("heorot", "head", "start", "h0", "h1")
    result = small.run("bpjob", "attach", "-f", job)
    assert result.returncode == 3, result.stderr
    assert result.stdout == b"".join(b"%d\n" % number for number in range(1, LINES + 1))
    small.await_up(0, 1)
    # With room again, what was dropped comes again.
    send_programs(small, tmp_path, 1)


@contextmanager
def read_only(directory: Path, *except_for: str) -> Iterator[None]:
    """Have nobody write to a directory for a while, but to these below it: it becomes a file system of its own."""
    for name in except_for:
        subprocess.run(["mount", "--bind", directory / name, directory / name], check=True)
    try:
        subprocess.run(["mount", "--rbind", directory, directory], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
            yield
        finally:
            # Lazily: a daemon that was started meanwhile may have its lock there.
            subprocess.run(["umount", "-R", "-l", directory], check=True)
    finally:
        for name in except_for:
            subprocess.run(["umount", "-l", directory / name], check=True)


def test_a_head_that_cannot_lead_says_why_and_so_does_whoever_starts_it(small: Cluster) -> None:
    epoch = small.status()["epoch"]
    coord = small.directory / "coord"
    kept = (coord / "epoch").read_bytes()
    small.check("heorot", "head", "stop", "h0", "h1")
    (coord / "epoch").write_text("seven\n")
    started = small.run("heorot", "head", "start", "h0", "h1")
    assert started.returncode == 1
    lines = started.stderr.decode().splitlines()
    why = f"cannot read the epoch from {coord}/epoch: "
    assert [
        line.startswith(f"heorot head start: {name} cannot lead: {why}")
        for line, name in zip(lines, ("h0", "h1"), strict=True)
    ]
    # They run, so there is none to start; that they lead is not said.
    assert small.run("heorot", "head", "start").returncode == 1

    def told() -> list[tuple[str, str, bool]]:
        answer = small.run("heorot", "status", "--json")
        assert answer.returncode == 125
        heads = json.loads(answer.stdout)["heads"]
        return [(head["name"], head["role"], head["problem"].startswith(why)) for head in heads]

    def shown() -> bool:
        text = small.run("heorot", "status")
        assert text.returncode == 125
        return f"\nh0: {why}" in text.stdout.decode()

    # While one of them tries again, the other has nothing to complain of.
    await_that(lambda: told() == [("h0", "standby", True), ("h1", "standby", True)], "both heads to say why")
    await_that(shown, "the status to say why")
    # Mended, one of them leads, without being started again.
    (coord / "epoch").write_bytes(kept)
    await_that(lambda: bool(small.known()), "a head that leads")
    assert small.status()["epoch"] > epoch
    await_that(lambda: not any(head["problem"] for head in small.status()["heads"]), "nothing wrong any more")


def test_on_a_read_only_disk_heads_and_nodes_say_so(small: Cluster) -> None:
    small.check("heorot", "head", "stop", "h1")
    with read_only(small.directory / "heads" / "h1"):
        # It does not come so far as to have a socket through which it could be asked: what started it knows.
        started = small.run("heorot", "head", "start", "h1")
        assert started.returncode == 1
        assert b"heorot head start: h1 cannot lead: cannot make the lock" in started.stderr
        assert b"Read-only file system" in started.stderr
        assert b"h1: cannot make the lock" in small.check("heorot", "status")
    small.check("heorot", "head", "start", "h1")
    small.check("heorot", "head", "stop", "h0", "h1")
    with read_only(small.directory, "heads", "coord"):
        # Now it is the head's process that ends, again and again, as soon as it was elected.
        started = small.run("heorot", "head", "start", "h0")
        assert started.returncode == 1
        why = f"the head ended with status 1: cannot make the socket {small.directory}/head.sock: Read-only file system"
        assert f"heorot head start: h0 cannot lead: {why}" in started.stderr.decode()
        assert f"h0: {why}" in small.run("heorot", "status").stdout.decode()
    small.check("heorot", "head", "start", "h0", "h1")
    state = small.directory / "nodes" / "n1" / "state"
    with read_only(state):
        small.check("heorot", "head", "switch", "--dir", str(small.directory))
        why = f"cannot keep what a head says, and so obeys none: {state}/"
        await_that(lambda: small.node(1).get("problem", "").startswith(why), "n1 to say why it is down")
        assert f"\nn1: {why.replace('/n1/', '/n*/')}" in small.check("heorot", "status").decode()
    small.await_up(0, 1)
    known = small.status()
    assert not any(daemon["problem"] for daemon in [*known["heads"], *known["nodes"]])


def test_a_head_comes_where_no_name_is_left_but_those_of_the_caches(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    with small_cluster(tmp_path / "disk", f"{SIZE_MIB}m,nr_inodes=400") as made:
        send_programs(made, tmp_path / "programs", 1)
        made.check("heorot", "head", "stop", "h0", "h1")
        names = tmp_path / "disk" / "names"
        names.mkdir()
        with pytest.raises(OSError, match="No space left"):
            touch_all(names)
        made.check("heorot", "head", "start", "h0", "h1")
        made.await_up(0, 1)
        assert cached_bytes(made) == 0


def touch_all(directory: Path) -> None:
    """Make files until there can be no more."""
    for number in range(100_000):
        (directory / str(number)).touch()


def test_a_head_under_a_service_manager_says_why_through_its_keeper(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "head")
    config = str(tmp_path / "head.toml")
    options = ["--listen", f"127.0.0.1:{free_ports(1)[0]}", "--socket", str(made.directory / "head.sock")]
    made.check("heorot", "head", "init", "--config", config, *options)
    (made.directory / "coord").mkdir()
    (made.directory / "coord" / "epoch").write_text("seven\n")
    with made.start("bphead", "--config", config) as head:
        why = f"h0: cannot read the epoch from {made.directory}/coord/epoch: "
        await_that(lambda: why in made.run("heorot", "status").stdout.decode(), "the keeper's reason")
        answer = made.run("heorot", "status", "--json")
        assert (answer.returncode, json.loads(answer.stdout)["heads"][0]["keeper_pid"]) == (125, head.pid)
        (made.directory / "coord" / "epoch").write_text("7\n")
        await_that(lambda: bool(made.known()), "the head leads")
        assert made.status()["epoch"] == 8
        head.terminate()
        head.communicate()
