"""What this process has slept through: who was stopped, suspended or starved must not take that for others' silence.

While it slept it could neither ask nor hear. So a look at who is silent, and a wait for somebody, notice how late they
come; if it is by far, everybody has all of the time again from now on.
"""

from __future__ import annotations

from collections.abc import Callable

TICK_MS = 1_000
LATE_MS = 1_000
"""A tick that comes so late was slept through."""


class Looks:
    """Regular looks at who is silent, each planned when the one before is taken."""

    __slots__ = ("_due_ms", "_pause_ms")

    def __init__(self) -> None:
        self._due_ms = self._pause_ms = 0

    def plan(self, now_ms: int, pause_ms: int) -> int:
        """Return when the next look is to be."""
        self._pause_ms, self._due_ms = pause_ms, now_ms + pause_ms
        return self._due_ms

    @property
    def due_ms(self) -> int:
        """When the look that was planned last is to be."""
        return self._due_ms

    def were_slept_through(self, now_ms: int) -> bool:
        """Say whether the look that is taken now comes late by half a pause at least."""
        return 2 * (now_ms - self._due_ms) >= self._pause_ms > 0


class Wakefulness:
    """Since when this process has been awake, as far as anybody is waited for: then it looks at its clock each second.

    Parameters
    ----------
    tick
        Sets the timer that calls `due`, in so many milliseconds.
    """

    def __init__(self, tick: Callable[[int], None]) -> None:
        self._tick = tick
        self._until_ms = 0
        self._due_ms: int | None = None
        self._slept_ms = 0, 0
        """From when to when, the last time."""

    def watch(self, now_ms: int, wait_ms: int) -> None:
        """Somebody is waited for, for so long from now."""
        self._until_ms = max(self._until_ms, now_ms + wait_ms)
        if self._due_ms is None:
            self._plan(now_ms)

    def due(self, now_ms: int) -> None:
        """The timer has fired."""
        self._look(now_ms)
        self._due_ms = None
        if now_ms < self._until_ms:
            self._plan(now_ms)

    def woke(self, from_ms: int, now_ms: int) -> None:
        """Something has shown that this process slept from then until now."""
        self._slept_ms = from_ms, now_ms

    def missed_ms(self, now_ms: int, began_ms: int, wait_ms: int) -> int:
        """Return for how long a wait that should be over must go on: 0, unless it was slept through."""
        self._look(now_ms)
        from_ms, woke_ms = self._slept_ms
        return max(0, wait_ms - (now_ms - woke_ms)) if from_ms < began_ms + wait_ms and woke_ms > began_ms else 0

    def _plan(self, now_ms: int) -> None:
        self._due_ms = now_ms + TICK_MS
        self._tick(TICK_MS)

    def _look(self, now_ms: int) -> None:
        # Whatever was due in the sleep fires in the same moment as the tick, and may come before it.
        if self._due_ms is not None and now_ms - self._due_ms >= LATE_MS:
            self.woke(self._due_ms, now_ms)
            self._due_ms = now_ms
