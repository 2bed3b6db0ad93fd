"""Larger pipes for ranks that write more than their readers take: such a rank need not be waited for at every 64 KiB.

The kernel counts the pipes of a user, and gives a user who has much in pipes only small ones from then on: other
processes of that user would suffer. So only who is exempt from it makes larger ones. There is a limited number of them,
and a pipe stays large until it is closed: a user has no more of them than are left for others (`heorot.core.quota` says
why), so that ranks whose output nobody reads do not keep them from the ranks of others.
"""

from __future__ import annotations

import os
from fcntl import F_SETPIPE_SZ, fcntl

PIPE_BYTES = 1024 * 1024
"""How large such a pipe is made: as large as an unprivileged process could, too."""
MAX_LARGE_PIPES = 32
"""Of one node at a time: so much memory of the kernel is held by ranks whose readers are slow."""
KEPT_PIPES = 2
"""Of them, for root."""
_SYS_ADMIN, _SYS_RESOURCE = 21, 24


class PipeRoom:
    """The pipes of a node that were made larger, by descriptor."""

    def __init__(self) -> None:
        self._large: dict[int, int] = {}
        """By descriptor: whose it is."""
        self._may: bool | None = None
        """None: nobody has asked yet."""

    def __contains__(self, fd: int) -> bool:
        return fd in self._large

    def enlarge(self, fd: int, uid: int) -> None:
        """Let more fit into this pipe of a user's rank, if that can be."""
        if fd in self._large or not self._has_room_for(uid):
            return
        if self._may is None:
            self._may = _is_exempt()
        if not self._may:
            return
        try:
            fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            return  # it is a terminal, or the kernel has no memory for it
        self._large[fd] = uid

    def _has_room_for(self, uid: int) -> bool:
        free = MAX_LARGE_PIPES - len(self._large)
        if uid == 0:
            return free > 0
        held = list(self._large.values())
        kept = max(0, KEPT_PIPES - held.count(0))
        return held.count(uid) < free - kept

    def closed(self, fd: int) -> None:
        """A pipe is closed."""
        self._large.pop(fd, None)


def _is_exempt() -> bool:
    """Say whether the kernel lets this process have any number of large pipes (pipe(7))."""
    try:
        with open("/proc/self/uid_map", "rb", 0) as file:
            is_of_the_host = file.read(64).split() == [b"0", b"0", b"4294967295"]
        with open("/proc/self/status", "rb", 0) as file:
            status = file.read(8192)
        capabilities = int(status.partition(b"CapEff:")[2].split(None, 1)[0], 16)
    except (OSError, ValueError, IndexError):
        return False  # nothing is known that speaks for it
    return os.geteuid() == 0 and is_of_the_host and bool(capabilities & (1 << _SYS_ADMIN | 1 << _SYS_RESOURCE))
