"""The nodes of ranks in few numbers: flat runs of a first node and a count, as tickets have them.

A launch names its nodes once, however many ranks each has: where a job has more ranks than its runs have nodes, each
node has a block of consecutive ranks, and of blocks that cannot be equal the first ones have one rank more. It follows
from the number of ranks alone, so everybody who has the ticket knows it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # commands start without `collections.abc`
if TYPE_CHECKING:
    from collections.abc import Sequence


def block_places(nodes: Sequence[int], total: int) -> list[int]:
    """Return the node of each of `total` ranks, in blocks on these nodes in their order."""
    each, more = divmod(total, max(1, len(nodes)))
    spread_nodes: list[int] = []
    for index, node in enumerate(nodes):
        spread_nodes += [node] * (each + (index < more))
    return spread_nodes


def nodes_in(runs: Sequence[int], total: int = 0) -> list[int]:
    """Return the node of each rank of flat runs: first node, count. `total`: how many ranks there are, if more or fewer
    than nodes."""
    nodes: list[int] = []
    for first, count in zip(runs[0::2], runs[1::2], strict=True):
        nodes += range(first, first + count)
    return block_places(nodes, total) if total else nodes


def ranks_in(runs: Sequence[int], node: int, total: int = 0) -> list[int]:
    """Return the ranks that flat runs give to a node, ascending; `total` as for `nodes_in`."""
    places: list[int] = []
    count_before = 0
    for index in range(0, len(runs) - 1, 2):
        first, count = runs[index], runs[index + 1]
        if first <= node < first + count:
            places.append(count_before + node - first)
        count_before += count
    if not total or not places:
        return places
    each, more = divmod(total, count_before)
    ranks: list[int] = []
    for place in places:
        begin = place * each + min(place, more)
        ranks += range(begin, begin + each + (place < more))
    return ranks


def runs_of(nodes: list[int]) -> list[int]:
    """Return the flat runs (first node, count) of ranks on these nodes, in order."""
    if nodes and nodes == list(range(nodes[0], nodes[0] + len(nodes))):
        return [nodes[0], len(nodes)]
    runs: list[int] = []
    for node in nodes:
        if runs and node == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += (node, 1)
    return runs
