"""What all caches of an embedded cluster take on its disk, for people."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from heorot.images.disk import names_in
from heorot.images.reclaim import ID_DIGITS, caches_of
from heorot.images.room import bound_bytes

KEPT_S = 1.0
"""What was counted is told for so long, or for `SHARE` times as long as the count took, if that is more."""
SHARE = 10


class Usage:
    """Tells `usage_of` of one cluster to all who ask, however often: whoever serves them is busy for a tenth of the
    time at most with looking through the caches. `time` is a clock, seconds.
    """

    def __init__(self, root: str, limit_bytes: int, time: Callable[[], float]) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._time = time
        self._counted: dict[str, int] | None = None
        self._good_until_s = 0.0

    def read(self) -> dict[str, int]:
        """Return what `usage_of` returns, or has returned a moment ago."""
        began_s = self._time()
        if self._counted is None or began_s >= self._good_until_s:
            self._counted = usage_of(self._root, self._limit_bytes)
            ended_s = self._time()
            self._good_until_s = ended_s + max(KEPT_S, SHARE * (ended_s - began_s))
        return dict(self._counted)


def usage_of(root: str, limit_bytes: int) -> dict[str, int]:
    """Return ``used_bytes``, what all caches below a cluster's directory take together; ``bound_bytes``, what they may
    take now if each may take `limit_bytes`; and ``copies``, how many copies are on their way or have just arrived.
    """
    caches = caches_of(root)
    taken: dict[int, int] = {}
    copies: set[str] = set()
    for cache in caches:
        copies.update(name for name in names_in(f"{cache}/copies") if len(name) == ID_DIGITS)
        for kind in ("files", "partial"):
            for name in names_in(f"{cache}/{kind}"):
                with contextlib.suppress(OSError):
                    status = os.lstat(f"{cache}/{kind}/{name}")
                    if stat.S_ISREG(status.st_mode):
                        # What several of them share is there once.
                        taken[status.st_ino] = status.st_blocks * 512
    used_bytes = sum(taken.values())
    may_bytes = bound_bytes(root, used_bytes, limit_bytes * len(caches))
    return {"used_bytes": used_bytes, "bound_bytes": may_bytes, "copies": len(copies)}
