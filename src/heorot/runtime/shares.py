"""How hosts share the connections of a port at which nobody has shown yet who he is: no silence keeps others out.

The kernel says from which address a connection comes; who has many addresses is so many hosts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def oldest_of_most(visitors: Iterable[T], host_of: Callable[[T], str]) -> T:
    """Return the oldest visitor of the host that has most of them. `visitors`: the oldest first, one at least."""
    there = list(visitors)
    of_host = Counter(host_of(visitor) for visitor in there)
    return max(there, key=lambda visitor: of_host[host_of(visitor)])
