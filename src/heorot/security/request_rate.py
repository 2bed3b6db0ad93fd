"""How hosts share the requests of a port at which nobody has shown yet who he is: no host's flood shuts others out.

So many requests may come at once, and that many more in each second. A host may have made no more of those that still
count than are left for others: however greedy it is, the next host finds room. A host alone has nearly all of the rate.
"""

from __future__ import annotations

LEAST = 0.5
"""A host of whose requests less than this still counts is forgotten."""


class RequestRate:
    """Of one port.

    Parameters
    ----------
    at_once
        How many requests may come at the same time.
    per_second
        How many of those cease to count in a second, of each host in proportion.
    now_s
        The time.
    """

    def __init__(self, at_once: int, per_second: float, now_s: float) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._at_s = now_s
        self._made: dict[str, float] = {}
        """By host: how many of its requests still count; at most `at_once` / `LEAST` hosts."""

    def refusal(self, host: str, now_s: float) -> str:
        """Count a request of this host; or return why it may make none now."""
        self._forget(now_s)
        mine, total = self._made.get(host, 0.0), sum(self._made.values())
        left = self._at_once - total
        if left < 1:
            return "too many hosts join at this moment; try again"
        if mine >= left:
            return f"too many requests come from {host} at this moment: no host may make more than are left; try again"
        self._made[host] = mine + 1
        return ""

    def _forget(self, now_s: float) -> None:
        total = sum(self._made.values())
        over = max(0.0, now_s - self._at_s) * self._per_second
        self._at_s = now_s
        if total:
            factor = max(0.0, 1 - over / total)
            self._made = {host: made * factor for host, made in self._made.items() if made * factor >= LEAST}
