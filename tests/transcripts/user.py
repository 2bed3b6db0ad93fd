"""A user: the client's real session, on a head's host of the simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.client.conversation import Request
from heorot.core.client.job import JobState
from heorot.core.client.session import NewOutput, Session
from heorot.core.wire.framing import HEADER_BYTES, encode_frame
from heorot.sim.head_host import HeadHost
from heorot.sim.network import End
from heorot.sim.truth import content

if TYPE_CHECKING:
    from heorot.sim.cluster import SimulatedCluster

COME_BACK_US = 100_000


class User:
    """Spawns one job or attaches to one, follows it from head to head, and leaves when it has everything."""

    def __init__(self, cluster: SimulatedCluster, name: str, home: HeadHost) -> None:
        self.cluster = cluster
        self.name = name
        self.home = home
        """The host on which it works."""
        self.session = cluster.mutate(Session())
        self.job: JobState | None = None
        self.asked: Request | None = None
        """Its last signal."""
        self.limits_headless_time = False
        """Its job may be ended by a node that has no head."""
        self.there = False
        """It runs, and has not everything yet."""
        self._end: End | None = None

    def begin(self) -> None:
        """Connect for the first time."""
        self.there = True
        self._come()

    def _come(self) -> None:
        if not self.there or self._end is not None:
            return
        head = self.home if self.home.machine is not None else self.cluster.leader() or self.home
        end = head.open_client(self.name, 0, self._received, self._closed, self.home) if self.home.up else None
        if end is None:
            self.cluster.world.after(COME_BACK_US, self._come)
            return
        end.host, end.other.host = self.name, head.name
        self._end = end
        if not self.session.connected:
            self.session.reconnected()
        self.flush()

    def _closed(self, end: End, reason: str) -> None:
        if end is self._end:
            self._end = None
            self.session.connection_lost()
            self.cluster.world.after(COME_BACK_US, self._come)

    def leave(self) -> None:
        """Close the connection; what was said before still arrives."""
        self.there = False
        if self._end is not None:
            self.cluster.network.close(self._end)
            self._end = None

    def die_with_host(self) -> None:
        """Be lost without a word."""
        self.there = False
        if self._end is not None:
            self._end.open = False
            self.cluster.network.cut(self._end.link, (None, None))
            self._end = None

    def flush(self) -> None:
        """Send what the session wants to say."""
        data = bytes(self.session.outgoing)
        self.session.outgoing.clear()
        while data and self._end is not None:
            length = int.from_bytes(data[:HEADER_BYTES], "big") + HEADER_BYTES
            self.cluster.network.send(self._end, data[HEADER_BYTES:length])
            data = data[length:]

    def _received(self, end: End, payload: bytes) -> None:
        if end is not self._end:
            return
        for event in self.session.receive(encode_frame(payload), self.cluster.world.now_ms):
            if isinstance(event, NewOutput):
                self._read(event)
        job = self.job
        if job is not None and job.id:
            known = self.cluster.truth.jobs[job.id]
            known.acknowledged = True
            known.unwanted |= self.limits_headless_time
        if job is not None and job.complete and job.all_consumed:
            self.cluster.truth.jobs[job.id].released = True
            self.session.release(job)
            self.flush()
            self.leave()
        elif job is not None and (job.error is not None or (job.detached and job.launched)):
            self.flush()
            self.leave()
        else:
            self.flush()

    def _read(self, output: NewOutput) -> None:
        job, stream = output.job, output.stream
        if output.data != content(job.id, stream.rank, stream.stream, stream.consumed, len(output.data)):
            self.cluster.world.violated("StreamExact", f"{self.name} reads wrong bytes of {job.id} r{stream.rank}")
        self.session.consumed(job, stream, len(output.data))
