"""The clock of this daemon."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the monotonic time in milliseconds."""
    return time.monotonic_ns() // 1_000_000
