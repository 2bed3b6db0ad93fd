"""Finds out that a head hangs: the head says that it lives, and its keeper counts.

A head that hangs keeps its connections, and its keeper would renew its lease for ever: everybody would wait.
"""

from __future__ import annotations

PULSE_S = 0.5
"""How often the head says that it lives, and the keeper listens."""


class Watchdog:
    """Counts the time in which the keeper was awake and the head silent: if both were stopped, the head hangs no more
    than its keeper did.

    Parameters
    ----------
    limit_s
        How long the silence may last.
    now_s
        The time, on the clock of `is_silent`.
    """

    def __init__(self, limit_s: float, now_s: float) -> None:
        self._limit_s = limit_s
        self._looked_s = now_s
        self.silent_s = 0.0

    def is_silent(self, now_s: float, heard: bool) -> bool:
        """Say whether the head has been silent for too long; to be called every `PULSE_S`, or more often. `heard`: it
        has said something since the last time.
        """
        self.silent_s = 0.0 if heard else self.silent_s + min(now_s - self._looked_s, 2 * PULSE_S)
        self._looked_s = now_s
        return self.silent_s >= self._limit_s
