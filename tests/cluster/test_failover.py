"""Heads that are killed while clients are at work, which go on by themselves: nothing is lost, doubled or changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import heorot
from heorot import aio
from heorot.client import cluster as library
from heorot.client.flow import Flow, Until
from heorot.client.watched import Watched
from heorot.core.client.session import Session
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, kill_hard

KILLS = 3
LINES = 60_000
GATE = """
i=0
while [ $i -lt 3 ]; do
  seq $((i * {third} + 1)) $(((i + 1) * {third}))
  i=$((i + 1))
  touch {gate}.said.$BPROC_RANK.$i
  while [ ! -e {gate}.go.$i ]; do sleep 0.02; done
done
exit 7
"""
"""Writes a third of the lines, says so, and waits for leave to go on: three times."""


@pytest.fixture
def two_heads() -> Iterator[Cluster]:
    """Four nodes in a tree of fan-out two, and two heads."""
    with cluster(4, "--fanout", "2", "--heads", "2") as made:
        yield made


def kill_head(made: Cluster) -> None:
    """Kill the active head and wait until another one serves."""
    epoch = made.status()["epoch"]
    kill_hard(made.head_pid())
    await_that(lambda: made.status()["epoch"] > epoch, "the next head")


def expected() -> bytes:
    """Return what a rank writes."""
    return b"".join(b"%d\n" % number for number in range(1, LINES + 1))


def kill_between_thirds(made: Cluster, gate: Path, ranks: int) -> None:
    """Let the job of `GATE` go on each time after a head has died with its output on the way."""
    for third in range(1, KILLS + 1):
        for rank in range(ranks):
            said = Path(f"{gate}.said.{rank:07d}.{third}")
            await_that(said.exists, f"third {third} of the output of rank {rank} written")
        kill_head(made)
        Path(f"{gate}.go.{third}").touch()


def script(gate: Path) -> str:
    """Return the script whose thirds `gate` holds up."""
    return GATE.format(third=LINES // 3, gate=gate)


def test_output_and_status_survive_heads(two_heads: Cluster, tmp_path: Path) -> None:
    with two_heads.start("bpsh", "-p", "-a", "/bin/sh", "-c", script(tmp_path / "gate")) as process:
        killer = threading.Thread(target=kill_between_thirds, args=(two_heads, tmp_path / "gate", 4))
        killer.start()
        try:
            output, errors = process.communicate(timeout=DEADLINE_S * 2)
        finally:
            killer.join(DEADLINE_S * 2)
    lines = output.splitlines(keepends=True)
    for node in range(4):
        prefix = b"%3d: " % node
        assert b"".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix)) == expected()
    assert len(lines) == 4 * LINES
    assert process.returncode == 7
    assert all(b"head" in line for line in errors.splitlines())


def test_output_on_its_way_survives_heads(two_heads: Cluster) -> None:
    """Without a pause: whatever a head holds at the moment of its death is sent again."""
    with two_heads.start("bpsh", "n3", "/usr/bin/seq", "1", "3000000") as process:
        assert process.stdout is not None
        state = hashlib.sha256()
        size = 0
        for _ in range(KILLS):
            for _ in range(10):
                piece = process.stdout.read(65536)
                state.update(piece)
                size += len(piece)
            # The windows are full: the job stands still until we read on.
            kill_head(two_heads)
        output, _errors = process.communicate(timeout=DEADLINE_S * 2)
    state.update(output)
    whole = subprocess.run(["/usr/bin/seq", "1", "3000000"], stdout=subprocess.PIPE, check=True).stdout
    assert size + len(output) == len(whole)
    assert state.digest() == hashlib.sha256(whole).digest()
    assert process.returncode == 0


def test_input_survives_heads(two_heads: Cluster) -> None:
    data = os.urandom(5_000_000)
    with two_heads.start("bpsh", "-a", "/usr/bin/md5sum", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for index in range(KILLS):
            process.stdin.write(data[index * 1_000_000 : (index + 1) * 1_000_000])
            process.stdin.flush()
            kill_head(two_heads)
        output, _errors = process.communicate(data[KILLS * 1_000_000 :], timeout=DEADLINE_S * 2)
    assert output == b"%s  -\n" % hashlib.md5(data).hexdigest().encode() * 4
    assert process.returncode == 0


def test_the_library_goes_on(two_heads: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with heorot.connect(two_heads.directory) as library:
        job = library.spawn(["/bin/sh", "-c", "cat; " + script(gate)], "n[1-2]", stdin=heorot.PIPE)
        killer = threading.Thread(target=kill_between_thirds, args=(two_heads, gate, 2))
        killer.start()
        completed = job.communicate(b"hello\n", timeout_s=DEADLINE_S * 2)
        killer.join(DEADLINE_S)
        assert completed.stdout == [b"hello\n" + expected()] * 2
        assert [status.code for status in completed.statuses] == [7, 7]
        assert library.run(["echo", "again"], "n0").stdout == [b"again\n"]


def test_the_asynchronous_library_goes_on(two_heads: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def follow() -> heorot.Completed:
        async with asyncio.timeout(DEADLINE_S * 2), aio.connect(two_heads.directory) as library:
            job = await library.spawn(["/bin/sh", "-c", "cat; " + script(gate)], "n[1-2]", stdin=heorot.PIPE)
            killer = asyncio.get_running_loop().run_in_executor(None, kill_between_thirds, two_heads, gate, 2)
            completed = await job.communicate(b"hello\n")
            await killer
            return completed

    completed = asyncio.run(follow())
    assert completed.stdout == [b"hello\n" + expected()] * 2
    assert [status.code for status in completed.statuses] == [7, 7]


def test_watching_survives_heads(two_heads: Cluster) -> None:
    job = two_heads.detach("-a", "sleep", "1000")
    with two_heads.start("bpps", "--watch=0.1", "--json", "-r", "-j", job) as ps:
        assert ps.stdout is not None
        lines = iter(ps.stdout.readline, b"")

        def await_rows(count: int) -> None:
            """Read on, past what is said while there is no head, until so many processes are shown."""
            assert any(line.startswith(b"[") and len(json.loads(line)) == count for line in lines)

        await_rows(4)
        for left in (3, 2):
            kill_head(two_heads)
            two_heads.check("bpkill", "-9", f"{job}:{left}")
            await_rows(left)
        ps.terminate()
        assert ps.wait(DEADLINE_S) == -signal.SIGTERM
    two_heads.check("bpjob", "kill", "-9", job)


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_a_program_that_watches_goes_on(two_heads: Cluster, form: str) -> None:
    seen: list[tuple[int, bool]] = []

    def note(now: Watched, job: str) -> bool:
        """Kill the head when the job is first seen; say whether it has been seen under the next one."""
        if job in now.jobs and now.nodes:
            epochs = len(seen)
            seen.append((len(now.nodes), all(row.state == "up" for row in now.nodes.values())))
            if not epochs:
                kill_head(two_heads)
                two_heads.check("bpjob", "kill", "-9", job)
            return now.jobs[job].state == "done"
        return False

    job = two_heads.detach("-a", "sleep", "1000")
    if form == "blocking":
        with heorot.connect(two_heads.directory) as cluster:
            assert any(note(now, job) for now in cluster.watch(["nodes", "jobs"], 0.1))
    else:

        async def follow() -> bool:
            async with asyncio.timeout(DEADLINE_S * 2), aio.connect(two_heads.directory) as cluster:
                async for now in cluster.watch(["nodes", "jobs"], 0.1):
                    if await asyncio.to_thread(note, now, job):
                        return True
            return False

        assert asyncio.run(follow())
    assert seen[0] == (4, True)


def test_waiting_survives_heads(two_heads: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = two_heads.detach("n1", "/bin/sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 5")
    with two_heads.start("bpjob", "wait", job) as process:
        kill_head(two_heads)
        gate.touch()
        _output, _errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 5


def test_joining_a_job_survives_heads(two_heads: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = two_heads.detach(
        "n1", "/bin/sh", "-c", f"seq 1000; while [ ! -e {gate} ]; do sleep 0.05; done; seq 3; exit 5"
    )
    with two_heads.start("bpjob", "attach", job) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"1\n2\n"
        kill_head(two_heads)
        gate.touch()
        output, _errors = process.communicate(timeout=DEADLINE_S)
    assert output == b"".join(b"%d\n" % number for number in [*range(3, 1001), 1, 2, 3])
    assert process.returncode == 5


def test_a_launch_whose_head_dies_is_started_once_or_not_at_all(two_heads: Cluster, tmp_path: Path) -> None:
    for attempt in range(5):
        log = tmp_path / f"started-{attempt}"
        pid = two_heads.head_pid()
        with two_heads.start("bpsh", "-a", "/bin/sh", "-c", f'echo "$BPROC_RANK" >> {log}') as process:
            kill_hard(pid)
            _output, errors = process.communicate(timeout=DEADLINE_S)
        ranks = sorted(map(int, log.read_text().split())) if log.exists() else []
        if process.returncode == 0:
            assert ranks == [0, 1, 2, 3]
        else:
            assert process.returncode in (125, 255)
            assert errors
            assert len(ranks) == len(set(ranks))
        two_heads.await_up()


def test_a_cluster_taken_down_ends_its_clients(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "cluster")
    made.up(2)
    try:
        with made.start("bpsh", "-a", "/bin/sh", "-c", "echo ready; sleep 600") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            made.down()
            _output, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        if made.directory.exists():
            made.down()
    assert process.returncode == 255
    assert b"was taken down" in errors


# ------------------------------------------------------------------ who has got everything meanwhile


def is_collected(made: Cluster, job: str) -> bool:
    """Say whether the head knows that somebody has collected all of a job."""
    with heorot.connect(made.directory) as connection, pytest.raises(heorot.RequestError) as refused:
        connection.attach(job)
    return refused.value.code == "collected"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that wait for a next head to tell it what they have, however long it takes to come."""
    monkeypatch.setattr(library, "RELEASE_TIMEOUT_S", DEADLINE_S)


