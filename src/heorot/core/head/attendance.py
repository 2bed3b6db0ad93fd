"""Who attends a job: reads it, waits for its end, comes back to it, leaves it, or goes and so hangs up.

A client reads what it has launched, or what nobody else reads. One that goes while the head lives wants its job no
more, unless it was detached: SIGHUP, and SIGKILL to whatever is left after a grace.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.head.context import HeadContext
from heorot.core.head.ends import ExitedRank, LostRank, exits_of
from heorot.core.head.input import JobInput
from heorot.core.head.job import HeadJob
from heorot.core.head.timers import KillDue, ReturnDue
from heorot.core.quota import Ledger
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

SIGHUP, SIGKILL = 1, 9
HUNG_UP = "hung up: its client went away"


class Attendance:
    """The readers of all jobs, and those who wait for an end.

    Parameters
    ----------
    jobs
        All jobs, by id.
    release
        Has a job forgotten that nobody wants.
    signal
        Signals ranks of a job (None: all) on these nodes.
    """

    def __init__(
        self,
        context: HeadContext,
        jobs: Callable[[], dict[str, HeadJob]],
        feeding: JobInput,
        release: Callable[[HeadJob], None],
        signal: Callable[[HeadJob, NodeSet, list[int] | None, int], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._input = feeding
        self._release = release
        self._signal = signal
        self.clients: dict[int, set[str]] = {}
        """The unfinished or unreleased jobs that each client attends."""
        self.waits = Ledger[int]()
        """How many requests of each user wait for a job's end."""

    def begin(self, job: HeadJob, client: int) -> None:
        """A client reads a job from now on."""
        job.client = client
        self.clients.setdefault(client, set()).add(job.id)

    def forget_reader(self, job: HeadJob) -> None:
        """Nobody reads this job any more."""
        if job.client is not None:
            self.clients.get(job.client, set()).discard(job.id)
            job.client = None

    def attend(self, job: HeadJob, client: int, request: int, from_start: bool) -> None:
        """Let a client read a job: tell it all that is known, then have the nodes send what they keep."""
        context = self._context
        self.begin(job, client)
        job.awaited_until_ms = 0
        job.tell_started = True
        job.reading = context.next_reading()
        job.turns.clear()
        context.tell_spawned(job, client, request)
        started = [value for rank, pid in enumerate(job.pids) if pid for value in (rank, pid)]
        exited: list[int] = []
        failed: list[tuple[int, int, str]] = []
        lost: list[tuple[int, int, str]] = []
        for rank, end in sorted(job.ends.items()):
            if isinstance(end, ExitedRank):
                exited += (rank, end.wait_status, end.stdout_bytes, end.stderr_bytes)
            elif isinstance(end, LostRank):
                lost.append((rank, end.node, end.text))
            else:
                failed.append((rank, end.error, end.text))
        if started:
            context.to_client(client, c.Started(job.id, started))
        if job.stops:
            stopped = [value for rank, stands in job.stops.items() for value in (rank, *stands)]
            context.to_client(client, c.Stopped(job.id, stopped))
        if failed:
            context.to_client(client, c.Failed(job.id, failed))
        if lost:
            context.to_client(client, c.Lost(job.id, lost))
        if exited:
            if client in context.hear_used:
                used = [value for rank in exited[0::4] if (it := job.used(rank)) for value in (rank, *it)]
                context.to_client(client, c.Used(job.id, used))
            context.to_client(client, exits_of(job.id, exited))
        if job.stdin.sent:
            self._input.tell(job, -1, job.stdin)
        unread = [(rank, job.nodes[rank], "its node is gone, and unread output with it") for rank in job.unread]
        if unread:
            context.to_client(client, c.Lost(job.id, unread))
        context.send_down(job.node_set, m.Attend(job.id, True, from_start, job.reading))
        if job.done:
            context.to_client(client, c.Done(job.id, job.text, job.ended_status))

    def resume(self, job: HeadJob, client: int, request: int, stdin: list[int], detached: bool) -> None:
        """Let a client go on with a job of its own; `stdin` is flat: rank, offset that it knows to be taken.

        An earlier connection that still stands for the job is one that the client has lost.
        """
        self.forget_reader(job)
        job.detached = detached
        if job.ending:
            job.ending = False
            job.end_reason = ""
        self._input.resume(job, stdin)
        self.attend(job, client, request, False)

    def detach(self, job: HeadJob) -> None:
        """The job goes on without its reader."""
        self.forget_reader(job)
        job.detached = True
        self._context.send_down(job.node_set, m.Attend(job.id, False))

    # ------------------------------------------------------------------ its end

    def wait(self, job: HeadJob, client: int, uid: int, request: int) -> None:
        """Answer this request of a client of that user when the job is over."""
        job.waiting.append((client, uid, request))
        self.waits.add(uid, 1)

    def done(self, job: HeadJob) -> None:
        """All ranks of a job are over: tell its reader and who waits for that."""
        context = self._context
        if job.client is not None:
            context.to_client(job.client, c.Done(job.id, job.text, job.ended_status))
        for client, uid, request in job.waiting:
            context.answer(client, request, job.details())
            self.waits.add(uid, -1)
        job.waiting.clear()

    # ------------------------------------------------------------------ hanging up

    def client_gone(self, client: int, lost: bool = False) -> None:
        """A client that goes while the head lives is a hang-up; a detached job goes on.

        One that was `lost` on its way through another head may be alive: its jobs are given a grace.
        """
        jobs = self._jobs()
        for job_id in sorted(self.clients.pop(client, ())):
            job = jobs[job_id]
            job.client = None
            if job.detached or lost:
                self._context.send_down(job.node_set, m.Attend(job.id, False))
            if lost and not job.detached:
                job.awaited_until_ms = self._context.now_ms + self._context.config.client_grace_ms
                self._context.await_somebody(ReturnDue(job.id), self._context.config.client_grace_ms)
            elif not job.detached:
                self.hang_up(job)
        for job in jobs.values():
            if job.waiting:
                stay = [waiter for waiter in job.waiting if waiter[0] != client]
                if len(stay) < len(job.waiting):
                    uid = next(uid for waiter, uid, _ in job.waiting if waiter == client)
                    self.waits.add(uid, len(stay) - len(job.waiting))
                    job.waiting = stay

    def client_stays_away(self, job_id: str) -> None:
        """The grace for a lost client is over."""
        job, grace_ms = self._jobs().get(job_id), self._context.config.client_grace_ms
        if job is None or job.client is not None or job.detached:
            return
        if self._context.goes_on_waiting(ReturnDue(job_id), grace_ms):
            job.awaited_until_ms = self._context.now_ms + grace_ms
        else:
            self.hang_up(job)

    def hang_up(self, job: HeadJob) -> None:
        """End a job that nobody wants any more: SIGHUP, and SIGKILL after the grace."""
        was_ending, job.ending = job.ending, True
        if job.done:
            self._release(job)
        if job.done or was_ending:
            return
        job.end_reason = HUNG_UP
        self._signal(job, job.live_nodes(), None, SIGHUP)
        self._context.set_timer(KillDue(job.id), self._context.config.kill_grace_ms)

    def kill_due(self, job_id: str) -> None:
        """The grace after a hang-up is over."""
        job = self._jobs().get(job_id)
        if job is not None and job.ending and not job.done:
            self._signal(job, job.live_nodes(), None, SIGKILL)
            self._context.set_timer(KillDue(job.id), self._context.config.kill_grace_ms)
