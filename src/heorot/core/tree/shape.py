"""Where each node belongs in the tree: arithmetic, so that nobody needs a map.

The ideal tree is a heap of fan-out F below the head: nodes 0..F-1 are children of the head, and the children of node j
are F*(j+1) .. F*(j+1)+F-1. Up to F nodes it is flat; 1,024 nodes with F=32 are two levels. A node whose ideal parent is
not there attaches to the nearest ancestor that is.
"""

from __future__ import annotations

from heorot.core.tree.nodeset import HEAD, NodeSet


def parent_of(node: int, fanout: int) -> int:
    """Return the ideal parent of a node: a lower number, or `HEAD`."""
    assert node >= 0, node
    assert fanout >= 1, fanout
    return node // fanout - 1


def ancestors_of(node: int, fanout: int) -> list[int]:
    """Return the ideal ancestors of a node below the head, the topmost first; empty for a child of the head."""
    path: list[int] = []
    parent = parent_of(node, fanout)
    while parent != HEAD:
        path.append(parent)
        parent = parent_of(parent, fanout)
    path.reverse()
    return path


def living_path(node: int, fanout: int, usable: NodeSet) -> list[int]:
    """Return the ideal ancestors that are usable, the topmost first."""
    return [ancestor for ancestor in ancestors_of(node, fanout) if ancestor in usable]


def is_ancestor(ancestor: int, node: int, fanout: int) -> bool:
    """Say whether `ancestor` stands above `node` in the ideal tree."""
    if ancestor == HEAD:
        return True
    while node > ancestor:
        node = parent_of(node, fanout)
    return node == ancestor
