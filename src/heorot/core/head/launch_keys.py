"""Which launch made which job: so a client that asks again, after a break, is given its job and not another one."""

from __future__ import annotations

from heorot.core.head.job import HeadJob
from heorot.core.head.releases import MAX_FORGOTTEN

LAUNCH_UNKNOWN = "launch-unknown"
"""The code of an error: whether a launch was started can no longer be known."""


class LaunchKeys:
    """The jobs by the user and the key of their launch; a launch without a key leaves no trace."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, bytes], str] = {}
        self._dropped: dict[int, dict[bytes, str]] = {}
        """By user and key: jobs that are on the list no more, though no client has collected them. When there are too
        many, the oldest of the user who has most is forgotten."""
        self._count = 0

    def job_of(self, uid: int, key: bytes) -> str:
        """Return the id of the job on the list that this user has launched with this key, empty if there is none."""
        return self._jobs.get((uid, key), "")

    def dropped(self, uid: int, key: bytes) -> str:
        """Return the id of the job of this key if it was started, is over and was not kept; else nothing."""
        return self._dropped.get(uid, {}).get(key, "")

    def remember(self, job: HeadJob) -> None:
        """A job is on the list from now on. The first one of a key counts."""
        if job.ticket.key:
            self._jobs.setdefault((job.ticket.uid, job.ticket.key), job.id)

    def drop(self, job: HeadJob) -> None:
        """A job leaves the list."""
        uid, key = job.ticket.uid, job.ticket.key
        if self._jobs.pop((uid, key), "") and not job.released:
            mine = self._dropped.setdefault(uid, {})
            self._count += key not in mine
            mine[key] = job.id
            if self._count > MAX_FORGOTTEN:
                self._forget_one()

    def _forget_one(self) -> None:
        user, most = max(self._dropped.items(), key=lambda entry: len(entry[1]))
        del most[next(iter(most))]
        self._count -= 1
        if not most:
            del self._dropped[user]
