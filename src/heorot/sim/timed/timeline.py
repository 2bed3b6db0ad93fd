"""Virtual time for questions of speed: what happens next, cores that are shared, and links that take their time.

`heorot.sim.world` asks what can go wrong, and draws delays by chance. Here nothing is drawn: the same cluster takes the
same time in every run. Times are whole nanoseconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

Call: TypeAlias = Callable[..., None]
Work: TypeAlias = Callable[..., int]
"""A piece of work: does what is to be done at its beginning, and returns how long it takes in nanoseconds."""

SLICE_NS = 3_000_000
"""A process that has more to do gives its core up after so long: the base slice of Linux."""
FRAME_OVERHEAD_BYTES = 95
"""What a message costs on a link beside its payload: length, TLS record, TCP, IP and Ethernet headers."""


class Unexpected(Exception):
    """Something happened that does not happen in a healthy cluster; the text says what."""


class Timeline:
    """The heap of what happens next; what is planned for the same time happens in the order in which it was planned."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.steps = 0
        self._heap: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        self._planned = 0

    @property
    def now_ms(self) -> int:
        """The machines' clock."""
        return self.now_ns // 1_000_000

    def at(self, at_ns: int, call: Call, *args: Any) -> None:
        """Call this then."""
        self._planned += 1
        heapq.heappush(self._heap, (at_ns, self._planned, call, args))

    def run_until(self, until_ns: int, over: Callable[[], bool] | None = None) -> None:
        """Let everything happen up to this time, or until `over` says that it is enough."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            self.now_ns, _, call, args = heapq.heappop(heap)
            self.steps += 1
            call(*args)
            if over is not None and over():
                return
        self.now_ns = max(self.now_ns, until_ns)


class Cores:
    """The cores of one host, or of a machine that many hosts share. Who is ready first runs first."""

    __slots__ = ("_free", "_ready", "busy_ns", "timeline")

    def __init__(self, timeline: Timeline, cores: int) -> None:
        self.timeline = timeline
        self.busy_ns = 0
        self._free = cores
        self._ready: deque[TimedProcess] = deque()

    def ready(self, process: TimedProcess) -> None:
        """A process has something to do."""
        self._ready.append(process)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            process = self._ready.popleft()
            process.began_ns = self.timeline.now_ns
            self._run(process)

    def _run(self, process: TimedProcess) -> None:
        work, args = process.pending.popleft()
        spent_ns = work(*args)
        self.busy_ns += spent_ns
        process.busy_ns += spent_ns
        self.timeline.at(self.timeline.now_ns + spent_ns, self._ran, process)

    def _ran(self, process: TimedProcess) -> None:
        if process.pending and self.timeline.now_ns - process.began_ns < SLICE_NS:
            self._run(process)
            return
        self._free += 1
        if process.pending:
            self._ready.append(process)
        else:
            process.scheduled = False
        self._dispatch()


class TimedProcess:
    """A process with one thread: does one piece of work at a time, in the order in which it was given."""

    __slots__ = ("began_ns", "busy_ns", "cores", "pending", "scheduled")

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self.busy_ns = 0
        """CPU time so far."""
        self.began_ns = 0
        self.scheduled = False
        self.pending: deque[tuple[Work, tuple[Any, ...]]] = deque()

    def give(self, work: Work, *args: Any) -> None:
        """Do this when all that was given before is done and a core is free."""
        self.pending.append((work, args))
        if not self.scheduled:
            self.scheduled = True
            self.cores.ready(self)


class Port:
    """A host's connection to the network: one message after the other in each direction; bulk waits for the rest."""

    __slots__ = ("bulk_ns", "control_ns", "in_ns", "network")

    def __init__(self, network: TimedNetwork) -> None:
        self.network = network
        self.control_ns = 0
        """Until when it is busy sending what is urgent."""
        self.bulk_ns = 0
        self.in_ns = 0
        """Until when it is busy receiving."""

    def send(self, at_ns: int, to: Port, size_bytes: int, deliver: Call, args: tuple[Any, ...], bulk: bool) -> None:
        """Send at this time, and call `deliver` with `args` when the last byte has arrived at `to`."""
        network = self.network
        if not network.bits_per_s:
            network.timeline.at(at_ns + network.latency_ns, deliver, *args)
            return
        wire_ns = round((size_bytes + FRAME_OVERHEAD_BYTES) * 8e9 / network.bits_per_s)
        start_ns = max(at_ns, self.control_ns)
        if bulk:
            start_ns = max(start_ns, self.bulk_ns)
            self.bulk_ns = start_ns + wire_ns
        else:
            self.control_ns = start_ns + wire_ns
        network.timeline.at(start_ns + network.latency_ns, to.take, wire_ns, deliver, args)

    def take(self, wire_ns: int, deliver: Call, args: tuple[Any, ...]) -> None:
        """The first byte of a message is here."""
        timeline = self.network.timeline
        self.in_ns = max(self.in_ns, timeline.now_ns) + wire_ns
        timeline.at(self.in_ns, deliver, *args)


class TimedNetwork:
    """All links are alike: `latency_us`, and `bits_per_s` at each host and in each direction; 0: without a limit."""

    def __init__(self, timeline: Timeline, latency_us: float, bits_per_s: float) -> None:
        self.timeline = timeline
        self.latency_ns = round(latency_us * 1000)
        self.bits_per_s = bits_per_s
