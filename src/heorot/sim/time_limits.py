"""TimeKept: no rank outlives the time of its job by more than the grace, whatever is killed, cut off or stopped."""

from __future__ import annotations

from heorot.core.space.grace import KILL_GRACE_MS
from heorot.sim.clocks import Clock
from heorot.sim.truth import ON_TIME_US
from heorot.sim.virtual_process import VirtualProcess
from heorot.sim.world import World


class TimeKeeping:
    """Looks at the ranks of one process space when their time and the grace are over."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends_ms: dict[str, int] = {}
        """By job, on the clock of the node."""

    def started(self, process: VirtualProcess, clock: Clock) -> None:
        """A rank runs; with the first of its job on this node the time begins."""
        if process.time_limit_ms:
            ends_ms = self._ends_ms.setdefault(process.job, clock.now_ms + process.time_limit_ms)
            process.truth.limit_us = clock.true_us(ends_ms)
            # What was not started yet is killed when it is.
            killed_us = max(clock.true_us(ends_ms + KILL_GRACE_MS), self._world.now_us)
            self._world.at(killed_us + ON_TIME_US, self._look, process)

    def _look(self, process: VirtualProcess) -> None:
        if not process.ended or process.truth.lingers:
            left = "what it started" if process.ended else "it"
            text = f"its limit of {process.time_limit_ms} ms is over, and the grace, and {left} runs"
            self._world.violated("TimeKept", f"{process.job} r{process.rank} on n{process.truth.node}: {text}")
