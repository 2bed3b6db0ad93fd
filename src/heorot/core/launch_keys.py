"""Which launch made which job: so a client that asks again, after a break, is given its job and not another one."""

from __future__ import annotations

from heorot.core.job import Job
from heorot.core.releases import MAX_FORGOTTEN


class LaunchKeys:
    """The jobs by the user and the key of their launch; a launch without a key leaves no trace."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, bytes], str] = {}
        self._dropped: dict[tuple[int, bytes], str] = {}
        """The same of jobs that are on the list no more, though no client has collected them."""

    def job_of(self, uid: int, key: bytes) -> str:
        """Return the id of the job on the list that this user has launched with this key, empty if there is none."""
        return self._jobs.get((uid, key), "")

    def dropped(self, uid: int, key: bytes) -> str:
        """Return the id of the job of this key if it was started, is over and was not kept; else nothing."""
        return self._dropped.get((uid, key), "")

    def remember(self, job: Job) -> None:
        """A job is on the list from now on. The first one of a key counts."""
        if job.ticket.key:
            self._jobs.setdefault((job.ticket.uid, job.ticket.key), job.id)

    def drop(self, job: Job) -> None:
        """A job leaves the list."""
        key = job.ticket.uid, job.ticket.key
        if self._jobs.pop(key, "") and not job.released:
            self._dropped[key] = job.id
            if len(self._dropped) > MAX_FORGOTTEN:
                del self._dropped[next(iter(self._dropped))]
