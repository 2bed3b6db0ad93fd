"""The Python library, asyncio form: the names and meanings of `heorot.client.blocking`, with ``await`` where it waits.

    async with heorot.aio.connect() as cluster:
        job = await cluster.spawn(["hostname"], "n[0-63]")
        async for line in job.lines:
            print(line.rank, line.data)
        print(await job.wait())

A cluster belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from heorot.client.copies import Copied
from heorot.client.endpoint import cluster_directory, cluster_mark, connect_head
from heorot.client.get import Get
from heorot.client.job import (
    BROADCAST,
    DEVNULL,
    PIPE,
    STDIN_PIECE_BYTES,
    Argument,
    Chunk,
    Completed,
    JobBase,
    LineSplitter,
    Nodes,
    Where,
    node_list,
    path_list,
    spawn_fields,
)
from heorot.client.put import Put
from heorot.client.search import REACH_S, HeadSearch
from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.end import Status
from heorot.core.client.job import JobState
from heorot.core.client.session import RELEASE_TIMEOUT_S, SIGKILL, NewOutput, Session
from heorot.core.errors import ProtocolError, RequestError
from heorot.images.offer import Upload

if TYPE_CHECKING:
    import _socket

# As in heorot.client.connection.
messages.use_compiled()

CLOSE_TIMEOUT_S = 10.0
"""How long `Job.close` waits for a killed job to be over."""


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
        await cluster._open()
        return cluster

    async def __aenter__(self) -> Cluster:
        self._cluster = await self._open()
        return self._cluster

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._cluster is not None
        await self._cluster.close()


class _Link(asyncio.Protocol):
    """Feeds what arrives to the session and wakes whoever waits for a change; goes on with the next head."""

    def __init__(
        self, directory: str, on_output: Callable[[NewOutput], None], reconnect_timeout_s: float | None
    ) -> None:
        self.session = Session()
        self._directory = directory
        self._cluster_mark = cluster_mark(directory)
        self._reconnect_timeout_s = reconnect_timeout_s
        self._search: HeadSearch | None = None
        """Since the head was lost, until the next one has greeted us."""
        self._reconnecting: asyncio.Task[None] | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._on_output = on_output
        self._waiters: set[asyncio.Future[None]] = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self.session.connected and self.session.closed is None:
            self.session.reconnected()
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.session.receive(data, monotonic_ns() // 1_000_000):
                if isinstance(event, NewOutput):
                    self._on_output(event)
        except ProtocolError:
            pass  # the session is closed and says why to everybody who waits
        if self.session.greeted:
            self._search = None
        self.flush()
        self._changed()
        if self.session.closed is not None:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.session.closed is not None:
            self._ended("")
            return
        self.session.connection_lost()
        if self._search is None:
            self._search = HeadSearch(self._directory, self._cluster_mark, self._reconnect_timeout_s)
        self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect(self._search))
        self._changed()

    async def _reconnect(self, search: HeadSearch) -> None:
        try:
            while self.session.closed is None:
                await asyncio.sleep(max(0.0, search.next_at - monotonic()))
                raw = search.attempt()
                if raw is not None:
                    await _hand_over(raw, self)
                    return
        except RequestError as error:
            self._ended(f"the connection to the head is gone: {error.message}")

    def _ended(self, reason: str) -> None:
        self.session.disconnected(reason)
        self._changed()
        if not self.closed.done():
            self.closed.set_result(None)

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def flush(self) -> None:
        """Hand what is to be sent to the transport. Its buffer is bounded by the windows of the input streams."""
        outgoing = self.session.outgoing
        if outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(outgoing))
        outgoing.clear()

    def close(self) -> None:
        """Send what is to be sent, then close."""
        self.flush()
        connected = self.session.connected
        self.session.disconnected("the connection was closed")
        assert self._transport is not None
        self._transport.close()
        if not connected:
            if self._reconnecting is not None:
                self._reconnecting.cancel()
            self._ended("")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds. Raises RequestError if the connection ends before."""
        self.flush()
        while not condition():
            if self.session.closed is not None:
                raise self.session.closed
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    async def answer(self, request: Request) -> list[Any]:
        """Wait for the answer to a request. Raises RequestError with what it was refused for."""
        await self.until(lambda: request.finished)
        if request.error is not None:
            raise request.error
        return request.value


