"""Finding processes that a process space without a namespace left behind (its bpinit was killed with SIGKILL)."""

from __future__ import annotations

import os

from heorot.linux.proctable import markers


def find_strays(marker: str) -> list[int]:
    """Return the PIDs of all processes that were started in the space with this marker, ascending.

    A process that cleared its environment, or whose environment the caller may not read, is not found.
    """
    wanted = marker.encode()
    if not wanted:
        return []
    own = os.getpid()
    pids = sorted(int(name) for name in os.listdir("/proc") if name[0].isdigit())
    return [pid for pid in pids if pid != own and markers(pid).get(b"HEOROT_SPACE") == wanted]
