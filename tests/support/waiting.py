"""Waiting for a condition, with a deadline that is no measure of speed: the machine may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_S = 150.0
"""How long anything may take before a test calls it hanging: half of what a whole test may take."""
SHORTEST_S, LONGEST_S = 0.01, 0.2

T = TypeVar("T")


def await_that(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Ask until the answer is true and return it; fail, naming `what` was awaited, when the time is over.

    A pause is as long as the question before it took, so that a test which asks by a command leaves half of a core to
    what it waits for, and to the tests beside it.
    """
    end_s = time.monotonic() + deadline_s
    while True:
        asked_s = time.monotonic()
        answer = condition()
        if answer:
            return answer
        now_s = time.monotonic()
        assert now_s < end_s, f"waited {deadline_s:.0f} s in vain: {what}; the last answer: {answer!r}"
        time.sleep(min(max(now_s - asked_s, SHORTEST_S), LONGEST_S))