def without_a_head(session: Session) -> Flow[None]:
    """Wait until the head is lost. Not `connected`: the next head may take the connection at once."""
    assert (yield Until(lambda: not session.greeted, DEADLINE_S))


@pytest.mark.usefixtures("patient")
def test_what_was_collected_without_a_head_is_released_at_the_next(two_heads: Cluster) -> None:
    with heorot.connect(two_heads.directory) as connection:
        job = connection.spawn(["/bin/sh", "-c", "echo done"], "n0")
        job.wait()
        kill_hard(two_heads.head_pid())
        connection._run(without_a_head(connection._session))
        assert job.communicate().stdout == [b"done\n"]
    assert is_collected(two_heads, job.id)


@pytest.mark.usefixtures("patient")
def test_the_asyncio_library_releases_at_the_next_head_too(two_heads: Cluster) -> None:
    async def run() -> str:
        async with aio.connect(two_heads.directory) as connection:
            job = await connection.spawn(["/bin/sh", "-c", "echo done"], "n0")
            await job.wait()
            await asyncio.to_thread(kill_hard, two_heads.head_pid())
            await connection._run(without_a_head(connection._session))
            assert (await job.communicate()).stdout == [b"done\n"]
            return job.id

    assert is_collected(two_heads, asyncio.run(run()))
