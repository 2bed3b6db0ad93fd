"""The asyncio form of the library on a cluster of real daemons."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import heorot
from heorot import aio
from tests.support.local_cluster import LocalCluster

Body = Callable[[aio.Cluster], Awaitable[None]]


@pytest.fixture
def run(cluster: LocalCluster) -> Iterator[Callable[[Body], None]]:
    """Runs a coroutine function with a connection."""

    async def connected(body: Body) -> None:
        async with asyncio.timeout(60), aio.connect(cluster.directory) as library:
            await body(library)

    yield lambda body: asyncio.run(connected(body))
    cluster.await_idle()


def test_spawn_and_wait(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        job = await library.spawn(["sh", "-c", "exit $((0$BPROC_RANK + 3))"], "n[0-2]")
        assert [status.code for status in await job.wait()] == [3, 4, 5]

    run(body)


def test_jobs_at_the_same_time(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        results = await asyncio.gather(
            *(library.run(["cat"], "up", input=b"%d" % number * 1_500_000) for number in range(4))
        )
        assert [result.stdout for result in results] == [[b"%d" % number * 1_500_000] * 3 for number in range(4)]

    run(body)


def test_output_and_input(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        async with await library.spawn(["cat"], 1, stdin=heorot.PIPE) as job:
            await job.write(b"one\nt")
            assert await job.read() == heorot.Chunk(0, 1, b"one\nt")
            await job.write(b"wo\nthree")
            await job.close_stdin()
            assert [line.data async for line in job.lines] == [b"wo", b"three"]
            assert await job.read() is None

    run(body)


def test_signals_and_questions(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        async with await library.spawn(["sleep", "1000"], "up") as job:
            pids = await job.wait_started()
            assert {row["pid"] for row in await job.processes()} == set(pids.values())
            assert await job.signal(signal.SIGTERM, ranks=[0]) == 1
            assert await library.signal([pids[1]], signal.SIGTERM) == 1
            assert await job.kill() >= 1
            assert {status.signal for status in await job.wait()} <= {9, 15}
        assert [row["id"] for row in await library.nodes()] == [0, 1, 2]
        assert (await library.job(job.id))["state"] == "done"

    run(body)


def test_a_cancelled_run_ends_its_job(cluster: LocalCluster, run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await library.run(["sleep", "1000"], "up")
        assert await library.processes() == []

    run(body)


def test_a_cancelled_spawn_leaves_no_job(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        spawning = asyncio.create_task(library.spawn(["sleep", "1000"], "up"))
        await asyncio.sleep(0)
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
        # Answered after the launch, on the same connection.
        (job,) = [row["job"] for row in await library.jobs() if row["argv"] == [b"sleep", b"1000"]][-1:]
        assert (await library.wait(job))["statuses"] == {str(rank): {"signal": 9} for rank in range(3)}

    run(body)


def test_detach_and_attach(run: Callable[[Body], None], tmp_path: Path) -> None:
    async def body(library: aio.Cluster) -> None:
        gate = tmp_path / "gate"
        job = await library.spawn(["sh", "-c", f"echo one; while [ ! -e {gate} ]; do sleep 0.01; done; echo two"], 0)
        assert await job.read() == heorot.Chunk(0, 1, b"one\n")
        await job.detach()
        gate.touch()
        assert await job.wait() == [heorot.Status(0)]
        again = await library.attach(job.id, from_start=False)
        assert [chunk.data async for chunk in again.output] == [b"two\n"]

    run(body)


def test_refusals_are_typed(run: Callable[[Body], None], tmp_path: Path) -> None:
    async def body(library: aio.Cluster) -> None:
        with pytest.raises(heorot.RequestError, match="no node n99"):
            await library.spawn(["true"], "n99")
        with pytest.raises(heorot.RequestError, match="no cluster"):
            await aio.connect(tmp_path)

    run(body)


def test_closing_wakes_who_waits(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        job = await library.spawn(["sleep", "1000"], 0)
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        await library.close()
        with pytest.raises(heorot.ConnectionLost):
            await waiting

    run(body)
