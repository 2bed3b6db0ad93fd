"""How long bpinit still waits for a child: what the child waits for and what it computes counts, and not that the
machine is busy and lets it wait for a processor.

A user can make the first two as long as they like, and all other users wait meanwhile. The third is nobody's fault: an
honest launch must not fail for it, nor be charged to its user.
"""

from __future__ import annotations

FREE_MS = 10
"""Of each wait, which counts for nothing."""
SLICE_MS = 20
"""So often is looked at what the child does."""
LONGEST_MS = 3_000
"""So long a child is waited for at most, whatever it does."""


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
        self.used_ms += self._slice_ms if waits else (computed_ns - self._computed_ns) / 1e6
        self._computed_ns = computed_ns


def _look(pid: int) -> tuple[int, bool]:
    """Return how long a process has computed (proc(5), schedstat), and whether it waits for more than a processor."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb", 0) as file:
            computed_ns = int(file.read(100).split()[0])
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            state = file.read(1024).rpartition(b")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return 0, True  # nothing is known that speaks for it
    return computed_ns, state != b"R"
