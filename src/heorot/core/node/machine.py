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
    SetTimer,
    SharedTaken,
    SpaceClosed,
    SpaceConnected,
    Stop,
    TimerFired,
    ViewMade,
)
from heorot.core.node.above import Above
from heorot.core.node.answers import Answers
from heorot.core.node.child_links import ChildLinks
from heorot.core.node.config import NodeConfig
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.node.images import NodeImages
from heorot.core.node.known_heads import NAME as HEADS_NAME
from heorot.core.node.known_heads import KnownHeads
from heorot.core.node.known_names import KnownNames
from heorot.core.node.own_launches import OwnLaunches
from heorot.core.node.peers import KEY as PEER_KEY
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.routes import FROM_ABOVE, FROM_BELOW, FROM_SPACE
from heorot.core.node.space import KnownSpace
from heorot.core.node.timers import WHEN_DUE, HeadlessDue
from heorot.core.routes import Side
from heorot.core.tickets import Verify, open_placement
from heorot.core.timers import HeartbeatDue
from heorot.core.tree.greeting import removal
from heorot.core.wakefulness import Looks
from heorot.core.wire import tree as m

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
        self.reports = SubtreeReports(context)
        self.epochs = EpochKeeping(context, self._epoch_raised)
        self.heads = KnownHeads(context, self.epochs)
        self.images = NodeImages(
            context,
            lambda image: self.programs.nodes_of(image),
            lambda image: self.programs.complete(image),
            lambda image, why: self.programs.failed(image, why),
        )
        self.launches = OwnLaunches(context, self.space, self.epochs, self.reports, self.images.transfers)
        self.programs = self.launches.programs
        self.child_links = ChildLinks(context, self.reports, self.images, FROM_BELOW)
        self.above = Above(
            context,
            self.space,
            self.epochs,
            self.heads,
            KnownNames(context, self.epochs),
            self.reports,
            self.launches,
            self.images,
            self.child_links,
            FROM_ABOVE,
        )
        self._answers = Answers(context, self.space, self.reports, self.programs, FROM_SPACE.by_tag(Side.SPACE))
        self._by_link = context.below.by_link
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
            SharedTaken: self.images.transfers.stored.taken,
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
        self.context.now_ms = now_ms
        self.context.emit(SetTimer(HeartbeatDue(), self._beats.plan(now_ms, self.config.heartbeat_ms)))
        self.context.look_past_later()
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
        if uplink.attached is not was_attached or uplink.link != former:
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
        self._answers.received(event.payload)

    # ------------------------------------------------------------------ links

    def _link_opened(self, event: LinkOpened) -> None:
        if event.connected_for and self.context.outcasts.keeps_out(event.peer, event.holder):
            self.context.emit(CloseLink(event.link, removal(event.peer)))
            self._connect_failed(ConnectFailed(event.connected_for, removal(event.peer)))
            return
        if event.connected_for.startswith(PEER_KEY):
            self.images.peers.opened(event, self.context.now_ms)
        elif event.connected_for:
            self.context.out += self.uplink.opened(event, self.context.now_ms)
            if self.uplink.link == event.link:
                self.above.opened(event.link)
        else:
            self.child_links.opened(event)

    def _link_closed(self, event: LinkClosed) -> None:
        if event.link == self.uplink.link:
            self.context.log("info", f"the link to {self.uplink.parent_name} is gone: {event.reason}")
            self.context.out += self.uplink.lost(self.context.now_ms)
        elif self.images.peers.has_link(event.link):
            self.images.peers.closed(event.link, event.reason)
        else:
            self.child_links.links_below.closed(event.link, event.reason)

    def _connect_failed(self, event: ConnectFailed) -> None:
        if event.key.startswith(PEER_KEY):
            self.images.peers.failed(event)
            return
        self.context.out += self.uplink.failed(event, self.context.now_ms)

    def _received(self, event: Received) -> None:
        number = event.link
        link = self._by_link.get(number)
        if link is not None:
            self.child_links.links_below.received(link, event.message)
        elif number == self.uplink.link:
            self.above.received(event.message)
        elif self.images.peers.has_link(number):
            self.images.peers.received(number, event.message, self.context.now_ms)

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
            self.above.set_headless(True)

    def _look_past(self) -> None:
        if self.context.headless:
            self.context.out += self.uplink.look_past()
            self.context.look_past_later()

    def _try_another(self) -> None:
        self.context.out += self.uplink.try_another(self.context.now_ms)

    def _retry(self) -> None:
        self.context.out += self.uplink.connect(self.context.now_ms)

    def _heartbeat(self) -> None:
        now_ms, uplink = self.context.now_ms, self.uplink
        if self._beats.were_slept_through(now_ms):
            self.context.wakefulness.woke(self._beats.due_ms, now_ms)
            self.child_links.links_below.woke()
            uplink.heard_at_ms = now_ms
        self.context.emit(SetTimer(HeartbeatDue(), self._beats.plan(now_ms, self.config.heartbeat_ms)))
        deadline_ms = now_ms - self.config.link_timeout_ms
        self.child_links.links_below.close_silent(deadline_ms)
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
            self.context.send_up(m.Ping(1 + self.context.below.mask.bit_count(), self.uplink.answered_at_ms))
