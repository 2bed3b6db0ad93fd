"""What neighbours that have shown a certificate may take of a daemon: a few links each, and a share of its memory.

A node needs one link to its parent, and one to each node from which it has images. It comes again whenever it has lost
one, and this end may not know yet that the former is gone: so the newest link of a certificate is always let in, and it
is the oldest over which nobody has said who he is that goes, or the oldest of all.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, Protocol, TypeVar

MAX_LINKS_OF_ONE = 4
"""Links that one certificate has open to one daemon."""
MAX_BEGUN_BYTES = 512 * 1024 * 1024
"""Memory of one daemon for frames that neighbours have begun. One may hold no more of it than is left for others."""
MIB = 1024 * 1024


class Neighbour(Protocol):
    """A link that a neighbour has opened."""

    owner: tuple[str, bytes]
    """Who has shown a certificate, ``n7``, and the key that it is for: a number may have belonged to another host."""
    greeted: bool
    """It has said who it is."""

    @property
    def begun_bytes(self) -> int:
        """How much memory the frame takes that has begun to come over it."""


N = TypeVar("N", bound=Neighbour)


class LinkShares(Generic[N]):
    """See the module. Holds the links that are open, the oldest first."""

    def __init__(self) -> None:
        self._links: dict[N, None] = {}

    def join(self, link: N) -> N | None:
        """A link is open from now on: return the one that is too many and has to go, if there is one."""
        self._links[link] = None
        owned = [other for other in self._links if other.owner == link.owner]
        if len(owned) <= MAX_LINKS_OF_ONE:
            return None
        others = owned[:-1]
        return next((other for other in others if not other.greeted), others[0])

    def leave(self, link: N) -> None:
        """A link is gone, or has never been here."""
        self._links.pop(link, None)

    def refusal(self, link: N) -> str:
        """Return why what this link's owner holds is too much; empty if it is not."""
        held = Counter[tuple[str, bytes]]()
        for other in self._links:
            held[other.owner] += other.begun_bytes
        mine, total = held[link.owner], held.total()
        if mine <= MAX_BEGUN_BYTES - total:
            return ""
        return (
            f"of at most {MAX_BEGUN_BYTES / MIB:g} MiB for frames that neighbours have begun, {link.owner[0]} has "
            f"{mine / MIB:.0f} and others have {(total - mine) / MIB:.0f}: nobody may hold more than is left for others"
        )
