"""Which nodes are reached through which link from below: by masks, so that a command is split with one ``&`` a link."""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.machine import Send, SharedInstruction
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.nodeset import ranges_in
from heorot.core.wire import tree as m


class NodesBelow:
    """The links from below of a head or a relay, by number, and what they reach. At most one of them reaches a node."""

    def __init__(self, emit: Callable[[SharedInstruction], None]) -> None:
        self._emit = emit
        self.by_link: dict[int, LinkBelow] = {}
        self.mask = 0
        """Every node that is reached."""
        self._events = 0

    def next_event(self) -> int:
        """Return a number that says what comes after what."""
        self._events += 1
        return self._events

    def reach(self, node: int, link: LinkBelow) -> None:
        """Reach a node through this link from now on, and through no other."""
        bit = 1 << node
        if self.mask & bit and not link.mask & bit:
            self.forget(bit)
        link.reach(bit)
        self.mask |= bit

    def forget(self, mask: int) -> None:
        """These nodes are not reached any more."""
        self.mask &= ~mask
        for link in self.by_link.values():
            if link.mask & mask:
                link.forget(mask)

    def remove(self, link: LinkBelow) -> int:
        """A link is gone; return the nodes that were reached through it."""
        del self.by_link[link.link]
        gone = link.end()
        self.mask &= ~gone
        return gone

    def send_down(self, epoch: int, mask: int, payload: bytes, bulk: bool = False, newest_of: str = "") -> int:
        """Split a command for these nodes among the links that reach them; return those that cannot be reached.

        `newest_of` as in `heorot.core.machine.Send`.
        """
        for link in self.by_link.values():
            part = mask & link.mask
            if part:
                self._emit(Send(link.link, m.Down(epoch, ranges_in(part), payload), bulk, newest_of))
                mask ^= part
                if not mask:
                    break
        return mask

    def tell_children(self, message: m.LinkMessage) -> None:
        """Send to every child that was greeted."""
        for link in self.by_link.values():
            if link.is_child:
                self._emit(Send(link.link, message))
