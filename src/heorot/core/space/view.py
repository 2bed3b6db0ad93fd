"""What a process space tells somebody who asks it directly, without head and agent: in as many parts as needed."""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.states import FAILED, OVER
from heorot.core.wire.tree import JobView, Process, SpaceView

ROWS_PER_VIEW = 1000
"""With the short command lines of a view a few hundred kilobytes."""


def views(blank: SpaceView, jobs: dict[str, SpaceJob], processes: list[Process]) -> list[SpaceView]:
    """Return `blank` filled in with all jobs and processes, in so many parts that each fits into a frame."""
    rows = [_with_kept(process, jobs) for process in processes]
    listed = [_job_view(job) for job in jobs.values()]
    count = max(1, -(-max(len(rows), len(listed)) // ROWS_PER_VIEW))
    parts = []
    for index in range(count):
        part = slice(index * ROWS_PER_VIEW, (index + 1) * ROWS_PER_VIEW)
        parts.append(replace(blank, jobs=listed[part], processes=rows[part], more=index + 1 < count))
    return parts


def _with_kept(process: Process, jobs: dict[str, SpaceJob]) -> Process:
    job = jobs.get(process.job) if process.leader else None
    rank = job.ranks.get(process.rank) if job is not None else None
    return process if rank is None else replace(process, kept_bytes=_kept_bytes(rank))


def _kept_bytes(rank: Rank) -> int:
    return sum(stream.kept_bytes for stream in rank.outputs if stream is not None)


def _job_view(job: SpaceJob) -> JobView:
    states = [rank.state for rank in job.ranks.values()]
    exited, failed = states.count(OVER), states.count(FAILED)
    kept_bytes = sum(_kept_bytes(rank) for rank in job.ranks.values())
    running = len(states) - exited - failed
    return JobView(job.id, job.uid, running, exited, failed, kept_bytes, job.headless_ms)