async def _hand_over(raw: _socket.socket, link: _Link) -> None:
    """Let the event loop serve a connected socket."""
    connection = socket.socket(fileno=raw.detach())
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=connection)
    except BaseException:
        connection.close()
        raise


class Cluster:
    """A connection to a cluster's head. Closing it ends its jobs unless they are detached."""

    def __init__(self, directory: str, reconnect_timeout_s: float | None = None) -> None:
        self.directory = directory
        self._reconnect_timeout_s = reconnect_timeout_s
        self._jobs: dict[int, Job] = {}
        self._link: _Link

    async def _open(self) -> None:
        search = HeadSearch(self.directory, cluster_mark(self.directory), REACH_S)
        try:
            # A unix socket connects at once or not at all.
            raw = connect_head(self.directory)
        except RequestError as error:
            if error.code != "no-head":
                raise
            while (found := search.attempt()) is None:
                await asyncio.sleep(max(0.0, search.next_at - monotonic()))
            raw = found
        self._link = _Link(self.directory, self._on_output, self._reconnect_timeout_s)
        await _hand_over(raw, self._link)

    async def close(self) -> None:
        """Close the connection. If the head was lost meanwhile, wait a little for the next one, to tell it which jobs
        are collected.
        """
        session = self._link.session
        if session.owes_releases:
            with suppress(RequestError, TimeoutError):
                async with asyncio.timeout(RELEASE_TIMEOUT_S):
                    await self._link.until(lambda: not session.owes_releases)
        self._link.close()
        await self._link.closed

    def _on_output(self, event: NewOutput) -> None:
        job = self._jobs.get(id(event.job))
        if job is not None:
            job._received(event)

    async def _ask(self, build: Any, *fields: Any) -> list[Any]:
        return await self._link.answer(self._link.session.ask(build, *fields))

    # -------------------------------------------------- jobs

    async def spawn(
        self,
        argv: Sequence[Argument],
        nodes: Nodes = "up",
        *,
        stdin: Where = DEVNULL,
        stdout: Where = PIPE,
        stderr: Where = PIPE,
        environment: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        directory: Argument | None = None,
        umask: int | None = None,
        limits: Mapping[int, tuple[int, int]] | None = None,
        terminal: tuple[int, int] | None = None,
        detached: bool = False,
        max_processes: int = 0,
        headless_s: float = 0,
        linger: bool = False,
        image: str = "auto",
        extra_files: Sequence[Argument] = (),
    ) -> Job:
        """Start a command on nodes. See `heorot.client.blocking.Cluster.spawn`."""
        fields, offer = spawn_fields(
            argv, nodes, stdin=stdin, stdout=stdout, stderr=stderr, environment=environment, directory=directory,
            umask=umask, limits=limits, terminal=terminal, detached=detached, max_processes=max_processes,
            headless_s=headless_s, linger=linger, image=image, extra_files=extra_files,
        )  # fmt: skip
        if offer is not None:
            self._link.session.offer(Upload(offer), offer.image)
            if detached:
                await self._link.answer(self._link.session.stage(offer.image))
        return await self._launch(fields, detached)

    async def run(self, argv: Sequence[Argument], nodes: Nodes = "up", input: bytes = b"", **options: Any) -> Completed:
        """Run a command on nodes to its end; `options` are those of `spawn`."""
        async with await self.spawn(argv, nodes, stdin=PIPE if input else DEVNULL, **options) as job:
            return await job.communicate(input)

    async def attach(self, job: str, from_start: bool = True) -> Job:
        """Read a detached or unattended job. See `heorot.client.blocking.Cluster.attach`."""
        return await self._job(self._link.session.attach(job, from_start), False)

    async def _launch(self, fields: dict[str, Any], detached: bool = False) -> Job:
        return await self._job(self._link.session.spawn(monotonic_ns() // 1_000_000, **fields), detached)

    async def _job(self, state: JobState, detached: bool) -> Job:
        job = self._jobs[id(state)] = Job(self, self._link, state, detached)
        try:
            await self._link.until(lambda: state.launched or state.error is not None)
            if state.error is not None:
                raise state.error
        except BaseException:
            del self._jobs[id(state)]
            self._link.session.give_up(state)
            self._link.flush()
            raise
        return job

    def _forget(self, state: JobState) -> None:
        self._jobs.pop(id(state), None)

    async def wait(self, job: str) -> dict[str, Any]:
        """Wait until a job is over; return it as `job` does."""
        return dict((await self._ask(messages.wait, job))[0])

    async def copy_to(
        self,
        sources: Argument | Sequence[Argument],
        nodes: Nodes,
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
    ) -> Copied:
        """Copy files of this host to nodes. See `heorot.client.blocking.Cluster.copy_to`."""
        put = Put(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        if put.empty:
            return Copied([], put.problems, 0)
        if put.has_to_look(node_list(nodes)):
            async with await self._launch(put.look_fields(node_list(nodes))) as job:
                await job.wait()
                put.looked(job._state)
        self._link.session.offer(put.upload, put.offer.image)
        async with await self._launch(put.fields(node_list(nodes))) as job:
            return await _copy(put, job)

    async def copy_from(
        self,
        nodes: Nodes,
        sources: Argument | Sequence[Argument],
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
    ) -> Copied:
        """Copy files of nodes to this host. See `heorot.client.blocking.Cluster.copy_from`."""
        get = Get(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        async with await self._launch(get.fields(node_list(nodes))) as job:
            try:
                get.begin(job.nodes)
                return await _copy(get, job)
            finally:
                get.close()

    async def status(self) -> dict[str, Any]:
        """Return heads, epoch, nodes and tree, as ``heorot status --json``."""
        return dict((await self._ask(messages.status))[0])

    async def nodes(self, nodes: Nodes = "") -> list[dict[str, Any]]:
        """Return a row for each node (all by default)."""
        return list((await self._ask(messages.list_nodes, node_list(nodes)))[0])

    async def processes(self, nodes: Nodes = "", job: str | None = None) -> list[dict[str, Any]]:
        """Return a row for each process, as ``bpps --json``. Nodes that do not answer are left out."""
        return list((await self._ask(messages.list_processes, node_list(nodes), job))[0]["processes"])

    async def jobs(self) -> list[dict[str, Any]]:
        """Return a row for each job that the cluster knows."""
        return list((await self._ask(messages.list_jobs))[0])

    async def job(self, job: str) -> dict[str, Any]:
        """Return one job, with ``statuses``."""
        return dict((await self._ask(messages.show_job, job))[0])

    async def resolve(self, nodes: Nodes) -> list[int]:
        """Return the numbers of the nodes that a list names, in order, repeats included."""
        return list((await self._ask(messages.resolve, node_list(nodes), "list"))[0])

    async def signal(self, pids: Sequence[int], number: int) -> int:
        """Signal processes by cluster-wide PID (negative: a process group); return how many got it."""
        request = self._link.session.signal_processes(list(pids), int(number))
        return int((await self._link.answer(request))[0])


async def _copy(copy: Put | Get, job: Job) -> Copied:
    while (chunk := await job.read()) is not None:
        copy.take(*chunk)
    return copy.finish(job._state)


class Job(JobBase):
    """A job of this connection. An asynchronous context manager: leaving it closes the job."""

    def __init__(self, cluster: Cluster, link: _Link, state: JobState, detached: bool) -> None:
        super().__init__(link.session, state, detached)
        self._cluster = cluster
        self._link = link

    async def __aenter__(self) -> Job:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def wait(self) -> list[Status]:
        """Wait until every rank is over; return how they ended, by rank."""
        if self._detached and self._wait_request is None and not self._state.done:
            self._wait_request = self._session.ask(messages.wait, self.id)
        await self._link.until(self._is_over)
        self._take_wait_answer()
        self._collected()
        return self._status_list()

    async def wait_started(self) -> dict[int, int]:
        """Wait until every rank runs (or is over, or could not be started); return the PIDs."""
        self._readable()
        await self._link.until(self._is_started)
        return self.pids

    def _collected(self) -> None:
        if not self._detached:
            self._release_if_collected()
        self._link.flush()

    # -------------------------------------------------- output

    async def read(self) -> Chunk | None:
        """Return the next piece of output, or None when there will be no more."""
        self._readable()
        await self._link.until(lambda: bool(self._chunks) or self._state.complete)
        chunk = self._take() if self._chunks else None
        self._collected()
        return chunk

    @property
    async def output(self) -> AsyncIterator[Chunk]:
        """Iterate over the output of all ranks as it comes, until the job is over; each byte is given once."""
        while (chunk := await self.read()) is not None:
            yield chunk

    @property
    async def lines(self) -> AsyncIterator[Chunk]:
        """Iterate over whole lines, without their ends, as they come."""
        splitter = LineSplitter()
        while (chunk := await self.read()) is not None:
            for line in splitter.feed(chunk):
                yield line
        for line in splitter.finish():
            yield line

    async def communicate(self, input: bytes = b"") -> Completed:
        """Send `input` to all ranks, close it, read everything, and wait for the end."""
        self._readable()
        stdin = self._state.stdin_stream()
        rest = memoryview(input)
        chunks: list[Chunk] = []

        def ready() -> bool:
            writable = bool(rest) and not stdin.closed and stdin.room_bytes > 0
            return bool(self._chunks) or self._state.complete or writable

        if not input and not stdin.ended:
            self._session.send_stdin(self._state, b"", end=True)
        while True:
            await self._link.until(ready)
            if rest and not stdin.closed and (size := min(stdin.room_bytes, STDIN_PIECE_BYTES)) > 0:
                piece, rest = bytes(rest[:size]), rest[size:]
                self._session.send_stdin(self._state, piece, end=not rest)
            while self._chunks:
                chunks.append(self._take())
            if self._state.complete:
                self._collected()
                return self._completed(chunks)

    # -------------------------------------------------- input and control

    async def write(self, data: bytes, rank: int | None = None) -> None:
        """Send input to all ranks, or to one; waits while a window of 1 MiB is full. Raises BrokenPipeError."""
        self._readable()
        target = BROADCAST if rank is None else rank
        rest = memoryview(data)
        while rest:
            await self._link.until(lambda: self._stdin_room(target) > 0)
            size = min(self._stdin_room(target), STDIN_PIECE_BYTES)
            self._session.send_stdin(self._state, bytes(rest[:size]), rank=target)
            rest = rest[size:]
        self._link.flush()

    async def close_stdin(self, rank: int | None = None) -> None:
        """Say that there is no more input; doing so twice does no harm."""
        self._readable()
        target = BROADCAST if rank is None else rank
        if not self._state.stdin_stream(target).ended and not self._state.done:
            self._session.send_stdin(self._state, b"", end=True, rank=target)
            self._link.flush()

    async def signal(self, number: int, ranks: Sequence[int] | None = None) -> int:
        """Signal all ranks, or some; return how many processes got it. See `heorot.client.blocking.Job.signal`."""
        if self._state.done:
            return 0
        request = self._session.signal(self._state, int(number), None if ranks is None else list(ranks))
        return int((await self._link.answer(request))[0])

    async def kill(self) -> int:
        """Kill all ranks."""
        return await self.signal(SIGKILL)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the ranks' terminals a new size."""
        self._session.resize(self._state, rows, columns)
        self._link.flush()

    async def processes(self) -> list[dict[str, Any]]:
        """Return a row for each process of the job, those that the ranks have started included."""
        return await self._cluster.processes(job=self.id)

    async def detach(self) -> None:
        """Let the job go on without this program; its output is kept until somebody attaches."""
        self._session.acknowledge_all(self._state)
        await self._link.answer(self._session.ask(messages.detach, self.id))
        self._detached = True
        self._session.forget(self._state)
        self._cluster._forget(self._state)

    async def close(self) -> None:
        """End the job if it still runs, and let the cluster forget it; of a detached job only this handle goes."""
        if self._detached or self._session.closed is not None:
            self._cluster._forget(self._state)
            return
        try:
            self._drop_output()
            if not self._state.done:
                self._session.signal(self._state, SIGKILL)
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._link.until(lambda: self._state.done)
        finally:
            self._session.release(self._state)
            self._link.flush()
            self._cluster._forget(self._state)
