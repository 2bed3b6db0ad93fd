"""Which node has each rank of a job: at first the one that the ticket says, later the one that the rank has moved to.

The signed ticket stays what it is: the only word on what may be *started* where. Where a rank is now is nobody's
permission, only where a head finds it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from heorot.core.tree.nodeset import MAX_NODES, NodeSet
from heorot.core.wire.node_runs import block_places, nodes_in, ranks_in, runs_of


class RankPlaces:
    """The nodes of a job's ranks.

    Parameters
    ----------
    runs
        Those of the ticket, flat: first node, count.
    nodes
        The same as a list, if that is known.
    total
        How many ranks there are; 0: one on each.

    Attributes
    ----------
    nodes:
        The node of each rank; to be changed by `move` only.
    node_set:
        All of these nodes.
    one_on_each:
        Whether no node has two ranks.
    """

    __slots__ = ("_generations", "_runs", "_total", "node_set", "nodes", "one_on_each")

    def __init__(self, runs: Sequence[int], nodes: Sequence[int] | None = None, total: int = 0) -> None:
        self._runs = runs
        nodes = nodes_in(runs) if nodes is None else nodes
        self._total = total if total != len(nodes) else 0
        # Plain numbers: a list would point to as many objects, and a large launch finds none of them in the cache.
        self.nodes = array("i", block_places(nodes, total) if self._total else nodes)
        self._generations: dict[int, int] = {}
        self._look()

    def _look(self) -> None:
        self.node_set = NodeSet.of(self.nodes)
        self.one_on_each = len(self.node_set) == len(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, rank: int) -> bool:
        return 0 <= rank < len(self.nodes)

    @property
    def runs(self) -> list[int]:
        """The nodes in flat runs, as they are now; each has one rank, or `more_ranks` are in blocks on them."""
        return runs_of(list(self.nodes)) if self._generations else list(self._runs)

    @property
    def more_ranks(self) -> int:
        """How many ranks there are on the nodes of `runs`; 0: one on each."""
        return 0 if self._generations else self._total

    def generation_of(self, rank: int) -> int:
        """Return how often a rank has moved: 0 where the ticket has put it."""
        return self._generations.get(rank, 0)

    def move(self, rank: int, node: int, generation: int) -> bool:
        """A rank is on this node since its move of this number; return False, and do nothing, if that is no news."""
        if generation <= self.generation_of(rank):
            return False
        self._generations[rank] = generation
        self.nodes[rank] = node
        self._look()
        return True

    def ranks_on(self, node: int) -> list[int]:
        """Return this node's ranks, ascending."""
        ranks = ranks_in(self._runs, node, self._total)
        if self._generations:
            ranks = [rank for rank in ranks if self.nodes[rank] == node]
            ranks = sorted({*ranks, *(rank for rank in self._generations if self.nodes[rank] == node)})
        return ranks

    def has(self, node: int, rank: int) -> bool:
        """Say whether this rank exists and is on this node."""
        return 0 <= rank < len(self.nodes) and self.nodes[rank] == node

    def has_run(self, node: int, rank: int, count: int) -> bool:
        """Say whether these consecutive ranks are on consecutive nodes, the first on this one."""
        exists = 0 <= node < MAX_NODES and 0 <= rank <= len(self.nodes) - count
        return exists and self.nodes[rank : rank + count] == array("i", range(node, node + count))
