"""The input that a client gives its job: sent within a window, and sent again to another head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.truth import content

if TYPE_CHECKING:
    from heorot.sim.surroundings import Surroundings

CHUNK_BYTES = 30_000
WINDOW_BYTES = 1024 * 1024


class Feeding:
    """So many bytes for each rank, or for all together (-1)."""

    def __init__(self, cluster: Surroundings, size: int, send: Callable[[m.Message], None]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._size = size
        self._send = send
        self._job = ""
        self._offsets: dict[int, tuple[int, int]] = {}
        """By rank (-1: all): sent, acknowledged."""
        self._resumed = False
        """There is another head than at first."""
        self._resuming: set[int] = set()
        """Input that is to go on over a new connection; only looked up."""
        self._end_repeated: set[int] = set()
        """Where the end of the input was sent once more to the head that is there now."""

    def begin(self, job: str, ranks: list[int]) -> None:
        """Send the first bytes to these ranks."""
        self._job = job
        known = self._cluster.truth.jobs[job]
        for to in ranks:
            self._offsets[to] = (0, 0)
            known.inputs[to] = 0
            known.inputs_ended[to] = False
            self._feed(to)

    def acknowledged(self) -> list[int]:
        """Return what is known to be taken, flat: rank, offset."""
        return [value for to, (_, acked) in self._offsets.items() for value in (to, acked)]

    @property
    def is_whole(self) -> bool:
        """Whether all of it can still be sent: nothing was taken."""
        return not any(acked for _, acked in self._offsets.values())

    def go_on_with_the_slowest(self) -> None:
        """The client reads the job anew: its input goes on from where the slowest node will be said to stand."""
        self._resuming = set(self._offsets)

    def resume(self, told: list[int]) -> None:
        """Another head was told that so much is taken, flat: rank, offset. The rest is sent again."""
        self._resumed = True
        offsets = dict(zip(told[0::2], told[1::2], strict=True))
        self._offsets = {to: (offsets[to], offsets[to]) for to in self._offsets}
        self._end_repeated.clear()
        for to in list(self._offsets):
            self._feed(to)

    def _feed(self, to: int) -> None:
        """Send what the window allows."""
        known = self._cluster.truth.jobs[self._job]
        sent, acked = self._offsets[to]
        total = self._size
        while sent < total and sent - acked < WINDOW_BYTES:
            size = min(CHUNK_BYTES, total - sent, WINDOW_BYTES - (sent - acked))
            known.inputs[to] = max(known.inputs[to], sent + size)
            end = sent + size == total and self._world.chance(0.5)
            known.inputs_ended[to] |= end
            self._send(c.ClientStdin(self._job, to, sent, content(self._job, to, 0, sent, size), end))
            sent += size
        self._offsets[to] = (sent, acked)
        if sent == total and (not known.inputs_ended[to] or (self._resumed and to not in self._end_repeated)):
            known.inputs_ended[to] = True
            self._end_repeated.add(to)
            self._send(c.ClientStdin(self._job, to, sent, b"", True))

    def taken(self, message: c.ClientStdinAck) -> None:
        """The slowest has taken so much."""
        state = self._offsets.get(message.rank)
        if state is None:
            return
        sent, acked = state
        if message.offset > self._cluster.truth.jobs[message.job].inputs[message.rank]:
            text = f"{message.offset} bytes of input of {message.job} are acknowledged, but only {sent} were sent"
            self._world.violated("StreamExact", text)
        if message.rank in self._resuming:
            # Another head goes on from where the slowest node stands.
            self._resuming.discard(message.rank)
            sent = acked = message.offset
        self._offsets[message.rank] = (max(sent, message.offset), max(acked, message.offset))
        self._feed(message.rank)
