"""A relay's part in the links from below: whom it lets in, and what it passes on of what its children say.

What a head and a relay do alike is in `heorot.core.tree.below_links`.
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import LinkOpened
from heorot.core.node.context import NodeContext
from heorot.core.node.images import NodeImages
from heorot.core.node.reports import SubtreeReports
from heorot.core.routes import Routes
from heorot.core.tree.below_attachments import Attachments, NodeBelow
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.below_links import LinksBelow, Objection
from heorot.core.tree.greeting import RELAY_REMOVED, REMOVED, removal
from heorot.core.tree.merged_gathered import gathered_for
from heorot.core.tree.merged_replies import check_replies, replies_for
from heorot.core.tree.merged_reports import speakable
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.tags import BULK_TAGS, TAG_ATTACH, TAG_REPLY


class ChildLinks:
    """The links of the neighbours below a node; most are its children, some are visitors that come for images.

    Parameters
    ----------
    routes
        What they may say.
    """

    def __init__(self, context: NodeContext, reports: SubtreeReports, images: NodeImages, routes: Routes) -> None:
        config = context.config
        self._context = context
        self._reports = reports
        self.images = images
        self._dismissed = False
        """Somebody above says that this node was removed from the cluster: nobody finds a way to a head through it."""
        self._attachments = Attachments(
            context, context.below, self, context.verify, config.cluster, config.node, context.outcasts
        )
        self.links_below = LinksBelow(
            context, context.below, self._attachments, self, routes, self, config.cluster, f"n{config.node}"
        )

    # ------------------------------------------------------------------ for the links from below

    def hello(self) -> m.Hello:
        """Return the greeting of this node."""
        return self._context.hello()

    def objection(self, link: LinkBelow, hello: m.Hello) -> Objection | None:
        """See `heorot.core.tree.below_links.UpperEnd`."""
        if self._context.outcasts.keeps_out(link.peer, link.holder):
            # The log was told when the head said so; this one comes again and again.
            return REMOVED, removal(link.peer), "debug"
        return None

    def pong(self) -> m.Pong:
        """Return the answer to a heartbeat."""
        return m.Pong(self._context.headless)

    def reattached(self) -> m.Reattached:
        """Return the word with which somebody below is asked to attach again."""
        return m.Reattached(self._context.epoch)

    def known(self, node: int) -> NodeBelow | None:
        """Return what is known of a node below."""
        return self._context.records.get(node)

    def record(self, node: int) -> NodeBelow:
        """Return what is known of a node below; one that comes for the first time is known from now on."""
        return self._context.records.setdefault(node, NodeBelow(node))

    def was_sent_there(self, record: NodeBelow, placed: tuple[int, int]) -> bool:
        """Say whether a placement is a newer one than that with which a node came here."""
        return placed > record.shown

    def link_lost(self, link: int) -> None:
        """A neighbour below is gone."""
        self.images.link_lost(link)

    def detached(self, mask: int, heard_at_ms: int) -> None:
        """These nodes are not reached any more."""
        self._reports.expect_no_more(mask)
        self._context.send_up(m.Detached(NodeSet(mask).ranges()))

    # ------------------------------------------------------------------ who is let in

    def opened(self, event: LinkOpened) -> None:
        """Somebody has connected."""
        link = self.links_below.opened(event)
        if link is not None and self._dismissed:
            self.links_below.refuse(link, RELAY_REMOVED, removal(self._context.config.node), "debug")

    def dismiss(self) -> None:
        """This node was removed from the cluster: who is below it goes elsewhere, until a head places it here anew."""
        self._dismissed = True
        for link in list(self._context.below.by_link.values()):
            self.links_below.refuse(link, RELAY_REMOVED, removal(self._context.config.node))

    def welcome(self) -> None:
        """There is a way up again."""
        self._dismissed = False

    def bar(self, barred: m.Barred) -> None:
        """Let these nodes, and no others, in no more, and those that are here go."""
        outcasts = self._context.outcasts
        outcasts.removed = NodeSet.from_ranges(barred.nodes).mask
        outcasts.former = frozenset(barred.former)
        for link in list(self._context.below.by_link.values()):
            if outcasts.keeps_out(link.peer, link.holder):
                self.links_below.refuse(link, REMOVED, removal(link.peer))
        self.links_below.detach(outcasts.removed)

    # ------------------------------------------------------------------ what they say

    def up(self, link: LinkBelow, up: m.Up) -> None:
        """A child passes on what a node says to the head. Raises ProtocolError."""
        tag = m.tag_of(up.payload)
        if tag == TAG_ATTACH:
            if not self._has_attached(link, up):
                return
        elif tag < 0:
            raise ProtocolError("a payload without a tag")
        elif not link.mask >> up.node & 1:
            # Not yet admitted, or moved elsewhere: its inventory will say it again on the new way.
            return
        elif tag == TAG_REPLY and self._has_replied(link, up):
            return
        self._context.send_up(up, tag in BULK_TAGS)

    def _has_replied(self, link: LinkBelow, up: m.Up) -> bool:
        try:
            return self._reports.replied(up.node, bytes(up.payload))
        except ProtocolError:
            if up.node == link.peer:
                raise
            return False  # a child passes it on unread, and so do we: the head says what becomes of that node

    def _has_attached(self, link: LinkBelow, up: m.Up) -> bool:
        attach = m.decode_node_payload(up.payload)
        assert isinstance(attach, m.Attach)
        if attach.node != up.node:
            raise ProtocolError(f"n{up.node} attaches as n{attach.node}")
        if self._context.outcasts.is_removed(up.node):
            self._attachments.ignore(link, up.node, "it was removed from the cluster")
            return False
        try:
            record = self._attachments.take(link, attach)
        except SecurityError as error:
            self.links_below.refuse(link, "not-placed-here", str(error))
            return False
        if record is None:
            return False
        record.incarnation = attach.incarnation
        self._reports.expect_no_more(1 << up.node)
        return True

    def reported(self, link: LinkBelow, report: m.Report) -> None:
        """A child tells what became of ranks."""
        allowed = speakable(link.mask, report)
        if allowed is not None:
            self._reports.of_jobs.merge(allowed)

    def replied(self, link: LinkBelow, replies: m.Replies) -> None:
        """A child tells what nodes have answered to a question. Raises ProtocolError."""
        check_replies(replies)
        allowed = replies_for(link.mask, replies)
        if allowed is not None:
            self._reports.of_questions.merge(allowed)

    def gathered(self, link: LinkBelow, word: m.Gathered) -> None:
        """A child tells that the ranks of nodes wait in a barrier. Raises ProtocolError."""
        allowed = gathered_for(link.mask, word)
        if allowed is not None:
            self._reports.of_barriers.merge(allowed)
