"""The Python library, blocking form: `connect` to a cluster, `spawn` jobs, read, write, signal, wait.

Several threads may use one cluster. Only those who wait make progress: output that nobody reads stays on the nodes,
and a rank that writes more than its window then waits, as a process does whose pipe nobody reads. A program that nodes
do not have is sent to them while somebody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, TypeAlias

from heorot.client.connection import Connection
from heorot.client.copies import Copied
from heorot.client.endpoint import cluster_directory
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
from heorot.core.client import messages
from heorot.core.client.end import Status
from heorot.core.client.session import RELEASE_TIMEOUT_S, NewOutput
from heorot.core.errors import RequestError
from heorot.images.offer import Upload

CLOSE_TIMEOUT_S = 10.0
"""How long `Job.close` waits for a killed job to be over."""
PROGRESS_S = 0.1
"""How often a copy says how far it is."""
Progress: TypeAlias = Callable[[int, int, int], object]
SIGKILL = 9


def connect(directory: str | os.PathLike[str] | None = None, *, reconnect_timeout_s: float | None = None) -> Cluster:
    """Return a connection to the cluster at `directory`; by default that of ``HEOROT_DIR``, else ``/run/heorot``.

    A head that is lost is replaced by another one; the connection goes on with that one by itself, and its jobs with
    all of their output and input.

    Parameters
    ----------
    reconnect_timeout_s:
        How long to look for another head when one is lost; None: as long as the cluster is there; 0: not at all.

    Raises
    ------
    RequestError
        Code ``no-cluster`` if there is none, ``no-head`` if nobody listens there, not even after five seconds.
    """
    return Cluster(cluster_directory(None if directory is None else os.fspath(directory)), reconnect_timeout_s)


class Cluster:
    """A connection to a cluster's head. A context manager: leaving it closes the connection, which ends its jobs
    unless they are detached."""

    def __init__(self, directory: str, reconnect_timeout_s: float | None = None) -> None:
        self.directory = directory
        self._jobs: dict[int, Job] = {}
        self._connection = Connection(directory, self._on_output, reconnect_timeout_s)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. If the head was lost meanwhile, wait a little for the next one, to tell it which jobs
        are collected.
        """
        with self._connection.lock, suppress(RequestError):
            session = self._connection.session
            self._connection.wait_until(lambda: not session.owes_releases, RELEASE_TIMEOUT_S)
        self._connection.close()

    def _on_output(self, event: NewOutput) -> None:
        job = self._jobs.get(id(event.job))
        if job is not None:
            job._received(event)

    def _ask(self, build: Any, *fields: Any) -> list[Any]:
        with self._connection.lock:
            return self._connection.answer(self._connection.session.ask(build, *fields)).value

    # -------------------------------------------------- jobs

    def spawn(
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
        """Start a command on nodes and return the job as soon as the cluster has taken it on.

        Parameters
        ----------
        argv:
            The command and its arguments.
        nodes:
            A node list such as ``"n[0-63]"`` or ``"up"``, a number, or several numbers; rank 0 is the first.
        stdin, stdout, stderr:
            `PIPE`, `DEVNULL`, or a path on the node. With `PIPE` as stdin the ranks wait for `write` and `close_stdin`.
        environment, directory, umask, limits:
            Those of this process by default. `limits` maps ``RLIMIT_*`` to soft and hard limit, -1 for none.
        terminal:
            Rows and columns: every rank gets a terminal, and all of its output is stdout.
        detached:
            The job outlives this connection and keeps its output until somebody attaches.
        max_processes:
            The job is ended if it has more processes on a node; 0: the cluster's default.
        headless_s:
            The job is ended on a node that has been without any head for so long; 0: it runs to its end.
        linger:
            What a rank leaves running belongs to it: it is over when the last of that has ended. Otherwise that is
            killed when the rank's own process has ended, and `Job.reason` says how much it was.
        image:
            ``"auto"``: a node runs its own file if it is the same as here, else it is sent this one, with its
            interpreter and libraries; ``"send"``: always the latter; ``"path"``: nodes run what they have.
        extra_files:
            Files and directories that are sent with the program.

        Raises
        ------
        RequestError
            If the cluster refuses: unknown node, node down, no permission, ...
        ImageError
            If the program cannot be sent: a library of it is missing, it is for another kind of machine, ...
        """
        fields, offer = spawn_fields(
            argv, nodes, stdin=stdin, stdout=stdout, stderr=stderr, environment=environment, directory=directory,
            umask=umask, limits=limits, terminal=terminal, detached=detached, max_processes=max_processes,
            headless_s=headless_s, linger=linger, image=image, extra_files=extra_files,
        )  # fmt: skip
        with self._connection.lock:
            if offer is not None:
                session = self._connection.session
                session.offer(Upload(offer), offer.image)
                if detached:
                    # This program may be gone when a node asks for it.
                    self._connection.answer(session.stage(offer.image))
            return self._job(self._connection.spawn(fields), detached)

    def run(self, argv: Sequence[Argument], nodes: Nodes = "up", input: bytes = b"", **options: Any) -> Completed:
        """Run a command on nodes to its end; `options` are those of `spawn`."""
        with self.spawn(argv, nodes, stdin=PIPE if input else DEVNULL, **options) as job:
            return job.communicate(input)

    def attach(self, job: str, from_start: bool = True) -> Job:
        """Read a detached or unattended job.

        Parameters
        ----------
        from_start:
            From the first byte that is still kept; else from the last that somebody has acknowledged.

        Raises
        ------
        RequestError
            ``no-such-job``, ``attended`` (somebody reads it already), ``collected``.
        """
        with self._connection.lock:
            return self._job(self._connection.session.attach(job, from_start), False)

    def _job(self, state: Any, detached: bool) -> Job:
        job = Job(self, self._connection, state, detached)
        # Before its first output can arrive.
        self._jobs[id(state)] = job
        try:
            self._connection.wait_until(lambda: state.launched or state.error is not None)
            if state.error is not None:
                raise state.error
        except BaseException:
            del self._jobs[id(state)]
            self._connection.session.give_up(state)
            raise
        return job

    def _forget(self, state: Any) -> None:
        self._jobs.pop(id(state), None)

    def wait(self, job: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until a job is over; return it as `job` does. Raises TimeoutError."""
        with self._connection.lock:
            request = self._connection.session.ask(messages.wait, job)
            value: dict[str, Any] = self._connection.answer(request, timeout_s).value[0]
            return value

    # -------------------------------------------------- copies

    def copy_to(
        self,
        sources: Argument | Sequence[Argument],
        nodes: Nodes,
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
        progress: Progress | None = None,
    ) -> Copied:
        """Copy files of this host to nodes, through the tree, and return what became of it.

        Parameters
        ----------
        destination:
            A path on the nodes. A directory takes the files under their own names; several files need one.
        recursive:
            Copy directories with all that is in them.
        preserve:
            Keep mode and modification time, and as root the owner.
        progress:
            Called now and then, and at the end, with the bytes that have left this host, how many nodes are done, and
            how many there are.

        Raises
        ------
        RequestError
            If the cluster refuses: unknown node, node down, no permission, ...
        CopyError
            If nothing can be copied.
        """
        put = Put(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        if put.empty:
            return Copied([], put.problems, 0)
        if put.has_to_look(node_list(nodes)):
            with self._connection.lock:
                job = self._job(self._connection.spawn(put.look_fields(node_list(nodes))), False)
            with job:
                job.wait()
                put.looked(job._state)
        with self._connection.lock:
            self._connection.session.offer(put.upload, put.offer.image)
            job = self._job(self._connection.spawn(put.fields(node_list(nodes))), False)
        return self._copy(put, job, progress)

    def copy_from(
        self,
        nodes: Nodes,
        sources: Argument | Sequence[Argument],
        destination: Argument,
        *,
        recursive: bool = False,
        preserve: bool = False,
        progress: Progress | None = None,
    ) -> Copied:
        """Copy files of nodes to this host, and return what became of it. Parameters are those of `copy_to`.

        From several nodes the destination is a directory, and the node's name is added to each file's: ``FILE.n3``.
        """
        get = Get(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        with self._connection.lock:
            job = self._job(self._connection.spawn(get.fields(node_list(nodes))), False)
        with job:
            try:
                get.begin(job.nodes)
                return self._copy(get, job, progress)
            finally:
                get.close()

    def _copy(self, copy: Put | Get, job: Job, progress: Progress | None) -> Copied:
        with job:
            while True:
                try:
                    chunk = job.read(None if progress is None else PROGRESS_S)
                    if chunk is None:
                        if progress is not None:
                            progress(copy.done_bytes, len(job.statuses), len(job.nodes))
                        return copy.finish(job._state)
                    copy.take(*chunk)
                except TimeoutError:
                    pass
                if progress is not None:
                    progress(copy.done_bytes, len(job.statuses), len(job.nodes))

    # -------------------------------------------------- questions

    def status(self) -> dict[str, Any]:
        """Return heads, epoch, nodes and tree, as ``heorot status --json``."""
        return dict(self._ask(messages.status)[0])

    def nodes(self, nodes: Nodes = "") -> list[dict[str, Any]]:
        """Return a row for each node (all by default): ``id``, ``name``, ``state``, ..."""
        return list(self._ask(messages.list_nodes, node_list(nodes))[0])

    def processes(self, nodes: Nodes = "", job: str | None = None) -> list[dict[str, Any]]:
        """Return a row for each process, as ``bpps --json``. Nodes that do not answer are left out."""
        return list(self._ask(messages.list_processes, node_list(nodes), job)[0]["processes"])

    def jobs(self) -> list[dict[str, Any]]:
        """Return a row for each job that the cluster knows, as ``bpjob list --json``."""
        return list(self._ask(messages.list_jobs)[0])

    def job(self, job: str) -> dict[str, Any]:
        """Return one job, with ``statuses``, as ``bpjob show --json``."""
        return dict(self._ask(messages.show_job, job)[0])

    def resolve(self, nodes: Nodes) -> list[int]:
        """Return the numbers of the nodes that a list names, in order, repeats included."""
        return list(self._ask(messages.resolve, node_list(nodes), "list")[0])

    def signal(self, pids: Sequence[int], number: int) -> int:
        """Signal processes by cluster-wide PID (negative: a process group); return how many got it. See `Job.signal`
        for a head that is lost meanwhile.
        """
        with self._connection.lock:
            self._connection.notice()
            request = self._connection.session.signal_processes(list(pids), int(number))
            return int(self._connection.answer(request).value[0])


class Job(JobBase):
    """A job of this connection. A context manager: leaving it closes the job."""

    def __init__(self, cluster: Cluster, connection: Connection, state: Any, detached: bool) -> None:
        super().__init__(connection.session, state, detached)
        self._cluster = cluster
        self._connection = connection

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def poll(self) -> list[Status] | None:
        """Return how the ranks ended, by rank, or None while some run; does not wait."""
        with self._connection.lock:
            if not self._wait_until(self._over, 0):
                return None
            return self._status_list()

    def wait(self, timeout_s: float | None = None) -> list[Status]:
        """Wait until every rank is over; return how they ended, by rank.

        Raises
        ------
        TimeoutError
            If that takes longer. The job runs on.
        RequestError
            If the connection is lost.
        """
        with self._connection.lock:
            if not self._wait_until(self._over, timeout_s):
                raise TimeoutError(f"job {self.id} is not over after {timeout_s} s")
            return self._status_list()

    def wait_started(self, timeout_s: float | None = None) -> dict[int, int]:
        """Wait until every rank runs (or is over, or could not be started); return the PIDs. Raises TimeoutError."""
        self._readable()
        with self._connection.lock:
            if not self._wait_until(self._is_started, timeout_s):
                raise TimeoutError(f"not every rank of job {self.id} is started after {timeout_s} s")
            return self.pids

    def _over(self) -> bool:
        if self._detached and self._wait_request is None and not self._state.done:
            self._wait_request = self._session.ask(messages.wait, self.id)
            self._connection.flush()
        return self._is_over()

    def _wait_until(self, condition: Any, timeout_s: float | None) -> bool:
        if not condition() and not self._connection.wait_until(condition, timeout_s):
            return False
        self._take_wait_answer()
        if not self._detached:
            self._release_if_collected()
            self._connection.flush()
        return True

    # -------------------------------------------------- output

    @property
    def output(self) -> Iterator[Chunk]:
        """Iterate over the output of all ranks as it comes, until the job is over; each byte is given once."""
        while (chunk := self.read()) is not None:
            yield chunk

    def read(self, timeout_s: float | None = None) -> Chunk | None:
        """Return the next piece of output, or None when there will be no more. Raises TimeoutError."""
        self._readable()
        with self._connection.lock:
            if not self._connection.wait_until(lambda: bool(self._chunks) or self._state.complete, timeout_s):
                raise TimeoutError(f"no output of job {self.id} within {timeout_s} s")
            chunk = self._take() if self._chunks else None
            self._release_if_collected()
            self._connection.flush()
            return chunk

    @property
    def lines(self) -> Iterator[Chunk]:
        """Iterate over whole lines, without their ends, as they come."""
        splitter = LineSplitter()
        for chunk in self.output:
            yield from splitter.feed(chunk)
        yield from splitter.finish()

    def communicate(self, input: bytes = b"", timeout_s: float | None = None) -> Completed:
        """Send `input` to all ranks, close it, read everything, and wait for the end.

        Raises
        ------
        TimeoutError
            If that takes longer. The job runs on; what was read so far is lost.
        """
        self._readable()
        deadline = None if timeout_s is None else monotonic() + timeout_s
        rest = memoryview(input)
        chunks: list[Chunk] = []
        with self._connection.lock:
            stdin = self._state.stdin_stream()

            def ready() -> bool:
                writable = bool(rest) and not stdin.closed and stdin.room_bytes > 0
                return bool(self._chunks) or self._state.complete or writable

            if not input and not stdin.ended:
                self._session.send_stdin(self._state, b"", end=True)
            while True:
                remaining_s = None if deadline is None else max(0.0, deadline - monotonic())
                if not self._connection.wait_until(ready, remaining_s):
                    raise TimeoutError(f"job {self.id} is not over after {timeout_s} s")
                if rest and not stdin.closed and (room := stdin.room_bytes) > 0:
                    piece, rest = bytes(rest[: min(room, STDIN_PIECE_BYTES)]), rest[min(room, STDIN_PIECE_BYTES) :]
                    self._session.send_stdin(self._state, piece, end=not rest)
                while self._chunks:
                    chunks.append(self._take())
                if self._state.complete:
                    self._release_if_collected()
                    self._connection.flush()
                    return self._completed(chunks)

    # -------------------------------------------------- input and control

    def write(self, data: bytes, rank: int | None = None, timeout_s: float | None = None) -> None:
        """Send input to all ranks, or to one; waits while a window of 1 MiB is full.

        A rank gets its input either by broadcast or by its own number, for all of its life.

        Raises
        ------
        BrokenPipeError
            If nobody takes it any more.
        TimeoutError
            If the window stays full; how much was taken is then unknown.
        """
        self._readable()
        target = BROADCAST if rank is None else rank
        rest = memoryview(data)
        with self._connection.lock:
            while rest:
                if not self._connection.wait_until(lambda: self._stdin_room(target) > 0, timeout_s):
                    raise TimeoutError(f"job {self.id} takes no input for {timeout_s} s")
                size = min(self._stdin_room(target), STDIN_PIECE_BYTES)
                self._session.send_stdin(self._state, bytes(rest[:size]), rank=target)
                rest = rest[size:]
            self._connection.wait_until(lambda: not self._session.outgoing, timeout_s)

    def close_stdin(self, rank: int | None = None) -> None:
        """Say that there is no more input; doing so twice does no harm."""
        self._readable()
        with self._connection.lock:
            stream = self._state.stdin_stream(BROADCAST if rank is None else rank)
            if not stream.ended and not self._state.done:
                self._session.send_stdin(self._state, b"", end=True, rank=BROADCAST if rank is None else rank)
                self._connection.wait_until(lambda: not self._session.outgoing)

    def signal(self, number: int, ranks: Sequence[int] | None = None) -> int:
        """Signal all ranks, or some; return how many processes got it.

        Raises
        ------
        RequestError
            ``connection-lost`` if the head was lost before it answered. The signal may have arrived or not, and is not
            sent again by itself, except for SIGKILL: twice would not be the same as once.
        """
        with self._connection.lock:
            self._connection.notice()
            if self._state.done:
                return 0
            request = self._session.signal(self._state, int(number), None if ranks is None else list(ranks))
            return int(self._connection.answer(request).value[0])

    def kill(self) -> int:
        """Kill all ranks."""
        return self.signal(SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the ranks' terminals a new size."""
        with self._connection.lock:
            self._session.resize(self._state, rows, columns)
            self._connection.flush()

    def processes(self) -> list[dict[str, Any]]:
        """Return a row for each process of the job, those that the ranks have started included."""
        return self._cluster.processes(job=self.id)

    def detach(self) -> None:
        """Let the job go on without this program; its output is kept until somebody attaches."""
        with self._connection.lock:
            self._session.acknowledge_all(self._state)
            self._connection.answer(self._session.ask(messages.detach, self.id))
            self._detached = True
            self._session.forget(self._state)
            self._cluster._forget(self._state)

    def close(self) -> None:
        """End the job if it still runs, and let the cluster forget it; of a detached job only this handle goes."""
        if self._detached or self._connection.closed:
            self._cluster._forget(self._state)
            return
        with self._connection.lock:
            self._drop_output()
            if not self._state.done:
                self._session.signal(self._state, SIGKILL)
                self._connection.wait_until(lambda: self._state.done, CLOSE_TIMEOUT_S)
            self._session.release(self._state)
            self._connection.flush()
            self._cluster._forget(self._state)


__all__ = ["DEVNULL", "PIPE", "Chunk", "Cluster", "Completed", "Job", "RequestError", "Status", "connect"]
