"""What is wanted of nodes on the disk of a head's host, and the way of a change from the head to the store and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from heorot.core.wire.wishes import KeepWishes, NodeWish, WishesKept, newest

Wishes = dict[int, NodeWish]
"""By node."""


def newest_of_both(ours: Wishes, theirs: Iterable[NodeWish]) -> Wishes:
    """Return what is newest in either, in the order of nodes."""
    found = dict(ours)
    for wish in theirs:
        found[wish.node] = newest(found[wish.node], wish) if wish.node in found else wish
    return {node: found[node] for node in sorted(found)}


class WishDisk:
    """Does what `heorot.daemons.kept_wishes` does. `share` asks the keeper to bring it into the store."""

    def __init__(self, share: Callable[[], None]) -> None:
        self.wishes: Wishes = {}
        """It outlives head, keeper and power."""
        self._share = share
        self._waiting: deque[tuple[KeepWishes, Callable[[WishesKept], None]]] = deque()

    def keep(self, item: KeepWishes, feed: Callable[[WishesKept], None]) -> None:
        """Write these down, and have the keeper bring them into the store."""
        self.wishes = newest_of_both(self.wishes, item.wishes)
        self._waiting.append((item, feed))
        self._share()

    def take(self, theirs: Iterable[NodeWish]) -> None:
        """Take over what the store has."""
        self.wishes = newest_of_both(self.wishes, theirs)

    def shared(self, answer: dict[str, Any]) -> None:
        """The keeper answers for what was asked first."""
        if self._waiting:
            item, feed = self._waiting.popleft()
            feed(WishesKept(item.serial, str(answer.get("error", ""))))

    def forget(self) -> None:
        """The head that has asked is gone."""
        self._waiting.clear()
