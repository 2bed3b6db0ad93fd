"""The clocks of one host: a monotonic one that starts anywhere and drifts, and a wall clock that may be wrong."""

from __future__ import annotations

from heorot.sim.world import World

TRUE_WALL_MS = 1_700_000_000_000
"""What a right wall clock says when a run begins."""


class Clock:
    """What a host believes the time to be.

    Parameters
    ----------
    start_ms:
        What the monotonic clock says when the run begins.
    drift_ppm:
        How much too fast it goes, in millionths.
    wall_skew_ms:
        How much the wall clock is ahead of the true time.
    """

    def __init__(self, world: World, start_ms: int = 0, drift_ppm: int = 0, wall_skew_ms: int = 0) -> None:
        self._world = world
        self._start_us = start_ms * 1000
        self._drift_ppm = drift_ppm
        self.wall_offset_ms = TRUE_WALL_MS + wall_skew_ms - start_ms
        """Wall clock minus monotonic clock."""

    @property
    def now_ms(self) -> int:
        """The monotonic clock, as a machine on this host is told."""
        return self._local_us(self._world.now_us) // 1000

    def _local_us(self, at_us: int) -> int:
        return self._start_us + at_us + at_us * self._drift_ppm // 1_000_000

    def true_us(self, at_ms: int) -> int:
        """Return when, in virtual time, this clock will first say `at_ms`."""
        local_us = at_ms * 1000
        at_us = (local_us - self._start_us) * 1_000_000 // (1_000_000 + self._drift_ppm)
        while self._local_us(at_us) < local_us:
            at_us += 1
        return at_us


def draw_clock(world: World, drift_ppm: int, wall_skew_ms: int, wrong_rate: float) -> Clock:
    """Return a host's clock: off by up to so much, and now and then by days."""
    skew_ms = world.between(-wall_skew_ms, wall_skew_ms)
    if wrong_rate and world.chance(wrong_rate):
        skew_ms = world.between(-10, 10) * 86_400_000
    return Clock(world, world.between(1_000, 10_000_000), world.between(-drift_ppm, drift_ppm), skew_ms)
