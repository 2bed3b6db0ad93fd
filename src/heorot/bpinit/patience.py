"""How long bpinit still waits for a child: what the child waits for and what it computes counts, and not that the
machine is busy and lets it wait for a processor.

A user can make the first two as long as they like, and all other users wait meanwhile. The third is nobody's fault: an
honest launch must not fail for it, nor be charged to its user.

On a busy machine the first and the third cannot always be told apart: a child that waits in the kernel for a lock whose
holder is not let run (the mount table of all nodes of a machine has one) waits as for a file system. So while others
wait for a processor (proc(5), pressure) only a part of such waiting counts.
"""

from __future__ import annotations

FREE_MS = 10
"""Of each wait, which counts for nothing."""
SLICE_MS = 20
"""So often is looked at what the child does."""
LONGEST_MS = 3_000
"""So long a child is waited for at most, whatever it does."""
CROWDED = 4
"""While others wait for a processor, one part in so many counts of what a child waits for. A user who has both a file
system that hangs and busy processes keeps bpinit this much longer, and no more."""


class Patience:
    """Of one wait.

    Parameters
    ----------
    limit_ms:
        What the child may use of it.
    """

    def __init__(self, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        self.used_ms = 0.0
        self._left_ms = max(LONGEST_MS, limit_ms)
        self._computed_ns = 0
        self._slice_ms = 0
        self._stalled_us = -1
        self._was_crowded = False

    def over(self) -> str:
        """Return in words, for who did not get what was waited for, that it is over."""
        busy = "; this node has more to do than it has processors" if self._was_crowded else ""
        return f"a file system gave no answer for {max(LONGEST_MS, self.limit_ms) - self._left_ms} ms{busy}"

    def next_ms(self) -> int:
        """Return for how long to wait before `passed` is told; 0: it is over."""
        if self.used_ms >= self.limit_ms or self._left_ms <= 0:
            return 0
        self._slice_ms = SLICE_MS if self._slice_ms else FREE_MS
        return self._slice_ms

    def passed(self, pid: int) -> None:
        """The time of `next_ms` has passed, and the child has not done what it is to do."""
        self._left_ms -= self._slice_ms
        computed_ns, waits = _look(pid)
        crowded = self._crowded()
        if waits:
            self.used_ms += self._slice_ms / CROWDED if crowded else self._slice_ms
        else:
            self.used_ms += (computed_ns - self._computed_ns) / 1e6
        self._computed_ns = computed_ns

    def _crowded(self) -> bool:
        """Return whether others waited for a processor during half of the time or more."""
        before_us, self._stalled_us = self._stalled_us, _stalled_us()
        crowded = 0 <= before_us <= self._stalled_us - self._slice_ms * 500
        self._was_crowded |= crowded
        return crowded


def _look(pid: int) -> tuple[int, bool]:
    """Return how long a process has computed (proc(5), schedstat), and whether it waits for more than a processor."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb", 0) as file:
            computed_ns = int(file.read(100).split()[0])
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            state = file.read(1024).rpartition(b")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return 0, True  # nothing is known that speaks for it
    return computed_ns, state not in (b"R", b"Z")  # what has ended is noticed at once


def _stalled_us() -> int:
    """Return for how long, since the start of the machine, somebody has waited for a processor; -1: it is not known."""
    try:
        with open("/proc/pressure/cpu", "rb", 0) as file:
            return int(file.read(256).split(b"\n", 1)[0].rpartition(b"total=")[2])
    except (OSError, ValueError):
        return -1  # a kernel without it, or a container that does not show it
