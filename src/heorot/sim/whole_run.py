"""A run as those know it who look at all of it, or break it: every host and every user, as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from heorot.sim.run import Run

if TYPE_CHECKING:
    from heorot.sim.client import VirtualUser
    from heorot.sim.head_host import HeadHost
    from heorot.sim.hosts import NodeHost
    from heorot.sim.watching import VirtualWatcher


class WholeRun(Run, Protocol):
    """One run, for the checks and for the weather."""

    head: HeadHost
    """Of those that served, the one with the highest epoch."""
    heads: list[HeadHost]
    spares: list[HeadHost]
    """Hosts that are no heads yet."""
    hosts: list[NodeHost]
    removed: list[int]
    """Nodes that were removed from the cluster; their hosts go on as if nothing had happened."""
    clients: list[VirtualUser]
    watchers: list[VirtualWatcher]

    def leader(self) -> HeadHost | None:
        """Return the head that the store names, if there is one."""
