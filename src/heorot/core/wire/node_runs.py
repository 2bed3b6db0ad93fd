"""The nodes of ranks in few numbers: flat runs of a first node and a count, as tickets have them."""

from __future__ import annotations

from collections.abc import Sequence


def nodes_in(runs: Sequence[int]) -> list[int]:
    """Return the node of each rank of flat runs: first node, count."""
    nodes: list[int] = []
    for first, count in zip(runs[0::2], runs[1::2], strict=True):
        nodes += range(first, first + count)
    return nodes


def ranks_in(runs: Sequence[int], node: int) -> list[int]:
    """Return the ranks that flat runs give to a node, ascending."""
    ranks: list[int] = []
    rank = 0
    for index in range(0, len(runs) - 1, 2):
        first, count = runs[index], runs[index + 1]
        if first <= node < first + count:
            ranks.append(rank + node - first)
        rank += count
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
