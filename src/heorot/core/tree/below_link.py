"""One link from below as its upper end keeps it: who is there, what it may say, and which nodes are reached through it.

Its states are in `heorot.core.tree.states`.
"""

from __future__ import annotations

from heorot.core.routes import Routes, Side
from heorot.core.tree.states import LINK_BELOW, LinkChange


class LinkBelow:
    """A neighbour below, at one link."""

    __slots__ = (
        "_routes", "doubted", "heard_at_ms", "holder", "link", "mask", "opened", "peer", "present_at_ms", "says",
        "side", "state", "story",
    )  # fmt: skip

    def __init__(self, link: int, peer: int, now_ms: int, opened: int, holder: bytes, routes: Routes) -> None:
        self.state = LINK_BELOW.start
        self.story = 0
        self.link = link
        self.peer = peer
        """The node at its end, as its certificate says."""
        self.holder = holder
        """Which key its certificate is for; empty: it cannot be told."""
        self.opened = opened
        """When, in the sequence of events of `heorot.core.tree.below.NodesBelow`."""
        self.heard_at_ms = now_ms
        self.present_at_ms: int | None = None
        """The neighbour is known to have been there at this time of our clock, or later."""
        self.mask = 0
        """Of the nodes that are reached through it."""
        self.doubted = False
        """It said at its last heartbeat that it reaches another number of nodes than are known."""
        self._routes = routes
        self.side = Side.NEWCOMER
        self.says = routes.said_by(Side.NEWCOMER)
        """What it may say now, and what is done then."""

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return f"link {self.link} of n{self.peer}"

    @property
    def is_child(self) -> bool:
        """It was greeted, and not as a visitor."""
        return self.side is Side.CHILD

    @property
    def is_attached(self) -> bool:
        """The neighbour itself is reached through it."""
        return self.peer >= 0 and bool(self.mask >> self.peer & 1)

    def greet(self, side: Side) -> None:
        """Hear the neighbour from now on as a child, or as a visitor."""
        LINK_BELOW.step(self, LinkChange.VISITED if side is Side.VISITOR else LinkChange.GREETED)
        self.side, self.says = side, self._routes.said_by(side)

    def reach(self, mask: int) -> None:
        """Reach these nodes through it, too."""
        LINK_BELOW.step(self, LinkChange.REACHED)
        self.mask |= mask

    def forget(self, mask: int) -> None:
        """Reach these nodes through it no longer; some of them were."""
        self.mask &= ~mask
        if not self.mask:
            LINK_BELOW.step(self, LinkChange.EMPTIED)

    def end(self) -> int:
        """It is gone; return the nodes that were reached through it."""
        LINK_BELOW.step(self, LinkChange.ENDED)
        gone, self.mask = self.mask, 0
        return gone
