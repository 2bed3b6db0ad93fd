"""Finds out that a head's event loop hangs: the head says through a pipe that it lives, and its keeper counts.

A head that hangs keeps its connections, and its keeper would renew its lease for ever: everybody would wait.
"""

from __future__ import annotations

import contextlib
import os

from heorot.runtime.loop import Loop

PULSE_S = 0.5
"""How often the head says that it lives, and the keeper listens."""


def say_alive(loop: Loop, fd: int) -> None:
    """Say from now on that this loop goes round. `fd`: the writing end of a pipe, which does not block."""
    # A pipe that is full has news enough for a keeper that sleeps; without a keeper the kernel ends this process.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(fd, b".")
    loop.call_at(loop.time() + PULSE_S, say_alive, loop, fd)


class Watchdog:
    """The keeper's side. It counts the time in which the keeper was awake: if both were stopped, the head hangs no more
    than its keeper did.

    Parameters
    ----------
    fd
        The reading end of the pipe, which does not block.
    limit_s
        How long the silence may last.
    now_s
        The time, on the clock of `is_silent`.
    """

    def __init__(self, fd: int, limit_s: float, now_s: float) -> None:
        self._fd = fd
        self._limit_s = limit_s
        self._looked_s = now_s
        self.silent_s = 0.0

    def is_silent(self, now_s: float) -> bool:
        """Say whether the head has been silent for too long; to be called every `PULSE_S`, or more often."""
        self.silent_s += min(now_s - self._looked_s, 2 * PULSE_S)
        self._looked_s = now_s
        with contextlib.suppress(BlockingIOError):
            if os.read(self._fd, 65536):
                self.silent_s = 0.0
        return self.silent_s >= self._limit_s
