"""Who is none of the cluster's any more: removed nodes, and former holders of a number that was given anew."""

from __future__ import annotations


class Outcasts:
    """What a head knows from the registry, and what it has told a relay (`heorot.core.wire.heads.Barred`)."""

    def __init__(self) -> None:
        self.removed = 0
        """Mask of the nodes that were removed from the cluster."""
        self.former: frozenset[tuple[int, bytes]] = frozenset()
        """Numbers that were given anew, and to whom they were given before."""
        self.given_to: dict[int, bytes] = {}
        """Which key each number was given to, as far as a registry says: of that only heads know."""

    def clear(self) -> None:
        """Nobody has said anything."""
        self.removed, self.former, self.given_to = 0, frozenset(), {}

    def is_removed(self, node: int) -> bool:
        """Say whether this number was removed, and not given anew since. A head, -1, never was."""
        return node >= 0 and bool(self.removed >> node & 1)

    def is_former(self, node: int, holder: bytes) -> bool:
        """Say whether the number of a neighbour with this key is another one's now; empty: its key cannot be told."""
        known = self.given_to.get(node)
        if known is None:
            return (node, holder) in self.former
        return bool(known and holder) and holder != known

    def keeps_out(self, node: int, holder: bytes) -> bool:
        """Say whether a neighbour with this key is to be refused."""
        return self.is_removed(node) or self.is_former(node, holder)

    def was_placed_before(self, node: int, holder: bytes) -> bool:
        """Say whether a placement for this holder of a number is no longer good; empty: it does not say for whom."""
        known = self.given_to.get(node)
        if known is None:
            return (node, holder) in self.former if holder else self._was_given_anew(node)
        return holder != known and (bool(holder) or self._was_given_anew(node))

    def _was_given_anew(self, node: int) -> bool:
        return any(number == node for number, _ in self.former)
