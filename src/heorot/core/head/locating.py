"""On which nodes a process may be, by its PID: where its number says, unless it is known to be elsewhere.

As root each node has PIDs of its own, and a PID tells its node (`heorot.core.head.context.HeadConfig.pid_range`). A
rank that has moved keeps its PID: it is followed for as long as it lives. Without root a PID tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from heorot.core.head.context import HeadContext
from heorot.core.head.rank_places import RankPlaces
from heorot.core.tree.nodeset import HEAD, NodeSet


class Locator:
    """Finds processes by PID."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._followed: dict[int, tuple[RankPlaces, int]] = {}
        """By PID: the ranks whose process may be elsewhere than its number says."""

    def follow(self, pid: int, places: RankPlaces, rank: int) -> None:
        """The process of this rank has left the node that its number tells: from now on it is where its rank is."""
        self._followed[pid] = places, rank

    def forget(self, pid: int) -> None:
        """That process has ended; its number may be given anew."""
        self._followed.pop(pid, None)

    def locate(self, pid: int) -> int | None:
        """Return the node that a process is on, or was made on by a rank there; None: any node may have it."""
        followed = self._followed.get(pid)
        if followed is not None:
            places, rank = followed
            return places.nodes[rank]
        size = self._context.config.pid_range
        node = pid // size - 1 if size else HEAD
        return node if node in self._context.members.records else None

    def nodes_of(self, pids: Sequence[int]) -> NodeSet:
        """Return the nodes to ask for these processes and process groups (negative numbers): they may be many."""
        members, size, followed = self._context.members, self._context.config.pid_range, set[int]()
        if self._followed:
            followed = self._followed.keys() & set(map(abs, pids))
            pids = [pid for pid in pids if abs(pid) not in followed]
        nodes = NodeSet.of(places.nodes[rank] for places, rank in map(self._followed.__getitem__, sorted(followed)))
        if not pids:
            return nodes
        owners = {abs(pid) // size - 1 for pid in pids} if size else {HEAD}
        known = owners & members.records.keys()
        nodes |= NodeSet.of(known)
        # A silent node may have what belongs to none: its head waits for it.
        return nodes if known == owners else nodes | members.up | members.silent
