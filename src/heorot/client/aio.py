"""The Python library, asyncio form: the names and meanings of `heorot.client.blocking`, with ``await`` where it waits.

    async with heorot.aio.connect() as cluster:
        job = await cluster.spawn(["hostname"], "n[0-63]")
        async for line in job.lines:
            print(line.rank, line.data)
        print(await job.wait())

A cluster belongs to one event loop. What each method does is in `heorot.client.cluster` and `heorot.client.job`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Sequence
from types import TracebackType
from typing import Any, Unpack

from heorot.client.aio_runner import AioRunner
from heorot.client.cluster import ClusterFlows, Progress
from heorot.client.copies import Copied
from heorot.client.endpoint import cluster_directory
from heorot.client.get import Get
from heorot.client.job import Chunk, Completed, JobFlows, LineSplitter
from heorot.client.launch import DEVNULL, PIPE, Argument, Nodes, SpawnOptions, path_list, spawn_fields, stage_fields
from heorot.client.node_control import AsyncNodeControl
from heorot.client.put import Put
from heorot.client.rank import AwaitedRank, Ranks
from heorot.core.client.end import Status
from heorot.core.client.job import JobState
from heorot.core.client.session import SIGKILL, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.client.watched import Watched


def connect(directory: str | os.PathLike[str] | None = None, *, reconnect_timeout_s: float | None = None) -> Connecting:
    """Open a cluster: ``await connect()``, or ``async with connect() as cluster``. See
    `heorot.client.blocking.connect`.
    """
    return Connecting(cluster_directory(None if directory is None else os.fspath(directory)), reconnect_timeout_s)


class Connecting:
    """What `connect` returns: to be awaited, or used as an asynchronous context manager."""

    def __init__(self, directory: str, reconnect_timeout_s: float | None = None) -> None:
        self._directory = directory
        self._reconnect_timeout_s = reconnect_timeout_s
        self._cluster: Cluster | None = None

    def __await__(self) -> Generator[Any, None, Cluster]:
        return self._open().__await__()

    async def _open(self) -> Cluster:
        cluster = Cluster(self._directory, self._reconnect_timeout_s)
        await cluster._runner.open()
        return cluster

    async def __aenter__(self) -> Cluster:
        self._cluster = await self._open()
        return self._cluster

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._cluster is not None
        await self._cluster.close()


class Cluster(ClusterFlows["Job"], AsyncNodeControl):
    """A connection to a cluster's head. An asynchronous context manager: leaving it closes the connection, which ends
    its jobs unless they are detached.
    """

    def __init__(self, directory: str, reconnect_timeout_s: float | None = None) -> None:
        super().__init__(directory, Session(hears_used=True))
        self._runner = AioRunner(directory, self._session, self._received, reconnect_timeout_s)
        self._run = self._runner.run

    def _new_job(self, state: JobState, detached: bool) -> Job:
        return Job(self, state, detached)

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. See `heorot.client.blocking.Cluster.close`."""
        await self._run(self._close())
        self._runner.close()

    # -------------------------------------------------- jobs

    async def spawn(self, argv: Sequence[Argument], nodes: Nodes = "up", **options: Unpack[SpawnOptions]) -> Job:
        """Start a command on nodes. See `heorot.client.blocking.Cluster.spawn`."""
        return await self._run(self._spawn(*spawn_fields(argv, nodes, **options)))

    async def run(
        self, argv: Sequence[Argument], nodes: Nodes = "up", input: bytes = b"", **options: Unpack[SpawnOptions]
    ) -> Completed:
        """Run a command on nodes to its end; `options` are those of `spawn`. What interrupts it ends the job."""
        options.setdefault("stdin", PIPE if input else DEVNULL)
        return await self._run(self._run_job(*spawn_fields(argv, nodes, **options), input))

    async def stage(self, program: Argument, nodes: Nodes = "up", extra_files: Sequence[Argument] = ()) -> Completed:
        """Send a program ahead. See `heorot.client.blocking.Cluster.stage`."""
        return await self._run(self._run_job(*stage_fields(program, nodes, extra_files), b""))

    async def attach(self, job: str, from_start: bool = True) -> Job:
        """Read a detached or unattended job. See `heorot.client.blocking.Cluster.attach`."""
        return await self._run(self._attach(job, from_start))

    async def wait(self, job: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until a job is over; return it as `job` does. Raises TimeoutError."""
        return await self._run(self._wait(job, timeout_s))

    # -------------------------------------------------- copies

    async def copy_to(
        self,
        sources: Argument | Sequence[Argument],
        nodes: Nodes,
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
        progress: Progress | None = None,
    ) -> Copied:
        """Copy files of this host to nodes. See `heorot.client.blocking.Cluster.copy_to`."""
        put = Put(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        return await self._run(self._copy_to(put, nodes, progress))

    async def copy_from(
        self,
        nodes: Nodes,
        sources: Argument | Sequence[Argument],
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
        progress: Progress | None = None,
    ) -> Copied:
        """Copy files of nodes to this host. See `heorot.client.blocking.Cluster.copy_from`."""
        get = Get(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        return await self._run(self._copy_from(get, nodes, progress))

    # -------------------------------------------------- questions

    async def status(self) -> dict[str, Any]:
        """Return heads, epoch, nodes and tree, as ``heorot status --json``."""
        return await self._run(self._status())

    async def nodes(self, nodes: Nodes = "") -> list[dict[str, Any]]:
        """Return a row for each node (all by default): ``id``, ``name``, ``state``, ..."""
        return await self._run(self._nodes(nodes))

    async def processes(self, nodes: Nodes = "", job: str | None = None) -> list[dict[str, Any]]:
        """Return a row for each process, as ``bpps --json``. Nodes that do not answer are left out."""
        return await self._run(self._processes(nodes, job))

    async def jobs(self) -> list[dict[str, Any]]:
        """Return a row for each job that the cluster knows, as ``bpjob list --json``."""
        return await self._run(self._list_jobs())

    async def job(self, job: str) -> dict[str, Any]:
        """Return one job, with ``statuses``, as ``bpjob show --json``."""
        return await self._run(self._job(job))

    async def watch(
        self, topics: str | Sequence[str], interval_s: float = 1.0, nodes: Nodes = "", job: str | None = None
    ) -> AsyncIterator[Watched]:
        """Iterate over what there is, and what changes. See `heorot.client.blocking.Cluster.watch`."""
        from heorot.client.watched import Watched

        watched = Watched()
        request = await self._run(self._begin_watch(topics, interval_s, nodes, job))
        try:
            while True:
                await self._run(self._next_update(request, watched))
                yield watched
        finally:
            await self._run(self._end_watch(request))

    async def resolve(self, nodes: Nodes) -> list[int]:
        """Return the numbers of the nodes that a list names, in order, repeats included."""
        return await self._run(self._resolve(nodes))

    async def _change(self, nodes: Nodes, fields: dict[str, Any]) -> dict[str, Any]:
        return await self._run(self._set_nodes(nodes, fields))

    async def signal(self, pids: Sequence[int], number: int) -> int:
        """Signal processes by cluster-wide PID (negative: a process group); return how many got it."""
        return await self._run(self._signal(pids, number))


class Job(JobFlows):
    """A job of this connection. An asynchronous context manager: leaving it closes the job."""

    def __init__(self, cluster: Cluster, state: JobState, detached: bool) -> None:
        super().__init__(cluster._session, state, detached, cluster._forget)
        self._run = cluster._run
        self.ranks: Ranks[AwaitedRank] = Ranks(self, lambda number: AwaitedRank(self, number, self._run))
        """See `heorot.client.blocking.Job.ranks`."""

    async def __aenter__(self) -> Job:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def poll(self) -> list[Status] | None:
        """Return how the ranks ended, by rank, or None while some run; does not wait."""
        return await self._run(self._poll())

    async def wait(self, timeout_s: float | None = None) -> list[Status]:
        """Wait until every rank is over; return how they ended, by rank. See `heorot.client.blocking.Job.wait`."""
        return await self._run(self._wait(timeout_s))

    async def wait_started(self, timeout_s: float | None = None) -> dict[int, int]:
        """Wait until every rank runs (or is over, or could not be started); return the PIDs. Raises TimeoutError."""
        return await self._run(self._wait_started(timeout_s))

    # -------------------------------------------------- output

    async def read(self, timeout_s: float | None = None) -> Chunk | None:
        """Return the next piece of output, or None when there will be no more. Raises TimeoutError."""
        return await self._run(self._read(timeout_s))

    @property
    async def output(self) -> AsyncIterator[Chunk]:
        """Iterate over the output of all ranks as it comes, until the job is over; each byte is given once."""
        while (chunk := await self.read()) is not None:
            yield chunk

    @property
    async def lines(self) -> AsyncIterator[Chunk]:
        """Iterate over whole lines, without their ends, as they come."""
        splitter = LineSplitter()
        async for chunk in self.output:
            for line in splitter.feed(chunk):
                yield line
        for line in splitter.finish():
            yield line

    async def communicate(self, input: bytes = b"", timeout_s: float | None = None) -> Completed:
        """Send `input` to all ranks, close it, read everything, and wait for the end. Raises TimeoutError."""
        return await self._run(self._communicate(input, timeout_s))

    # -------------------------------------------------- input and control

    async def write(self, data: bytes, rank: int | None = None, timeout_s: float | None = None) -> None:
        """Send input to all ranks, or to one. See `heorot.client.blocking.Job.write`."""
        await self._run(self._write(data, rank, timeout_s))

    async def close_stdin(self, rank: int | None = None) -> None:
        """Say that there is no more input; doing so twice does no harm."""
        await self._run(self._close_stdin(rank))

    async def signal(self, number: int, ranks: Sequence[int] | None = None) -> int:
        """Signal all ranks, or some; return how many processes got it. See `heorot.client.blocking.Job.signal`."""
        return await self._run(self._signal(number, ranks))

    async def kill(self) -> int:
        """Kill all ranks."""
        return await self.signal(SIGKILL)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the ranks' terminals a new size."""
        await self._run(self._resize(rows, columns))

    async def processes(self) -> list[dict[str, Any]]:
        """Return a row for each process of the job, those that the ranks have started included."""
        return await self._run(self._processes())

    async def detach(self) -> None:
        """Let the job go on without this program; its output is kept until somebody attaches."""
        await self._run(self._detach())

    async def close(self) -> None:
        """End the job if it still runs, and let the cluster forget it. See `heorot.client.blocking.Job.close`."""
        await self._run(self._close())
