"""What a node's parent says: its greeting and its word on the head, and commands of the head for here and below."""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import CloseLink, Remember, Send
from heorot.core.node.child_links import ChildLinks
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.node.images import NodeImages
from heorot.core.node.known_heads import KnownHeads
from heorot.core.node.known_names import KnownNames
from heorot.core.node.own_launches import OwnLaunches
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.space import KnownSpace
from heorot.core.routes import Routes, Side
from heorot.core.tickets import open_placement
from heorot.core.tree.greeting import REMOVED, incompatibility
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.tags import (
    FIRST_COMMAND_TAG,
    KNOWN_TAGS,
    LAST_COMMAND_TAG,
    TAG_RESIZE,
    is_bulk,
)


class Above:
    """The conversation with the parent; `heorot.core.node.uplink` says who that is.

    Parameters
    ----------
    routes
        What a parent may say, and the head inside of Down.
    """

    def __init__(
        self,
        context: NodeContext,
        space: KnownSpace,
        epochs: EpochKeeping,
        heads: KnownHeads,
        names: KnownNames,
        reports: SubtreeReports,
        launches: OwnLaunches,
        images: NodeImages,
        child_links: ChildLinks,
        routes: Routes,
    ) -> None:
        self.context = context
        self.uplink = context.uplink
        self.space = space
        self.heads = heads
        self.names = names
        self.launches = launches
        self.images = images
        self.child_links = child_links
        self._epochs = epochs
        self._reports = reports
        self._programs = launches.programs
        self._routes = routes
        self._orders = routes.by_tag(Side.ORDER)
        self._says = routes.said_by(Side.NEWCOMER)
        """What the parent may say now, and what is done then."""
        self._attach_order = 0

    def _speaks_as(self, side: Side) -> None:
        self._says = self._routes.said_by(side)

    def opened(self, link: int) -> None:
        """There is a link to somebody who may become the parent."""
        self._speaks_as(Side.NEWCOMER)
        self.context.emit(Send(link, self.context.hello()))

    def received(self, message: m.LinkMessage) -> None:
        """The parent says something.

        Raises
        ------
        ProtocolError
            If it may not say that.
        """
        self.uplink.heard_at_ms = self.context.now_ms
        is_of_its_way = self.uplink.attached and isinstance(message, m.Pong | m.Reattached)
        if self._epochs.pending and not is_of_its_way:
            self._epochs.hold(lambda: self.received(message), isinstance(message, m.Down))
            return
        self._says[type(message)](self, message)

    # ------------------------------------------------------------------ the way up

    def refused(self, refused: m.Refused) -> None:
        """The parent will not have this node."""
        self.context.log("warning", f"{self.uplink.parent_name} refuses this node: {refused.text}")
        assert self.uplink.link is not None
        self.context.emit(CloseLink(self.uplink.link, "refused"))
        if refused.code == REMOVED:
            # A relay that lies gains no more than by dropping what passes through it, and the others have no way up
            # if it does not: they would wait for as long as this node looks for a head.
            self.child_links.dismiss()
        self.context.out += self.uplink.refused(refused.code, self.context.now_ms)

    def _refuse_parent(self, code: str, text: str) -> None:
        assert self.uplink.link is not None
        self.context.refuse(self.uplink.link, code, text)
        self.context.out += self.uplink.refused(code, self.context.now_ms)

    def ponged(self, pong: m.Pong) -> None:
        """The parent is there, and says whether it knows a way to a head."""
        self.uplink.answered_at_ms = pong.at_ms
        self.set_headless(pong.headless)

    def set_headless(self, headless: bool) -> None:
        """Pass the word on the head on, if it is news."""
        if headless == self.context.headless:
            return
        self.context.headless = headless
        if headless:
            self.context.look_past_later()
        else:
            self.uplink.stay()
        self.space.tell_of_head()
        self.context.below.tell_children(m.Pong(headless))

    def greeted(self, hello: m.Hello) -> None:
        """The parent says who it is: the way up is open, if we can talk to it."""
        context, uplink = self.context, self.uplink
        problem = incompatibility(hello, context.config.cluster)
        if problem:
            self._refuse_parent(*problem)
            return
        if uplink.parent == HEAD:
            # Its certificate says that it is a head: its epoch needs no further signature.
            if hello.epoch < context.epoch:
                why = f"the head's epoch is {hello.epoch}; this node has seen {context.epoch}"
                self._refuse_parent("old-epoch", why)
                return
            if not self._epochs.has_kept(hello.epoch, lambda: self.greeted(hello)):
                return
        self.child_links.welcome()
        lease_ms = hello.lease_ms if uplink.parent == HEAD else 0
        context.out += uplink.greeted(context.now_ms, hello.epoch, lease_ms)
        self._speaks_as(Side.HEAD if uplink.parent == HEAD else Side.PARENT)
        self.set_headless(hello.headless and uplink.parent != HEAD)
        self.attach()

    def reattach(self) -> None:
        """The parent's way up is new, or somebody above wants to hear again who is here."""
        self._epochs.forget_commands()
        self.attach()

    def attach(self) -> None:
        """Offer this node, and have every descendant offer itself."""
        assert self.space.incarnation is not None
        config = self.context.config
        # The head says it again; what another parent has said must not outlast it.
        self.context.outcasts.clear()
        # A clock that runs on through a restart of the agent.
        self._attach_order = max(self._attach_order + 1, self.context.now_ms)
        attach = m.Attach(
            config.node,
            self.space.incarnation,
            config.host,
            config.port,
            self.uplink.sealed_placement(config.placement),
            config.release,
            config.agent_pid,
            config.init_pid,
            self.uplink.parent,
            self._attach_order,
            self.heads.certain,
            config.host_name,
            config.hears_names,
        )
        self.context.send_up(m.Up(config.node, m.encode(attach)))
        self._programs.drop_all()
        self.space.inventorize()
        self._reports.expect_no_more(1 << config.node)
        self.context.below.tell_children(m.Reattached(self.context.epoch))

    def place(self, sealed: bytes) -> None:
        """The head says where this node belongs."""
        context = self.context
        config = context.config
        try:
            placement = open_placement(context.verify, sealed, cluster=config.cluster, node=config.node)
            if placement.epoch < context.epoch:
                raise SecurityError(f"the placement is of epoch {placement.epoch}; this node has seen {context.epoch}")
        except SecurityError as error:
            context.log("error", str(error))
            return
        if not self._epochs.has_kept(placement.epoch, lambda: self.place(sealed)):
            return
        if not self.uplink.is_news(placement):
            return
        context.emit(Remember("placement", sealed))
        context.out += self.uplink.move(placement, sealed, context.now_ms)

    # ------------------------------------------------------------------ commands

    def down(self, down: m.Down) -> None:
        """A head's command comes by: split it among the children, and carry out what is for here."""
        context = self.context
        if down.epoch < context.epoch:
            self._refuse_parent("old-epoch", f"a command of epoch {down.epoch}; this node has seen {context.epoch}")
            return
        nodes = NodeSet.from_ranges(down.nodes)
        payload = down.payload
        tag = m.tag_of(payload)
        newest_of = ""
        self._reports.goes_by(tag, nodes, payload)
        if tag == TAG_RESIZE:
            resize = m.decode_head_command(payload)
            assert isinstance(resize, m.Resize)
            newest_of = resize.job
        here = 1 << context.config.node
        rest = nodes.mask & ~here
        if rest:
            context.below.send_down(down.epoch, rest, payload, is_bulk(tag, payload), newest_of)
        if nodes.mask & here:
            self._deliver(tag, payload, newest_of)

    def _deliver(self, tag: int, payload: bytes, newest_of: str) -> None:
        handler = self._orders.get(tag)
        if handler is not None:
            handler(self, payload, newest_of)
        elif FIRST_COMMAND_TAG <= tag <= LAST_COMMAND_TAG and tag not in KNOWN_TAGS:
            self.give(payload, newest_of)  # of a later release
        else:
            raise ProtocolError(f"the head, inside of Down, may not say something with the tag {tag} to a node")

    def give(self, payload: bytes, newest_of: str) -> None:
        """Hand a command to the process space, which may have to be told of its job first."""
        if self._programs.unannounced:
            self._programs.announce(getattr(m.decode_head_command(payload), "job", ""))
        self.space.give(payload, newest_of)

    def give_release(self, payload: bytes, newest_of: str) -> None:
        """The same with the word that a job is to be forgotten, which may wait for its program."""
        if not self._programs.held and not self._programs.starting:
            self.give(payload, newest_of)
            return
        release = m.decode_head_command(payload)
        assert isinstance(release, m.Release)
        self._programs.drop(release.job)
        self.space.give(payload, newest_of)
