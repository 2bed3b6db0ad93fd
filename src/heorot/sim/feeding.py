"""The input that a client gives its job, within the session's window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.wire import clients as c
from heorot.sim.truth import content

if TYPE_CHECKING:
    from heorot.core.client.job import JobState
    from heorot.core.client.session import Session
    from heorot.sim.surroundings import Surroundings

CHUNK_BYTES = 30_000


class Feeding:
    """So many bytes for each rank, or for all together (-1)."""

    def __init__(self, cluster: Surroundings, size: int, session: Session) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._size = size
        self._session = session
        self._job: JobState | None = None
        self._targets: list[int] = []
        self._taken: dict[int, int] = {}
        """By rank (-1: all): how much heads have said to be taken."""
        self._joined = False
        """The client reads the job anew: its input goes on from where the slowest node will be said to stand."""

    def begin(self, job: JobState, targets: list[int]) -> None:
        """Send the first bytes to these ranks."""
        self._job, self._targets = job, targets
        known = self._cluster.truth.jobs[job.id]
        for to in targets:
            known.inputs[to] = 0
            known.inputs_ended[to] = False
        self.feed()

    def go_on(self, job: JobState) -> None:
        """The client has attached to its job again."""
        self._job, self._joined = job, True

    def rest(self) -> None:
        """The client reads the job no more."""
        self._job = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it can still be sent: nothing was said to be taken."""
        return not any(self._taken.values())

    def feed(self) -> None:
        """Send what the window allows."""
        job = self._job
        if job is None or job.error is not None or job.released:
            return
        for to in self._targets:
            if not self._joined or to in job.stdin:
                self._feed_one(job, to)

    def _feed_one(self, job: JobState, to: int) -> None:
        known = self._cluster.truth.jobs[job.id]
        stream = job.stdin_stream(to)
        while not stream.ended and not stream.closed:
            left = self._size - stream.sent
            if left > 0 and not stream.room_bytes:
                return
            size = max(0, min(CHUNK_BYTES, left, stream.room_bytes))
            at = stream.sent
            end = size == left and (not size or self._world.chance(0.5))
            known.inputs[to] = max(known.inputs[to], at + size)
            known.inputs_ended[to] |= end
            self._session.send_stdin(job, content(job.id, to, 0, at, size), end=end, rank=to)
            if left <= 0 and not end:
                return

    def told(self, message: c.ClientStdinAck) -> None:
        """A head says that the slowest has taken so much."""
        if message.rank not in self._targets:
            return
        sent = self._cluster.truth.jobs[message.job].inputs[message.rank]
        if message.offset > sent:
            text = f"{message.offset} bytes of input of {message.job} are acknowledged, but only {sent} were sent"
            self._world.violated("StreamExact", text)
        self._taken[message.rank] = max(self._taken.get(message.rank, 0), message.offset)
