"""The other heads of the cluster: a new head tells each of them its epoch, and whoever hears of a higher one ends.

Without this, a head that was cut off from the store and from nothing else would keep its nodes, whose links are well,
and its successor would have none. The word is a `Hello` with the epoch, over a link on which both sides have shown a
head's certificate; it is repeated for as long as the head leads, because the way to the others may have been cut.
"""

from __future__ import annotations

from heorot.core import messages as m
from heorot.core.head_context import HeadContext
from heorot.core.machine import CloseLink, Connect, LinkOpened, Send, Stop
from heorot.core.nodeset import HEAD

PAUSE_MS = 1_000
"""Between two rounds, at least."""


class Rivals:
    """Tells the other heads, and hears them."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._attempt = 0
        self._links: set[int] = set()

    def announce(self) -> None:
        """Tell all others, and again later."""
        config = self._context.config
        if not config.others:
            return
        for link in sorted(self._links):
            self._close(link, "no answer in time")
        pause_ms = max(config.lease_ms, PAUSE_MS)
        for host, port in config.others:
            self._attempt += 1
            self._context.out.append(Connect(f"head:{self._attempt}", host, port, pause_ms))
        self._context.set_timer("rivals", pause_ms)

    def opened(self, event: LinkOpened) -> None:
        """Somebody answers at the address of another head."""
        if event.peer != HEAD:
            self._context.out.append(CloseLink(event.link, "it is not a head"))
            return
        self._links.add(event.link)
        config = self._context.config
        hello = m.Hello(
            m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, config.cluster, HEAD, config.epoch, config.release
        )
        self._context.out.append(Send(event.link, hello))

    def closed(self, link: int) -> None:
        """A link is gone."""
        self._links.discard(link)

    def answered(self, link: int, message: m.LinkMessage) -> None:
        """Take another head's answer, if the link is one of ours."""
        if link in self._links:
            self._close(link, "both know")
            if isinstance(message, m.Hello):
                self.heard(message.epoch)

    def heard(self, epoch: int) -> None:
        """Another head leads, or led, in this epoch."""
        if epoch > self._context.config.epoch:
            self._context.out.append(Stop(f"another head leads, in epoch {epoch}"))

    def _close(self, link: int, reason: str) -> None:
        self._links.discard(link)
        self._context.out.append(CloseLink(link, reason))
