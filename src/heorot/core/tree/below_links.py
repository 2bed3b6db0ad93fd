"""The links from below of a head or a relay: who is let in, what both hear alike, and when a link is over.

A neighbour connects, greets, and is a child from then on, or a visitor that comes for an image. A node has one link as
a child and one as a visitor: a newer one replaces an older one whose end has not been noticed yet. When a link is over,
the nodes that were reached through it are detached, and nothing more.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from heorot.core.context import MachineContext
from heorot.core.machine import CloseLink, LinkOpened, Log, Send
from heorot.core.routes import Handler, Routes, Side
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.below_attachments import Attachments, AttachPoint, DoubtDue
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.greeting import REFUSES_US, differs, incompatibility
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import tree as m

MAX_LINKS_BELOW = 4096

Objection: TypeAlias = tuple[str, str, str]
"""A code for the neighbour, why in a sentence, and the level at which the log is told."""


class UpperEnd(AttachPoint, Protocol):
    """The head or relay that these links belong to."""

    def objection(self, link: LinkBelow, hello: m.Hello) -> Objection | None:
        """Return why a neighbour is refused that speaks our protocol and is who it says it is; None: it is welcome."""

    def hello(self) -> m.Hello:
        """Return the greeting."""

    def pong(self) -> m.Pong:
        """Return the answer to a heartbeat."""

    def link_lost(self, link: int) -> None:
        """A link is gone; what was reached through it is still to be detached."""

    def detached(self, mask: int, heard_at_ms: int) -> None:
        """These nodes are not reached any more; from one of them something may have come last at that time."""


class LinksBelow:
    """See the module.

    Parameters
    ----------
    routes
        What neighbours may say, with the rows of `HEARD_BY_BOTH`.
    listener
        What the handlers of these routes are called with; it has these links as `links_below`.
    name
        Of the head or relay, for people.
    """

    def __init__(
        self,
        context: MachineContext[Any],
        below: NodesBelow,
        attachments: Attachments,
        upper: UpperEnd,
        routes: Routes,
        listener: Any,
        cluster: str,
        name: str,
    ) -> None:
        self._context = context
        self._below = below
        self._attachments = attachments
        self._upper = upper
        self._routes = routes
        self._listener = listener
        self._cluster = cluster
        self._name = name

    # ------------------------------------------------------------------ who comes and goes

    def opened(self, event: LinkOpened) -> LinkBelow | None:
        """Somebody has connected; return None if it is refused."""
        below, now_ms = self._below, self._context.now_ms
        is_full = len(below.by_link) >= MAX_LINKS_BELOW
        link = LinkBelow(event.link, event.peer, now_ms, below.next_event(), event.holder, self._routes)
        below.by_link[event.link] = link
        if event.peer == HEAD:
            self.refuse(link, "not-a-node", f"a head has no place below {self._name}")
        elif is_full:
            self.refuse(link, "too-many-children", f"{self._name} has {MAX_LINKS_BELOW} children already")
        return below.by_link.get(event.link)

    def greeted(self, link: LinkBelow, hello: m.Hello) -> None:
        """The neighbour says who it is."""
        problem = incompatibility(hello, self._cluster)
        if problem is None and hello.node != link.peer:
            problem = "wrong-node", f"the certificate says n{link.peer}, the greeting n{hello.node}"
        if problem is not None:
            self.refuse(link, *problem)
            return
        objection = self._upper.objection(link, hello)
        if objection is not None:
            self.refuse(link, *objection)
            return
        same = Side.VISITOR if hello.peer else Side.CHILD
        for other in list(self._below.by_link.values()):
            if other.peer == link.peer and other.side is same:
                self.close(other, "replaced by a newer link")
        link.greet(same)
        self._context.emit(Send(link.link, self._upper.hello()))

    def refuse(self, link: LinkBelow, code: str, text: str, level: str = "warning") -> None:
        """Tell a neighbour why it is not wanted, and close its link."""
        name = f"n{link.peer}" if link.peer != HEAD else "a head"
        self._context.emit(Log(level, f"{name} is refused: {text}", link.link, code))
        self._context.emit(Send(link.link, m.Refused(code, text)))
        self.close(link, text)

    def close(self, link: LinkBelow, reason: str) -> None:
        """Close a link."""
        self._context.emit(CloseLink(link.link, reason))
        self._lost(link, reason)

    def closed(self, number: int, reason: str) -> None:
        """A link is gone; it may be that of nobody here."""
        link = self._below.by_link.get(number)
        if link is not None:
            self._lost(link, reason)

    def _lost(self, link: LinkBelow, reason: str) -> None:
        gone = self._below.remove(link)
        self._upper.link_lost(link.link)
        if gone:
            self._context.log("info", f"the link to n{link.peer} is gone ({reason}): {NodeSet(gone)} detached")
            self._forgotten(gone, link.heard_at_ms)

    def detach(self, mask: int) -> None:
        """These nodes are not reached any more, whatever becomes of the links."""
        mask &= self._below.mask
        if mask:
            self._below.forget(mask)
            self._forgotten(mask, self._context.now_ms)

    def _forgotten(self, mask: int, heard_at_ms: int) -> None:
        self._attachments.lost(mask)
        self._upper.detached(mask, heard_at_ms)

    # ------------------------------------------------------------------ what they say

    def received(self, link: LinkBelow, message: m.LinkMessage) -> None:
        """A neighbour says something.

        Raises
        ------
        ProtocolError
            If it may not say that.
        """
        link.heard_at_ms = self._context.now_ms
        link.says[type(message)](self._listener, link, message)

    def pinged(self, link: LinkBelow, ping: m.Ping) -> None:
        """A neighbour is there, and says how many nodes it reaches."""
        self._context.emit(Send(link.link, self._upper.pong()))
        if ping.answered_at_ms:
            link.present_at_ms = ping.answered_at_ms
        link.doubted, is_lasting = differs(link.mask, ping.nodes, link.doubted)
        if is_lasting:
            self._context.emit(Send(link.link, self._upper.reattached()))

    def visited(self, link: LinkBelow, ping: m.Ping) -> None:
        """A visitor asks whether anybody is there."""
        self._context.emit(Send(link.link, self._upper.pong()))

    def lost_some(self, link: LinkBelow, word: m.Detached) -> None:
        """A child does not reach some nodes any more; those that have come another way are not concerned."""
        self.detach(NodeSet.from_ranges(word.nodes).mask & link.mask & ~(1 << link.peer))

    def refused(self, link: LinkBelow, word: m.Refused) -> None:
        """A child will not have us above it."""
        text = f"n{link.peer} refuses {self._name}: {word.text}"
        self._context.emit(Log("warning", text, link.link, REFUSES_US))
        self.close(link, "refused")

    # ------------------------------------------------------------------ silence

    def woke(self) -> None:
        """This process has slept: nobody was silent meanwhile."""
        for link in self._below.by_link.values():
            link.heard_at_ms = self._context.now_ms

    def close_silent(self, deadline_ms: int) -> None:
        """Close the links over which nothing has come since then."""
        for link in list(self._below.by_link.values()):
            if link.heard_at_ms < deadline_ms:
                self.close(link, "silent for too long")

    def doubt_due(self, due: DoubtDue) -> None:
        """The timer has fired: a node whose own link is silent may have come another way."""
        silent = self._attachments.silent(due.node)
        if silent is not None:
            self.close(silent, f"n{due.node} has come another way, and nothing comes over its own link")


HEARD_BY_BOTH: dict[tuple[Side, type], Handler] = {
    (Side.NEWCOMER, m.Hello): lambda part, link, hello: part.links_below.greeted(link, hello),
    (Side.CHILD, m.Ping): lambda part, link, ping: part.links_below.pinged(link, ping),
    (Side.CHILD, m.Detached): lambda part, link, word: part.links_below.lost_some(link, word),
    (Side.CHILD, m.Refused): lambda part, link, word: part.links_below.refused(link, word),
}
"""What a head and a relay hear alike from below."""
