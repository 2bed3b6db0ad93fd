"""The node's machine, run by its agent (bpnode): one hop of the tree between the head and the node's process space.

Theory of operation. The agent keeps nothing that matters: processes, statuses and unread output live in bpinit, and
what is known of a job lives at the head. So every break is mended in the same way: the agent attaches again with
`Attach`, and bpinit hands over its `Inventory` and repeats every stream from its acknowledged offset. Children do the
same when their parent tells them (`Reattached`) that its own way to the head is new. What an agent drops while it has
no way up is repeated by that.

Downward, a message is for a set of nodes: deliver here, split the rest among the children. Upward, payloads pass as
opaque bytes, except that reports of one job are merged. A child may speak only for itself, if its placement, signed by
the head, names this node, and for nodes whose placement names an ancestor that is admitted through that child.

How an agent comes to a way up, and loses it, is in `heorot.core.node.uplink` and the table of
`heorot.core.node.states`: when it is attached the way is open.

The word on the head. The agent is *headless* from its start, and again `HEADLESS_AFTER_MS` after it has lost its way
up, or as soon as its parent says that it is headless itself; until a head greets it, or a parent that is not. It passes
each change on to bpinit and to its children at once, and repeats it to children in its greeting and at every heartbeat.
On one link words stay in order, and a new link begins with the word of its upper end: so the last word is right.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    CloseLink,
    Compared,
    ConnectFailed,
    CopiesDropped,
    CopiesFound,
    Examined,
    FromSpace,
    Kept,
    LinkClosed,
    LinkOpened,
    NodeEvent,
    NodeInstruction,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    SpaceClosed,
    SpaceConnected,
    Stop,
    TimerFired,
    ViewMade,
)
from heorot.core.node.child_links import ChildLinks
from heorot.core.node.children import Children
from heorot.core.node.config import NodeConfig
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.node.heads import NAME as HEADS_NAME
from heorot.core.node.heads import KnownHeads
from heorot.core.node.images import NodeImages
from heorot.core.node.own_launches import OwnLaunches
from heorot.core.node.peers import KEY as PEER_KEY
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.routes import ANSWERS, FROM_ABOVE, ORDERS
from heorot.core.node.space import KnownSpace
from heorot.core.node.timers import WHEN_DUE, HeadlessDue
from heorot.core.routes import Side
from heorot.core.tickets import Verify, open_placement
from heorot.core.timers import HeartbeatDue
from heorot.core.tree.greeting import REMOVED, incompatibility, removal
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wakefulness import Looks
from heorot.core.wire import tree as m
from heorot.core.wire.tags import (
    BULK_TAGS,
    FIRST_ANSWER_TAG,
    FIRST_COMMAND_TAG,
    KNOWN_TAGS,
    LAST_ANSWER_TAG,
    LAST_COMMAND_TAG,
    TAG_LAUNCH,
    TAG_RELEASE,
    TAG_RESIZE,
)

HEADLESS_AFTER_MS = 200
"""How long an agent looks for another way up before it counts as headless: one that moves to another parent is not."""

__all__ = ["NodeConfig", "NodeMachine"]


class NodeMachine:
    """See the module. `verify(data, signature)` checks the head's Ed25519 signature."""

    def __init__(self, config: NodeConfig, verify: Verify) -> None:
        self.config = config
        self.context = context = NodeContext(config, verify)
        self.uplink = context.uplink
        self.space = KnownSpace(context)
        self.children = children = Children(config, verify)
        self.reports = SubtreeReports(context, children)
        self.epochs = EpochKeeping(context, self._epoch_raised)
        self.heads = KnownHeads(context, self.epochs)
        self.images = NodeImages(
            context,
            children,
            lambda image: self.programs.nodes_of(image),
            lambda image: self.programs.complete(image),
            lambda image, why: self.programs.failed(image, why),
        )
        self.launches = OwnLaunches(context, self.space, self.epochs, self.reports, self.images.transfers)
        self.programs = self.launches.programs
        self._child_links = ChildLinks(context, children, self.reports, self.images)
        self._attach_order = 0
        self._beats = Looks()
        self._handlers: dict[type, Callable[..., None]] = {
            Received: self._received,
            FromSpace: self._from_space,
            TimerFired: self._timer_fired,
            LinkOpened: self._link_opened,
            LinkClosed: self._link_closed,
            ConnectFailed: self._connect_failed,
            SpaceConnected: self._space_connected,
            SpaceClosed: self._space_closed,
            Kept: self._kept,
            Compared: self.programs.compared,
            ViewMade: self.programs.view_made,
            Examined: self._examined,
            ChunksGone: self.images.transfers.chunks_gone,
            CacheFailed: self.images.transfers.cache_failed,
            CopiesFound: self.images.transfers.copies.found,
            CopiesDropped: self.images.transfers.copies.dropped,
        }
        if config.placement:
            try:
                self.uplink.placed(open_placement(verify, config.placement, cluster=config.cluster, node=config.node))
            except (SecurityError, ProtocolError) as error:
                context.log("warning", f"the remembered placement is of no use: {error}")

    @property
    def epoch(self) -> int:
        """The highest epoch that a head is obeyed in."""
        return self.context.epoch

    def start(self, now_ms: int) -> list[NodeInstruction]:
        """Begin; must be called once, before the first event."""
        self.context.emit(SetTimer(HeartbeatDue(), self._beats.plan(now_ms, self.config.heartbeat_ms)))
        return self.context.take()

    def handle(self, event: NodeEvent, now_ms: int) -> list[NodeInstruction]:
        """Take one event; return what to do, in order.

        Raises
        ------
        ProtocolError
            Only for `Received` and `FromSpace`: the peer broke the protocol. Close its link and feed in that it is
            closed.
        """
        self.context.now_ms = now_ms
        uplink = self.uplink
        was_attached, former = uplink.attached, uplink.link
        self._handlers[type(event)](event)
        if was_attached and not uplink.attached:
            self.context.emit(SetTimer(HeadlessDue(), now_ms + HEADLESS_AFTER_MS))
        self.images.parent_changed(former, is_new=uplink.attached and not was_attached)
        return self.context.take()

    # ------------------------------------------------------------------ process space

    def _space_connected(self, event: SpaceConnected) -> None:
        self.space.inventorize()

    def _space_closed(self, event: SpaceClosed) -> None:
        if self.uplink.attached and self.space.incarnation is not None:
            self.context.send_up(m.Up(self.config.node, m.encode(m.SpaceGone(self.space.incarnation))))
            assert self.uplink.link is not None
            self.context.emit(CloseLink(self.uplink.link, "the node's process space has ended"))
        self.context.emit(Stop("bpinit has ended, and with it every process of this node"))

    def _from_space(self, event: FromSpace) -> None:
        tag = m.tag_of(event.payload)
        handler = ANSWERS.get(tag)
        if handler is not None:
            handler(self, event.payload)
        elif FIRST_ANSWER_TAG <= tag <= LAST_ANSWER_TAG and tag not in KNOWN_TAGS:
            self._pass_up(event.payload)  # of a later release
        else:
            raise ProtocolError(f"the process space may not say something with the tag {tag} to a node")

    def _own_inventory(self, payload: bytes) -> None:
        if self.space.incarnation is not None:
            self._pass_up(payload)
            return
        inventory = m.decode_space_answer(payload)
        assert isinstance(inventory, m.Inventory)
        self.space.introduced(inventory)
        self.context.out += self.uplink.connect(self.context.now_ms)

    def _pass_up(self, payload: bytes) -> None:
        # What is dropped here without a way up, bpinit repeats after the next Inventorize.
        if self.uplink.attached:
            self.context.send_up(m.Up(self.config.node, payload), bulk=m.tag_of(payload) in BULK_TAGS)

    def _own_report(self, payload: bytes) -> None:
        if self.reports.accumulators or self.programs.starting:
            report = m.decode_space_answer(payload)
            assert isinstance(report, m.Report)
            if report.nodes_started:
                self.programs.let_go(report.job)
            self.reports.merge(report)
        elif self.uplink.attached:
            # A leaf has nothing to merge it with: bpinit's own bytes go up.
            assert self.uplink.link is not None
            self.context.emit(SendEncoded(self.uplink.link, payload))

    # ------------------------------------------------------------------ links

    def _link_opened(self, event: LinkOpened) -> None:
        if event.connected_for and self.children.is_barred(event.peer, event.holder):
            self.context.emit(CloseLink(event.link, removal(event.peer)))
            self._connect_failed(ConnectFailed(event.connected_for, removal(event.peer)))
            return
        if event.connected_for.startswith(PEER_KEY):
            self.images.peers.opened(event, self.context.now_ms)
        elif event.connected_for:
            self.context.out += self.uplink.opened(event, self.context.now_ms)
            if self.uplink.link == event.link:
                self.context.emit(Send(event.link, self.context.hello()))
        else:
            self._child_links.opened(event)

    def _link_closed(self, event: LinkClosed) -> None:
        if event.link == self.uplink.link:
            self.context.log("info", f"the link to {self.uplink.parent_name} is gone: {event.reason}")
            self.context.out += self.uplink.lost(self.context.now_ms)
        elif self.images.peers.has_link(event.link):
            self.images.peers.closed(event.link, event.reason)
        else:
            self._child_links.closed(event.link)

    def _connect_failed(self, event: ConnectFailed) -> None:
        if event.key.startswith(PEER_KEY):
            self.images.peers.failed(event)
            return
        self.context.out += self.uplink.failed(event, self.context.now_ms)

    def _set_headless(self, headless: bool) -> None:
        """Pass the word on the head on, if it is news."""
        if headless == self.context.headless:
            return
        self.context.headless = headless
        self.space.tell_of_head()
        self._child_links.tell_all(m.Pong(headless))

    def _received(self, event: Received) -> None:
        if event.link == self.uplink.link:
            self._from_parent(event.message)
        elif self.images.peers.has_link(event.link):
            self.images.peers.received(event.link, event.message, self.context.now_ms)
        else:
            self._child_links.received(event.link, event.message)

    # ------------------------------------------------------------------ downward

    def _from_parent(self, message: m.LinkMessage) -> None:
        self.uplink.heard_at_ms = self.context.now_ms
        if self.epochs.pending:
            self.epochs.hold(lambda: self._from_parent(message))
            return
        side = Side.NEWCOMER
        if self.uplink.attached:
            side = Side.HEAD if self.uplink.parent == HEAD else Side.PARENT
        FROM_ABOVE.find(side, message)(self, message)

    def _refused(self, refused: m.Refused) -> None:
        self.context.log("warning", f"{self.uplink.parent_name} refuses this node: {refused.text}")
        assert self.uplink.link is not None
        self.context.emit(CloseLink(self.uplink.link, "refused"))
        if refused.code == REMOVED and self.uplink.parent == HEAD:
            self._child_links.dismiss()
        self.context.out += self.uplink.refused(refused.code, self.context.now_ms)

    def _pong(self, pong: m.Pong) -> None:
        self.uplink.answered_at_ms = pong.at_ms
        self._set_headless(pong.headless)

    def _greeted(self, hello: m.Hello) -> None:
        problem = incompatibility(hello, self.config.cluster)
        if problem:
            assert self.uplink.link is not None
            self.context.refuse(self.uplink.link, *problem)
            self.context.out += self.uplink.refused(problem[0], self.context.now_ms)
            return
        if self.uplink.parent == HEAD:
            # Its certificate says that it is a head: its epoch needs no further signature.
            if hello.epoch < self.context.epoch:
                why = f"the head's epoch is {hello.epoch}; this node has seen {self.context.epoch}"
                self.context.refuse(self.uplink.link or 0, "old-epoch", why)
                self.context.out += self.uplink.refused("old-epoch", self.context.now_ms)
                return
            if not self.epochs.has_kept(hello.epoch, lambda: self._greeted(hello)):
                return
        self._child_links.welcome()
        lease_ms = hello.lease_ms if self.uplink.parent == HEAD else 0
        self.context.out += self.uplink.greeted(self.context.now_ms, hello.epoch, lease_ms)
        self._set_headless(hello.headless and self.uplink.parent != HEAD)
        self._attach()

    def _attach(self) -> None:
        """Offer this node, and have every descendant offer itself."""
        assert self.space.incarnation is not None
        config = self.config
        # The head says it again; what another parent has said must not outlast it.
        self.children.barred, self.children.former = 0, frozenset()
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
        )
        self.context.send_up(m.Up(config.node, m.encode(attach)))
        self.programs.drop_all()
        self.space.inventorize()
        self.reports.expect_no_more(1 << config.node)
        self._child_links.tell_all(m.Reattached(self.context.epoch))

    def _down(self, down: m.Down) -> None:
        if down.epoch < self.context.epoch:
            assert self.uplink.link is not None
            why = f"a command of epoch {down.epoch}; this node has seen {self.context.epoch}"
            self.context.refuse(self.uplink.link, "old-epoch", why)
            self.context.out += self.uplink.refused("old-epoch", self.context.now_ms)
            return
        nodes = NodeSet.from_ranges(down.nodes)
        tag = m.tag_of(down.payload)
        if tag == TAG_LAUNCH:
            self.reports.expect(nodes, down.payload)
        elif tag == TAG_RELEASE and self.reports.accumulators:
            release = m.decode_head_command(down.payload)
            assert isinstance(release, m.Release)
            self.reports.expect_no_more(nodes.mask, release.job)
        here = 1 << self.config.node
        rest = nodes.mask & ~here
        newest_of = ""
        if tag == TAG_RESIZE:
            resize = m.decode_head_command(down.payload)
            assert isinstance(resize, m.Resize)
            newest_of = resize.job
        if rest:
            self._child_links.send_down(down, rest, tag in BULK_TAGS, newest_of)
        if nodes.mask & here:
            self._deliver(tag, down.payload, newest_of)

    def _deliver(self, tag: int, payload: bytes, newest_of: str) -> None:
        handler = ORDERS.get(tag)
        if handler is not None:
            handler(self, payload, newest_of)
        elif FIRST_COMMAND_TAG <= tag <= LAST_COMMAND_TAG and tag not in KNOWN_TAGS:
            self._give(payload, newest_of)  # of a later release
        else:
            raise ProtocolError(f"the head, inside of Down, may not say something with the tag {tag} to a node")

    def _give(self, payload: bytes, newest_of: str) -> None:
        """Hand a command to the process space, which may have to be told of its job first."""
        if self.programs.unannounced:
            self.programs.announce(getattr(m.decode_head_command(payload), "job", ""))
        self.space.give(payload, newest_of)

    def _give_release(self, payload: bytes, newest_of: str) -> None:
        if not self.programs.held and not self.programs.starting:
            self._give(payload, newest_of)
            return
        release = m.decode_head_command(payload)
        assert isinstance(release, m.Release)
        self.programs.drop(release.job)
        self.space.give(payload, newest_of)

    def _place(self, sealed: bytes) -> None:
        try:
            placement = open_placement(self.context.verify, sealed, cluster=self.config.cluster, node=self.config.node)
            if placement.epoch < self.context.epoch:
                raise SecurityError(
                    f"the placement is of epoch {placement.epoch}; this node has seen {self.context.epoch}"
                )
        except SecurityError as error:
            self.context.log("error", str(error))
            return
        if not self.epochs.has_kept(placement.epoch, lambda: self._place(sealed)):
            return
        if not self.uplink.is_news(placement):
            return
        self.context.emit(Remember("placement", sealed))
        self.context.out += self.uplink.move(placement, sealed, self.context.now_ms)

    def _kept(self, event: Kept) -> None:
        if event.name == HEADS_NAME:
            self.heads.answered(event)
        else:
            self.epochs.answered(event)

    def _epoch_raised(self) -> None:
        self.programs.drop_older(self.context.epoch)
        self.space.tell_of_head()

    # ------------------------------------------------------------------ timers

    def _examined(self, event: Examined) -> None:
        self.images.transfers.examined(event)
        self.programs.examined(event)

    def _timer_fired(self, event: TimerFired) -> None:
        WHEN_DUE.find(event.key)(self, event.key)

    def _headless_due(self) -> None:
        if not self.uplink.attached:
            self._set_headless(True)

    def _try_another(self) -> None:
        self.context.out += self.uplink.try_another(self.context.now_ms)

    def _retry(self) -> None:
        self.context.out += self.uplink.connect(self.context.now_ms)

    def _heartbeat(self) -> None:
        now_ms, uplink = self.context.now_ms, self.uplink
        if self._beats.were_slept_through(now_ms):
            self._child_links.woke()
            uplink.heard_at_ms = now_ms
        self.context.emit(SetTimer(HeartbeatDue(), self._beats.plan(now_ms, self.config.heartbeat_ms)))
        deadline_ms = now_ms - self.config.link_timeout_ms
        self._child_links.close_silent(deadline_ms)
        if uplink.link is None:
            return
        if uplink.heard_at_ms < deadline_ms:
            self._leave_silent_parent()
        else:
            self._ping()

    def _pulse(self) -> None:
        is_silent, follows = self.uplink.pulse(self.context.now_ms)
        self.context.out += follows
        if is_silent:
            self._leave_silent_parent()
        else:
            self._ping()

    def _leave_silent_parent(self) -> None:
        assert self.uplink.link is not None
        self.context.emit(CloseLink(self.uplink.link, "silent for too long"))
        self.context.log("warning", f"{self.uplink.parent_name} has been silent for too long")
        self.context.out += self.uplink.lost(self.context.now_ms)

    def _ping(self) -> None:
        if self.uplink.attached:
            self.context.send_up(m.Ping(1 + self._child_links.reached, self.uplink.answered_at_ms))
