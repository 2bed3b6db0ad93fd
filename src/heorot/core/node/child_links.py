"""The links from below: greeting those who come, admitting nodes, and what they say."""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import CloseLink, LinkOpened, Log, Send
from heorot.core.node.children import Child, Children, speakable
from heorot.core.node.context import NodeContext
from heorot.core.node.images import NodeImages
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.routes import FROM_BELOW
from heorot.core.tree.greeting import REFUSES_US, REMOVED, differs, incompatibility, removal
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.tags import BULK_TAGS, TAG_ATTACH

MAX_CHILDREN = 4096


class ChildLinks:
    """The links of the neighbours below a node; most are its children, some are peers that come for images."""

    def __init__(self, context: NodeContext, children: Children, reports: SubtreeReports, images: NodeImages) -> None:
        self._context = context
        self._children = children
        self._reports = reports
        self._images = images
        self._dismissed = False
        """A head has said that this node was removed from the cluster: nobody finds a way to a head through it."""

    # ------------------------------------------------------------------ downward

    @property
    def reached(self) -> int:
        """How many nodes are reached through the children."""
        return sum(child.mask.bit_count() for child in self._children.by_link.values())

    def send_down(self, down: m.Down, mask: int, bulk: bool, newest_of: str = "") -> None:
        """Split a command for these nodes among the children through which they are reached."""
        for child in self._children.by_link.values():
            part = mask & child.mask
            if part:
                message = m.Down(down.epoch, NodeSet(part).ranges(), down.payload)
                self._context.emit(Send(child.link, message, bulk, newest_of))

    def tell_all(self, message: m.LinkMessage) -> None:
        """Send to every child that was greeted."""
        for child in self._children.by_link.values():
            if child.greeted:
                self._context.emit(Send(child.link, message))

    # ------------------------------------------------------------------ who comes and goes

    def opened(self, event: LinkOpened) -> None:
        """Somebody has connected."""
        if event.peer == HEAD:
            self._context.refuse(event.link, "not-a-node", "a head has no place below a node")
            return
        if self._dismissed:
            self._context.refuse(event.link, "not-placed-here", removal(self._context.config.node), "debug")
            return
        if len(self._children.by_link) >= MAX_CHILDREN:
            text = f"n{self._context.config.node} has {MAX_CHILDREN} children already"
            self._context.refuse(event.link, "too-many-children", text)
            return
        self._children.by_link[event.link] = Child(event.link, event.peer, self._context.now_ms, event.holder)

    def closed(self, link: int) -> None:
        """A link is gone, or given up; it may be that of nobody."""
        child = self._children.by_link.pop(link, None)
        self._images.link_lost(link)
        if child is not None and child.mask:
            self._reports.expect_no_more(child.mask)
            self._context.send_up(m.Detached(NodeSet(child.mask).ranges()))

    def _close(self, link: int, why: str) -> None:
        self._context.emit(CloseLink(link, why))
        self.closed(link)

    def dismiss(self) -> None:
        """This node was removed from the cluster: who is below it goes elsewhere, and forgets that it belongs here."""
        self._dismissed = True
        for child in list(self._children.by_link.values()):
            self._context.refuse(child.link, "not-placed-here", removal(self._context.config.node))
            self.closed(child.link)

    def welcome(self) -> None:
        """There is a way up again."""
        self._dismissed = False

    def bar(self, barred: m.Barred) -> None:
        """Let these nodes, and no others, in no more, and those that are here go."""
        self._children.barred = mask = NodeSet.from_ranges(barred.nodes).mask
        self._children.former = frozenset(barred.former)
        for child in list(self._children.by_link.values()):
            if self._children.is_barred(child.node, child.holder):
                self._context.refuse(child.link, REMOVED, removal(child.node))
                self.closed(child.link)
            elif child.mask & mask:
                self._gone(child, child.mask & mask)

    def _gone(self, child: Child, mask: int) -> None:
        child.mask &= ~mask
        self._reports.expect_no_more(mask)
        self._context.send_up(m.Detached(NodeSet(mask).ranges()))

    def woke(self) -> None:
        """This process has slept: nobody was silent meanwhile."""
        for child in self._children.by_link.values():
            child.heard_at_ms = self._context.now_ms

    def close_silent(self, deadline_ms: int) -> None:
        """Close the links over which nothing has come since then."""
        for child in list(self._children.by_link.values()):
            if child.heard_at_ms < deadline_ms:
                self._close(child.link, "silent for too long")

    # ------------------------------------------------------------------ what they say

    def received(self, link: int, message: m.LinkMessage) -> None:
        """A neighbour says something.

        Raises
        ------
        ProtocolError
            If it may not say that.
        """
        child = self._children.by_link.get(link)
        if child is not None:
            child.heard_at_ms = self._context.now_ms
            FROM_BELOW.find(child.side, message)(self, child, message)

    def _asked(self, child: Child, message: m.Want | m.Took) -> None:
        self._images.asked(child, message)

    def _reported(self, child: Child, report: m.Report) -> None:
        allowed = speakable(child, report)
        if allowed is not None:
            self._reports.merge(allowed)

    def _detached(self, child: Child, detached: m.Detached) -> None:
        gone = NodeSet.from_ranges(detached.nodes).mask & child.mask & ~(1 << child.node)
        if gone:
            self._gone(child, gone)

    def _visitor_ping(self, visitor: Child, ping: m.Ping) -> None:
        self._context.emit(Send(visitor.link, m.Pong(self._context.headless)))

    def _ping(self, child: Child, ping: m.Ping) -> None:
        context = self._context
        context.emit(Send(child.link, m.Pong(context.headless)))
        child.doubted, again = differs(child.mask, ping.nodes, child.doubted)
        if again and context.uplink.attached:
            context.emit(Send(child.link, m.Reattached(context.epoch)))

    def _refused(self, child: Child, refused: m.Refused) -> None:
        self._context.emit(Log("warning", f"n{child.node} refuses this node: {refused.text}", child.link, REFUSES_US))
        self._close(child.link, "refused")

    def _greeted(self, child: Child, hello: m.Hello) -> None:
        context = self._context
        problem = incompatibility(hello, context.config.cluster)
        if problem is None and hello.node != child.node:
            problem = "wrong-node", f"the certificate says n{child.node}, the greeting n{hello.node}"
        if problem is None and self._children.is_barred(child.node, child.holder):
            # The log was told when the head said so; this one comes again and again.
            context.refuse(child.link, REMOVED, removal(child.node), "debug")
            self.closed(child.link)
            return
        if problem:
            context.refuse(child.link, *problem)
            self.closed(child.link)
            return
        # A node has one link as a child, and one as a peer: a newer one replaces an older one whose end has not been
        # noticed yet.
        for other in list(self._children.by_link.values()):
            if other.node == child.node and (other.is_peer if hello.peer else other.greeted):
                self._close(other.link, "replaced by a newer link")
        child.is_peer, child.greeted = hello.peer, not hello.peer
        context.emit(Send(child.link, context.hello()))

    def _up(self, child: Child, up: m.Up) -> None:
        tag = m.tag_of(up.payload)
        if tag == TAG_ATTACH:
            if not self._admit(child, up):
                return
        elif tag < 0:
            raise ProtocolError("a payload without a tag")
        elif not child.mask >> up.node & 1:
            # Not yet admitted, or moved elsewhere: its inventory will say it again on the new way.
            return
        self._context.send_up(up, bulk=tag in BULK_TAGS)

    def _admit(self, child: Child, up: m.Up) -> bool:
        attach = m.decode_node_payload(up.payload)
        assert isinstance(attach, m.Attach)
        try:
            admitted = self._children.admit(child, up.node, attach)
        except (SecurityError, ProtocolError) as error:
            text = f"n{up.node} may not attach here: {error}"
            self._context.emit(Log("warning", text, child.link, "not-placed-here"))
            if child.node == up.node:
                self._context.refuse(child.link, "not-placed-here", str(error))
                self.closed(child.link)
            return False
        if admitted:
            self._reports.expect_no_more(1 << up.node)
        return admitted
