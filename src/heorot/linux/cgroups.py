"""What the control groups of this process still allow it: a container's limits, which /proc/meminfo does not tell."""

from __future__ import annotations

import os

ROOT = "/sys/fs/cgroup"
UNLIMITED = 1 << 62
MAX_DEPTH = 64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
_PIDS = {"": ("pids.max", "pids.current"), "pids": ("pids.max", "pids.current")}
"""The limit and what is used, for each controller of version 1, and for the one hierarchy of version 2."""


def memory_room_bytes(root: str = ROOT, membership: str = "/proc/self/cgroup") -> int:
    """Return how much memory may still be taken; what the kernel can drop of its file cache counts as free."""
    return min((room + _droppable(group) for group, room in _rooms(_MEMORY, root, membership)), default=UNLIMITED)


def process_room(root: str = ROOT, membership: str = "/proc/self/cgroup") -> int:
    """Return how many more processes may be started."""
    return min((room for _, room in _rooms(_PIDS, root, membership)), default=UNLIMITED)


def _rooms(files: dict[str, tuple[str, str]], root: str, membership: str) -> Iterator[tuple[str, int]]:
    """Yield each group above this process that has a limit, and what it leaves."""
    try:
        with open(membership, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller not in files:
                continue
            top = os.path.join(root, controller)
            group = os.path.normpath(top + path)
            for _ in range(MAX_DEPTH):
                # Of a container's groups those further up cannot be seen from inside.
                limit, used = (_read(os.path.join(group, name)) for name in files[controller])
                if limit is not None and used is not None and limit < UNLIMITED:
                    yield group, max(0, limit - used)
                if len(group) <= len(top.rstrip("/")):
                    break
                group = os.path.dirname(group)


def _read(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None  # not there, or "max"


def _droppable(group: str) -> int:
    try:
        with open(os.path.join(group, "memory.stat"), encoding="ascii") as file:
            values = dict(line.split() for line in file)
        return int(values["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0
