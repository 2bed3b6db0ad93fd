"""What is of the asyncio form of the library alone: tasks at the same time, and those that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

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


def test_jobs_at_the_same_time(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        results = await asyncio.gather(
            *(library.run(["cat"], "up", input=b"%d" % number * 1_500_000) for number in range(4))
        )
        assert [result.stdout for result in results] == [[b"%d" % number * 1_500_000] * 3 for number in range(4)]

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


def test_closing_wakes_who_waits(run: Callable[[Body], None]) -> None:
    async def body(library: aio.Cluster) -> None:
        job = await library.spawn(["sleep", "1000"], 0)
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        await library.close()
        with pytest.raises(heorot.ConnectionLost):
            await waiting

    run(body)
