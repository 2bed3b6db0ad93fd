"""The Python library, blocking form: `connect` to a cluster, `spawn` jobs, read, write, signal, wait.

Several threads may use one cluster. Only those who wait make progress: output that nobody reads stays on the nodes,
and a rank that writes more than its window then waits, as a process does whose pipe nobody reads. A program that nodes
do not have is sent to them while somebody waits.
What each method does is in `heorot.client.cluster` and `heorot.client.job`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Unpack

from heorot.client.cluster import ClusterFlows, Progress
from heorot.client.copies import Copied
from heorot.client.endpoint import cluster_directory
from heorot.client.get import Get
from heorot.client.job import Chunk, Completed, JobFlows, LineSplitter
from heorot.client.launch import DEVNULL, PIPE, Argument, Nodes, SpawnOptions, path_list, spawn_fields, stage_fields
from heorot.client.node_control import NodeControl
from heorot.client.put import Put
from heorot.client.rank import RankHandle, Ranks
from heorot.client.runner import ThreadRunner
from heorot.core.client.end import Status
from heorot.core.client.job import JobState
from heorot.core.client.session import SIGKILL, Session
from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.client.watched import Watched


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


class Cluster(ClusterFlows["Job"], NodeControl):
    """A connection to a cluster's head. A context manager: leaving it closes the connection, which ends its jobs
    unless they are detached.
    """

    def __init__(self, directory: str, reconnect_timeout_s: float | None = None) -> None:
        super().__init__(directory, Session(hears_used=True))
        self._runner = ThreadRunner(directory, self._session, self._received, reconnect_timeout_s)
        self._run = self._runner.run

    def _new_job(self, state: JobState, detached: bool) -> Job:
        return Job(self, state, detached)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. If the head was lost, wait a bit for the next, to tell it which jobs are collected."""
        self._run(self._close())
        self._runner.close()

    # -------------------------------------------------- jobs

    def spawn(self, argv: Sequence[Argument], nodes: Nodes = "up", **options: Unpack[SpawnOptions]) -> Job:
        """Start a command on nodes and return the job as soon as the cluster has taken it on.

        Parameters
        ----------
        argv:
            The command and its arguments.
        nodes:
            A node list such as ``"n[0-63]"`` or ``"up"``, a number, or several numbers; rank 0 is the first.
        stdin, stdout, stderr:
            `PIPE`, `DEVNULL`, or a path on the node; `DEVNULL`, `PIPE` and `PIPE` by default. With `PIPE` as stdin the
            ranks wait for `write` and `close_stdin`. Paths may have ``%r``, the rank, ``%n``, the node, and ``%j``.
        ranks, ranks_per_node, bind, stdin_ranks, time_limit_s:
            As bpsh's ``--ranks``, ``--ranks-per-node``, ``--bind``, ``--input`` and ``--timeout``.
        environment, directory, umask, limits:
            Those of this process by default. `limits` maps ``RLIMIT_*`` to soft and hard limit, -1 for none.
        terminal:
            Rows and columns: every rank gets a terminal, and all of its output is stdout.
        detached:
            The job outlives this connection and keeps its output until somebody attaches.
        max_processes:
            The job is ended if it has more processes on a node; 0 (the default): the cluster's default.
        headless_s:
            The job is ended on a node that has been without any head for so long; 0 (the default): it runs to its end.
        linger:
            What a rank leaves running belongs to it: it is over when the last of that has ended. Otherwise that is
            killed when the rank's own process has ended, and `Job.reason` says how much it was.
        mpi:
            The ranks are of an MPI program that speaks PMI-1, as MPICH does: they find each other, and end together.
        image:
            ``"auto"`` (the default): a node runs its own file if it is the same as here, else this one is sent, with
            interpreter and libraries; ``"send"``: always the latter; ``"path"``: nodes run what they have.
        extra_files:
            Files and directories that are sent with the program.

        Raises
        ------
        RequestError
            If the cluster refuses: unknown node, node down, no permission, ...
        ImageError
            If the program is to be sent and cannot be: a library is missing, it is for another kind of machine, ...
            In `"auto"`, without `extra_files`, that is a warning, and nodes run what they have.
        """
        return self._run(self._spawn(*spawn_fields(argv, nodes, **options)))

    def run(
        self, argv: Sequence[Argument], nodes: Nodes = "up", input: bytes = b"", **options: Unpack[SpawnOptions]
    ) -> Completed:
        """Run a command on nodes to its end; `options` are those of `spawn`. What interrupts it ends the job."""
        options.setdefault("stdin", PIPE if input else DEVNULL)
        return self._run(self._run_job(*spawn_fields(argv, nodes, **options), input))

    def stage(self, program: Argument, nodes: Nodes = "up", extra_files: Sequence[Argument] = ()) -> Completed:
        """Send a program ahead and start nothing; the result says why a node does not have it. Raises as `spawn`."""
        return self._run(self._run_job(*stage_fields(program, nodes, extra_files), b""))

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
        return self._run(self._attach(job, from_start))

    def wait(self, job: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until a job is over; return it as `job` does. Raises TimeoutError."""
        return self._run(self._wait(job, timeout_s))

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
        return self._run(self._copy_to(put, nodes, progress))

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

        From several nodes the destination is a directory, and the node's name is added to each file's: ``FILE.n3``; or
        ``%n`` in the destination is the node's name.
        """
        get = Get(path_list(sources), os.fsencode(destination), recursive=recursive, preserve=preserve)
        return self._run(self._copy_from(get, nodes, progress))

    # -------------------------------------------------- questions

    def status(self) -> dict[str, Any]:
        """Return heads, epoch, nodes and tree, as ``heorot status --json``."""
        return self._run(self._status())

    def nodes(self, nodes: Nodes = "") -> list[dict[str, Any]]:
        """Return a row for each node (all by default): ``id``, ``name``, ``state``, ..."""
        return self._run(self._nodes(nodes))

    def processes(self, nodes: Nodes = "", job: str | None = None) -> list[dict[str, Any]]:
        """Return a row for each process, as ``bpps --json``. Nodes that do not answer are left out."""
        return self._run(self._processes(nodes, job))

    def jobs(self) -> list[dict[str, Any]]:
        """Return a row for each job that the cluster knows, as ``bpjob list --json``."""
        return self._run(self._list_jobs())

    def job(self, job: str) -> dict[str, Any]:
        """Return one job, with ``statuses``, as ``bpjob show --json``."""
        return self._run(self._job(job))

    def watch(
        self, topics: str | Sequence[str], interval_s: float = 1.0, nodes: Nodes = "", job: str | None = None
    ) -> Iterator[Watched]:
        """Iterate over what there is, first all of it, and then each time that something has changed, without end.

        The iterator waits for the next update. While nobody asks it for one, none is sent: what changes meanwhile
        becomes one update. Under a new head it goes on with all that this one knows. Leaving the loop, or closing the
        iterator, ends the watch.

        Parameters
        ----------
        topics:
            One or more of ``nodes``, ``jobs``, ``processes``: what `nodes`, `jobs` and `processes` return.
        interval_s:
            Between two updates at least; 0.1 at least, and more on a large cluster.
        nodes:
            Only these nodes and their processes.
        job:
            Only this job and its processes.

        Raises
        ------
        RequestError
            What the same question asked once is refused with; also later, for example when the job is forgotten.
        """
        from heorot.client.watched import Watched

        watched = Watched()
        request = self._run(self._begin_watch(topics, interval_s, nodes, job))
        try:
            while True:
                self._run(self._next_update(request, watched))
                yield watched
        finally:
            self._run(self._end_watch(request))

    def resolve(self, nodes: Nodes) -> list[int]:
        """Return the numbers of the nodes that a list names, in order, repeats included."""
        return self._run(self._resolve(nodes))

    def _change(self, nodes: Nodes, fields: dict[str, Any]) -> dict[str, Any]:
        return self._run(self._set_nodes(nodes, fields))

    def signal(self, pids: Sequence[int], number: int) -> int:
        """Signal processes by cluster-wide PID (negative: a process group); return how many got it. See `Job.signal`
        for a head that is lost meanwhile.
        """
        return self._run(self._signal(pids, number))


class Job(JobFlows):
    """A job of this connection, with its `ranks` by number. A context manager: leaving it closes the job."""

    def __init__(self, cluster: Cluster, state: JobState, detached: bool) -> None:
        super().__init__(cluster._session, state, detached, cluster._forget)
        self._run = cluster._run
        self.ranks: Ranks[RankHandle] = Ranks(self, lambda number: RankHandle(self, number, self._run))

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def poll(self) -> list[Status] | None:
        """Return how the ranks ended, by rank, or None while some run; does not wait."""
        return self._run(self._poll())

    def wait(self, timeout_s: float | None = None) -> list[Status]:
        """Wait until every rank is over; return how they ended, by rank.

        Raises
        ------
        TimeoutError
            If that takes longer. The job runs on.
        RequestError
            If the connection is lost.
        """
        return self._run(self._wait(timeout_s))

    def wait_started(self, timeout_s: float | None = None) -> dict[int, int]:
        """Wait until every rank runs (or is over, or could not be started); return the PIDs. Raises TimeoutError."""
        return self._run(self._wait_started(timeout_s))

    # -------------------------------------------------- output

    def read(self, timeout_s: float | None = None) -> Chunk | None:
        """Return the next piece of output, or None when there will be no more. Raises TimeoutError."""
        return self._run(self._read(timeout_s))

    @property
    def output(self) -> Iterator[Chunk]:
        """Iterate over the output of all ranks as it comes, until the job is over; each byte is given once."""
        while (chunk := self.read()) is not None:
            yield chunk

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
        return self._run(self._communicate(input, timeout_s))

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
        self._run(self._write(data, rank, timeout_s))

    def close_stdin(self, rank: int | None = None) -> None:
        """Say that there is no more input; doing so twice does no harm."""
        self._run(self._close_stdin(rank))

    def signal(self, number: int, ranks: Sequence[int] | None = None) -> int:
        """Signal all ranks, or some; return how many processes got it.

        Raises
        ------
        RequestError
            ``connection-lost`` if the head was lost before it answered. The signal may have arrived or not, and is not
            sent again by itself, except for SIGKILL: twice would not be the same as once.
        """
        return self._run(self._signal(number, ranks))

    def kill(self) -> int:
        """Kill all ranks."""
        return self.signal(SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the ranks' terminals a new size."""
        self._run(self._resize(rows, columns))

    def processes(self) -> list[dict[str, Any]]:
        """Return a row for each process of the job, those that the ranks have started included."""
        return self._run(self._processes())

    def detach(self) -> None:
        """Let the job go on without this program; its output is kept until somebody attaches."""
        self._run(self._detach())

    def close(self) -> None:
        """End the job if it still runs, and let the cluster forget it; of a detached job only this handle goes. It is
        no error if its end is not known after ten seconds, or the connection ends meanwhile.
        """
        self._run(self._close())


__all__ = ["DEVNULL", "PIPE", "Chunk", "Cluster", "Completed", "Job", "RequestError", "Status", "connect"]
