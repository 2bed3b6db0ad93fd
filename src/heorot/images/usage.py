"""What all caches of an embedded cluster take on its disk, for people."""

from __future__ import annotations

import contextlib
import os
import stat

from heorot.images.disk import names_in
from heorot.images.reclaim import ID_DIGITS, caches_of
from heorot.images.room import bound_bytes


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
