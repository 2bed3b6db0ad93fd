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
        self._dropped = _Former()
        """Jobs that are on the list no more, though no client has collected them."""
        self._asked_again = _Former()
        """Launches that an earlier head may have passed on to nodes of which this one has not heard. When such a node
        comes back, the job may be over, collected, and off the list."""

    def job_of(self, uid: int, key: bytes) -> str:
        """Return the id of the job on the list that this user has launched with this key, empty if there is none."""
        return self._jobs.get((uid, key), "")

    def dropped(self, uid: int, key: bytes) -> str:
        """Return the id of the job of this key if it was started, is over and was not kept; else nothing."""
        return self._dropped.get(uid, key)

    def asked_again(self, uid: int, key: bytes) -> str:
        """Return the id of the job that was made under this head of a launch that was asked for again; else nothing."""
        return self._asked_again.get(uid, key)

    def remember(self, job: HeadJob, again: bool = False) -> None:
        """A job is on the list from now on. The first one of a key counts. `again`: an earlier head was asked first."""
        uid, key = job.ticket.uid, job.ticket.key
        if key:
            self._jobs.setdefault((uid, key), job.id)
            if again:
                self._asked_again.add(uid, key, job.id)

    def drop(self, job: HeadJob) -> None:
        """A job leaves the list."""
        uid, key = job.ticket.uid, job.ticket.key
        if self._jobs.pop((uid, key), "") and not job.released:
            self._dropped.add(uid, key, job.id)


class _Former:
    """Jobs by user and key. When there are too many, the oldest of the user who has most is forgotten."""

    def __init__(self) -> None:
        self._jobs: dict[int, dict[bytes, str]] = {}
        self._count = 0

    def get(self, uid: int, key: bytes) -> str:
        return self._jobs.get(uid, {}).get(key, "")

    def add(self, uid: int, key: bytes, job: str) -> None:
        mine = self._jobs.setdefault(uid, {})
        self._count += key not in mine
        mine[key] = job
        if self._count > MAX_FORGOTTEN:
            user, most = max(self._jobs.items(), key=lambda entry: len(entry[1]))
            del most[next(iter(most))]
            self._count -= 1
            if not most:
                del self._jobs[user]
