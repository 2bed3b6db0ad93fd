"""How the nodes that ask a hop for images share what it has on its way: nobody can use it up for the others.

An image is counted for one node that asks for it, its *origin*: a neighbour, or a node below one that the neighbour
asks for (`heorot.core.wire.images.Want.origin`); the peers of a node, which are not below it, are one of their own
for those above it. When there are as many images as there may be, another one takes
the place of one of the origin that has most, if that still has more than the newcomer's origin then. So each of n
origins comes to have at least one part in n, and alone all. What this host needs itself is not counted: the head lets
no more come.
"""

from __future__ import annotations

from heorot.core.images.one_image import NOBODY, Transfer
from heorot.core.tree.nodeset import MAX_NODES

_PEERS = -2


def peer_origin(node: int) -> int:
    """Return as what a peer is counted here, which is below this hop only by chance."""
    return _PEERS - MAX_NODES - node


def origin_to_tell(origin: int, node: int) -> int:
    """Return as what the hop above is to count an image of this origin: its own peers a hop names as one."""
    return origin if origin > _PEERS - MAX_NODES else _PEERS - node


def origin_of(told: int, neighbour: int, mask: int) -> int:
    """Return as what to count an image that a neighbour asks for, above these nodes: as what it says, if that is one of
    them, or the peers of one; else as its own.
    """
    node = told if told > NOBODY else _PEERS - told
    return told if node >= 0 and mask >> node & 1 else neighbour


def name_of_origin(origin: int) -> str:
    """Return a name for people."""
    if origin > NOBODY:
        return f"n{origin}"
    node = _PEERS - origin
    return f"n{node - MAX_NODES}" if node >= MAX_NODES else f"the peers of n{node}"


class ImageShares:
    """The images on a hop that are on their way for other hosts only, by origin."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[int, dict[bytes, Transfer]] = {}
        """The one that was counted first in front."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return self._count >= self._limit

    @property
    def is_too_full(self) -> bool:
        """Whether there are more than there may be."""
        return self._count > self._limit

    def held_by(self, origin: int) -> int:
        """Return how many images are counted for this node."""
        return len(self._held.get(origin, ()))

    def greediest(self) -> int:
        """Return the node for which most are counted."""
        return max(self._held, key=lambda origin: (len(self._held[origin]), -origin))

    def add(self, transfer: Transfer) -> None:
        """Count an image for one of those who ask for it: of these, for the one that has fewest."""
        self.remove(transfer)
        self._count_for(min(transfer.origins.values(), key=self._fewest), transfer)

    def _fewest(self, origin: int) -> tuple[int, int]:
        return self.held_by(origin), origin

    def _count_for(self, origin: int, transfer: Transfer) -> None:
        transfer.origin = origin
        transfer.is_counted = True
        self._held.setdefault(origin, {})[transfer.image] = transfer
        self._count += 1

    def remove(self, transfer: Transfer) -> None:
        """Count it no longer: this host needs it, or nobody does."""
        if transfer.is_counted:
            held = self._held[transfer.origin]
            del held[transfer.image]
            if not held:
                del self._held[transfer.origin]
            self._count -= 1
            transfer.is_counted, transfer.origin = False, NOBODY

    def least_missed(self, origin: int) -> Transfer | None:
        """Return the image of this node that is to go first: one that others do not ask for, too, and of which nothing
        is known, has waited in vain for the longest time; if there is none, the newest has come least far.

        None: others ask for some of them, too, for whom these are counted from now on, as they have fewer.
        """
        mine: list[Transfer] = []
        shared: list[Transfer] = []
        found: Transfer | None = None
        has_moved = False
        for transfer in list(self._held[origin].values()):
            others = [other for other in transfer.origins.values() if other != origin]
            if others:
                heir = min(others, key=self._fewest)
                if self.held_by(heir) + 1 < self.held_by(origin):
                    self.remove(transfer)
                    self._count_for(heir, transfer)
                    has_moved = True
                else:
                    shared.append(transfer)
            elif transfer.layout is None:
                found = transfer
                break
            else:
                mine.append(transfer)
        return None if has_moved else found or (mine or shared)[-1]
