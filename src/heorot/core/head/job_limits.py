"""How many jobs there may be, how much their launches may take, and which of those that are over have to go.

What is refused, and for whom something is kept, is said in `heorot.core.quota`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from heorot.core.errors import RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.quota import ITEM_BYTES, Ledger
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import LaunchSpec, rank_count

RANK_BYTES = 32
"""What is kept of each rank, and of where it is."""


class JobLimits:
    """Counts the jobs that are not released, and their launches.

    Parameters
    ----------
    jobs
        All jobs, by id.
    """

    def __init__(self, context: HeadContext, jobs: Callable[[], dict[str, HeadJob]]) -> None:
        self._context = context
        self._jobs = jobs
        self.launch_bytes = Ledger[int]()
        """How much the launches of each user's jobs take, commands and environments above all."""
        self._unreleased = 0

    def take(self, job: HeadJob, size_bytes: int) -> None:
        """Count what a job's launch takes, until it is released."""
        self._unreleased += 1
        job.launch_bytes = size_bytes
        self.launch_bytes.add(job.ticket.uid, size_bytes)

    def give_back(self, job: HeadJob) -> None:
        """Count a job no more: it is released."""
        self._unreleased -= 1
        self.launch_bytes.add(job.ticket.uid, -job.launch_bytes)

    def require_room(self, caller: Caller, size_bytes: int) -> None:
        """See that the user may have one more job, and one of this size. Raises RequestError."""
        held = self.launch_bytes.held
        why = self._context.launches_quota.refusal(caller.uid, held, size_bytes, caller.user)
        if why:
            raise RequestError("too-many-jobs", why)
        quota, jobs = self._context.jobs_quota, self._jobs()
        if 2 * len(jobs) < quota.limit - quota.kept:
            return  # so few jobs that nobody can have too many of them
        # What a client does not release counts, too: nodes and head hold it.
        counts = Counter(job.ticket.uid for job in jobs.values() if not job.done or job.client is not None)
        why = quota.refusal(caller.uid, counts, name=caller.user)
        if why:
            raise RequestError("too-many-jobs", why)

    def require_room_again(self, caller: Caller, ask: c.Spawn) -> None:
        """See that there is room for a job that an earlier head has acknowledged: that is refused for no user's quota,
        only the limits for all hold, and what is kept for root stays so. Raises RequestError.
        """
        quota, jobs = self._context.jobs_quota, self._jobs()
        if len(jobs) >= quota.limit - quota.kept and not quota.may_all(caller.uid):
            held = sum(not job.done or job.client is not None for job in jobs.values())
            if held >= quota.limit - quota.kept:
                raise RequestError("too-many-jobs", f"{held} {quota.what}, and the rest is kept for root")
        size_bytes = bytes_of_launch(ask.spec, ask.key, rank_count(ask.spec, sum(ask.runs[1::2])))
        why = self._context.launches_quota.overflow(caller.uid, self.launch_bytes.held, size_bytes)
        if why:
            raise RequestError("too-many-jobs", why)

    def has_room_for(self, ticket: m.Ticket) -> bool:
        """Say whether a job of an earlier head can be taken over: it kept the same limits."""
        context, held = self._context, self.launch_bytes.held
        more = bytes_of_launch(ticket.spec, ticket.key, m.ranks_of(ticket))
        most = context.config.max_jobs + context.config.max_finished_jobs
        return self._unreleased < most and not context.launches_quota.overflow(0, held, more)

    @property
    def has_much_room(self) -> bool:
        """Whether a quarter at least is free of what jobs may be and take."""
        config = self._context.config
        most = config.max_jobs + config.max_finished_jobs
        held_bytes = sum(self.launch_bytes.held.values())
        return self._unreleased <= most * 3 // 4 and held_bytes <= config.max_launch_bytes * 3 // 4

    def too_many(self) -> list[HeadJob]:
        """Return which of the jobs that are over are to go: collected ones, then those of whoever has most of them.

        So nobody's short jobs can push out those of others before they are collected.
        """
        limit, jobs = self._context.config.max_finished_jobs, self._jobs()
        if len(jobs) <= limit:
            return []
        now_ms = self._context.now_ms
        finished = [
            job
            for job in jobs.values()
            if job.done and job.client is None and (job.released or now_ms >= job.awaited_until_ms)
        ]
        return _least_missed(finished, len(finished) - limit)


def bytes_of_launch(spec: LaunchSpec, key: bytes, ranks: int) -> int:
    """Return what a launch on so many ranks takes as long as its job is not released."""
    argv, environment = spec.argv, spec.environment
    paths = spec.directory, spec.stdin, spec.stdout, spec.stderr, spec.program, key
    elements = len(argv) + len(environment) + len(spec.limits) + len(spec.terminal)
    texts = sum(map(len, argv)) + sum(map(len, environment)) + sum(map(len, filter(None, paths)))
    return texts + elements * ITEM_BYTES + ranks * RANK_BYTES


def _least_missed(finished: list[HeadJob], count: int) -> list[HeadJob]:
    """Return so many of these jobs, oldest first as given: collected ones, then the oldest of who has the most."""
    if count <= 0:
        return []
    chosen = [job for job in finished if job.released][:count]
    of_user: dict[int, deque[HeadJob]] = {}
    for job in finished:
        if not job.released:
            of_user.setdefault(job.ticket.uid, deque()).append(job)
    while len(chosen) < count:
        chosen.append(max(of_user.values(), key=len).popleft())
    return chosen
