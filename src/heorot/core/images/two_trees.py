"""Two trees over the same members, so that everybody sends about as much as it receives.

In one tree whose inner members have two children each, those send everything twice, and the leaves nothing. In two
trees of which each carries every other chunk, with the inner members of the one as leaves of the other, each sends what
it receives, once, and the time for a large image is that for one copy over one link, whatever the number of members
(P. Sanders, J. Speck, J. L. Träff: "Two-tree algorithms for full bandwidth broadcast, reduction and scan", Parallel
Computing 35, 2009). All is arithmetic over the members' order: nobody needs a map.
"""

from __future__ import annotations

TREES = 2


def parent_rank(rank: int, members: int) -> int | None:
    """Return the parent of a member in the tree that is numbered in order (left, root, right); None for its root.

    In it the members of even rank are leaves, so all inner members have odd ranks.
    """
    assert 0 <= rank < members, (rank, members)
    number = rank + 1
    root = 1 << (members.bit_length() - 1)
    while number != root:
        step = number & -number
        number = number - step if number & step << 1 else number + step
        if number <= members:
            return number - 1
    return None


def parent_in(tree: int, rank: int, members: int) -> int | None:
    """Return the parent of a member in tree 0 or 1; None for the root.

    Tree 1 is tree 0 seen in a mirror or, when the number of members is odd, moved by one: each time odd and even ranks
    change places.
    """
    if tree == 0:
        return parent_rank(rank, members)
    parent = parent_rank(_swapped(rank, members), members)
    return None if parent is None else _swapped_back(parent, members)


def root_of(tree: int, members: int) -> int:
    """Return the rank of the root of tree 0 or 1."""
    root = (1 << (members.bit_length() - 1)) - 1
    return root if tree == 0 else _swapped_back(root, members)


def _swapped(rank: int, members: int) -> int:
    return members - 1 - rank if members % 2 == 0 else (rank - 1) % members


def _swapped_back(rank: int, members: int) -> int:
    return members - 1 - rank if members % 2 == 0 else (rank + 1) % members


class Order:
    """The members of a swarm, in the order of their ranks: ascending, but that two of them, which are fed by who began
    it, change places with the members at the roots.

    Parameters
    ----------
    nodes
        Ascending, at least two.
    tops
        The root of tree 0 and that of tree 1, two different members.
    """

    def __init__(self, nodes: list[int], tops: tuple[int, int]) -> None:
        assert len(nodes) >= TREES, nodes
        self._nodes = list(nodes)
        self._ranks = {node: rank for rank, node in enumerate(nodes)}
        for tree, top in enumerate(tops):
            self._swap(self._ranks[top], root_of(tree, len(nodes)))

    def _swap(self, one: int, other: int) -> None:
        nodes = self._nodes
        nodes[one], nodes[other] = nodes[other], nodes[one]
        self._ranks[nodes[one]], self._ranks[nodes[other]] = one, other

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: int) -> bool:
        return node in self._ranks

    def parent(self, tree: int, node: int) -> int | None:
        """Return who sends to this node in a tree; None: it is its root."""
        parent = parent_in(tree, self._ranks[node], len(self._nodes))
        return None if parent is None else self._nodes[parent]
