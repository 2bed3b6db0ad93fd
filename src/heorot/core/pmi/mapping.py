"""Which ranks are on one node, as MPI libraries are told: ``(vector,(0,8,16))`` is 16 ranks on each of 8 nodes.

Each triple is a first node, how many nodes, and how many ranks on each of them, one after the other; nodes count from 0
in the order in which ranks first come to them (MPICH's src/util/mpir_nodemap.h).
"""

from __future__ import annotations

from heorot.core.pmi.lines import MAX_VALUE_BYTES
from heorot.core.wire.node_runs import nodes_in


def process_mapping(runs: list[int], total: int = 0) -> bytes:
    """Return the mapping of the nodes of a ticket (flat: first node, count), which have so many ranks in blocks, or (0)
    one each; nothing if it is too long to be told.

    A library that is told nothing compares the names of hosts.
    """
    numbers: dict[int, int] = {}
    blocks: list[list[int]] = []
    for node, ranks in _on_each(runs, total or sum(runs[1::2])):
        number = numbers.setdefault(node, len(numbers))
        if blocks and blocks[-1][0] + blocks[-1][1] == number and blocks[-1][2] == ranks:
            blocks[-1][1] += 1
        else:
            blocks.append([number, 1, ranks])
    text = b"(vector,%s)" % b",".join(b"(%d,%d,%d)" % tuple(block) for block in blocks)
    return text if len(text) <= MAX_VALUE_BYTES else b""


def _on_each(runs: list[int], total: int) -> list[tuple[int, int]]:
    """Return node after node, in the order of ranks, with how many ranks one after the other are there."""
    each, more = divmod(total, max(1, sum(runs[1::2])))
    stays: list[tuple[int, int]] = []
    for place, node in enumerate(nodes_in(runs)):
        ranks = each + (place < more)
        if stays and stays[-1][0] == node:
            stays[-1] = node, stays[-1][1] + ranks
        elif ranks:
            stays.append((node, ranks))
    return stays
