"""The other heads of the cluster: a new head tells each of them its epoch, and whoever hears of a higher one ends.

Without this, a head that was cut off from the store and from nothing else would keep its nodes, whose links are well,
and its successor would have none. The word is a `Hello` with the epoch, over a link on which both sides have shown a
head's certificate; it is repeated for as long as the head leads, because the way to the others may have been cut.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.routes import FROM_RIVALS
from heorot.core.head.timers import RivalsDue
from heorot.core.machine import CloseLink, Connect, ConnectFailed, LinkOpened, Send, Stop
from heorot.core.routes import Side
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import tree as m

PAUSE_MS = 1_000
"""Between two rounds, at least."""
MAX_REASONS = 16


class Rivals:
    """Tells the other heads, and hears them."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._attempt = 0
        self._others = context.config.others
        self._own: set[tuple[str, int]] = set()
        """Addresses at which this head itself has answered."""
        self._armed = False
        self._asked: dict[str, tuple[str, int]] = {}
        """The addresses of this round, by the key of the connection."""
        self._links: dict[int, tuple[str, int]] = {}
        self._told: list[str] = []

    def know(self, listed: tuple[m.HeadAddress, ...]) -> None:
        """The cluster has these heads now; empty: nobody has said."""
        config = self._context.config
        if listed:
            others = [(head.host, head.port) for head in listed if head.name != config.name]
            self._others = tuple(other for other in others if other not in self._own)
            if not self._armed:
                self.announce()

    def announce(self) -> None:
        """Tell all others, and again later."""
        self._armed = bool(self._others)
        if not self._others:
            return
        for link in sorted(self._links):
            self._close(link, "no answer in time")
        self._asked.clear()
        pause_ms = max(self._context.config.lease_ms, PAUSE_MS)
        for host, port in self._others:
            self._attempt += 1
            key = f"head:{self._attempt}"
            self._asked[key] = host, port
            self._context.out.append(Connect(key, host, port, pause_ms))
        self._context.set_timer(RivalsDue(), pause_ms)

    def opened(self, event: LinkOpened) -> None:
        """Somebody answers at the address of another head."""
        address = self._asked.get(event.connected_for)
        if event.peer != HEAD or address is None:
            self._context.out.append(CloseLink(event.link, "it is not a head" if address else "no longer needed"))
            return
        self._links[event.link] = address
        config = self._context.config
        hello = m.Hello(
            m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, config.cluster, HEAD, config.epoch, config.release
        )
        self._context.out.append(Send(event.link, hello))

    def failed(self, event: ConnectFailed) -> None:
        """Nobody answers at the address of another head: that is usual. One who is no head of ours is said once."""
        if "certificate" in event.reason and event.reason not in self._told and len(self._told) < MAX_REASONS:
            self._told.append(event.reason)
            self._context.log("warning", f"the address of another head: {event.reason}")

    def closed(self, link: int) -> None:
        """A link is gone."""
        self._links.pop(link, None)

    def answered(self, link: int, message: m.LinkMessage) -> None:
        """Take another head's answer, if the link is one of ours. Raises ProtocolError."""
        address = self._links.get(link)
        if address is not None:
            handler = FROM_RIVALS.find(Side.RIVAL, message)
            self._close(link, "both know")
            handler(self, address, message)

    def _greeted(self, address: tuple[str, int], hello: m.Hello) -> None:
        self.heard(hello.epoch)
        if hello.epoch == self._context.config.epoch:
            # Nobody else leads in this epoch: one of the addresses is this head's own, by another name.
            self._own.add(address)
            self._others = tuple(other for other in self._others if other != address)

    def _refused(self, address: tuple[str, int], refused: m.Refused) -> None:
        """It is not one of this cluster's, or of another release: it has heard the epoch all the same."""

    def heard(self, epoch: int) -> None:
        """Another head leads, or led, in this epoch."""
        if epoch > self._context.config.epoch:
            self._context.out.append(Stop(f"another head leads, in epoch {epoch}"))

    def _close(self, link: int, reason: str) -> None:
        del self._links[link]
        self._context.out.append(CloseLink(link, reason))
