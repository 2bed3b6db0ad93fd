"""The head's machine: root of the tree, merge of what the nodes report, and the server of clients.

Theory of operation. The head is a cache: what it knows of processes came from nodes and can come from them again. A
node attaches with `Attach` and `Inventory`, always, whether it is new, its link flapped, its parent died, its agent
was restarted or this head is new; `Jobs.reconcile` then puts both sides right. There is no other recovery.

The parts: `membership` (nodes, links, tree), `jobs` (launch, follow, hang up, adopt), `clients` (what clients ask for,
with `launches` and `requests`), and here the events and which nodes may say what.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.errors import ProtocolError
from heorot.core.head.clients import HeadClients
from heorot.core.head.context import HeadConfig, HeadContext
from heorot.core.head.events import HeadEvents
from heorot.core.head.images import HeadImages
from heorot.core.head.jobs import Jobs
from heorot.core.head.list_of_heads import HeadListUpdates
from heorot.core.head.list_of_names import NameListUpdates
from heorot.core.head.membership import KnownNode
from heorot.core.head.passed_words import PassedWords
from heorot.core.head.removals import Removals
from heorot.core.head.requests import Requests
from heorot.core.head.rivals import Rivals
from heorot.core.head.routes import FROM_BELOW, SAID_BY_NODES
from heorot.core.head.states import NodeChange, NodeState
from heorot.core.head.timers import WHEN_DUE, GraceDue, MissingDue, RebalanceDue
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    ClientClosed,
    ClientOpened,
    ConnectFailed,
    CopiesDropped,
    CopiesFound,
    Examined,
    FromClient,
    GroupsKnown,
    HeadEvent,
    HeadHeard,
    HeadInstruction,
    HeadsKnown,
    LinkClosed,
    LinkOpened,
    NodesJoined,
    NodesRemoved,
    Received,
    SharedTaken,
    TimerFired,
)
from heorot.core.tickets import Sign, Verify, shown_epoch
from heorot.core.timers import HeartbeatDue
from heorot.core.tree.below_attachments import Attachments, NodeBelow
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.below_links import LinksBelow, Objection
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.shape import ancestors_of, living_path
from heorot.core.wakefulness import Looks
from heorot.core.wire import tree as m
from heorot.core.wire.wishes import HealthFound, Prepared, WishesKept

__all__ = ["HeadConfig", "HeadMachine"]

MAX_MOVES_AT_ONCE = 32
"""How many nodes are sent to a better parent in one round of re-balancing."""
LONGEST_MOVE_PAUSE_MS = 30_000
"""How long a node that cannot reach its parent, or awaits a launch, is left alone at most: an attempt cuts its link."""


class HeadMachine:
    """See the module. `sign(data)` and `verify(data, signature)` are the cluster's Ed25519 signing key."""

    def __init__(self, config: HeadConfig, sign: Sign, verify: Verify) -> None:
        self.config = config
        self.context = HeadContext(config, sign, verify)
        self.members = self.context.members
        self.events = HeadEvents(self.context)
        self.jobs = Jobs(self.context)
        self.requests = Requests(self.context, self.jobs)
        self.images = HeadImages(self.context, self.jobs)
        self._rebalance_armed = self._doubt_was_told = False
        self._beats = Looks()
        context, below, cluster = self.context, self.context.below, config.cluster
        made = self._attachments = Attachments(context, below, self, verify, cluster, HEAD, self.members.outcasts)
        self.links_below = LinksBelow(context, below, made, self, FROM_BELOW, self, cluster, "this head")
        self.passed = PassedWords(context, self.jobs, self.links_below, self._take)
        self.rivals = Rivals(self.context)
        self.listed = HeadListUpdates(self.context)
        self.removals = Removals(self.context, self.jobs, self.requests, self.links_below, self.events)
        self.clients = HeadClients(self.context, self.jobs, self.requests, self.images, self.events)
        self.settling = self.clients.settling
        self.names = NameListUpdates(self.context, lambda: self.settling.settled)
        self._handlers: dict[type, Callable[..., None]] = {
            Received: self._received,
            FromClient: self.clients.received,
            TimerFired: self._timer_fired,
            LinkOpened: self._link_opened,
            LinkClosed: self._link_closed,
            ClientOpened: self.clients.opened,
            ClientClosed: self.clients.closed,
            HeadsKnown: self._heads_known,
            HeadHeard: lambda event: self.rivals.heard(event.epoch),
            NodesJoined: self._nodes_joined,
            NodesRemoved: self.removals.know,
            WishesKept: self.clients.wishes.kept,
            GroupsKnown: self.context.know_groups,
            Prepared: self.clients.preparing.prepared,
            HealthFound: self.clients.wishes.checked,
            ConnectFailed: self.rivals.failed,
            Examined: self.images.transfers.examined,
            SharedTaken: self.images.transfers.stored.taken,
            ChunksGone: self.images.transfers.chunks_gone,
            CacheFailed: self.images.transfers.cache_failed,
            CopiesFound: self.images.transfers.copies.found,
            CopiesDropped: self.images.transfers.copies.dropped,
        }

    def start(self, now_ms: int) -> list[HeadInstruction]:
        """Begin the term of office; must be called once, before the first event."""
        self.context.now_ms = now_ms
        self._next_heartbeat()
        self.settling.start()
        self.images.start()
        self.events.start()
        self.rivals.announce()
        return self.context.take()

    def handle(self, event: HeadEvent, now_ms: int) -> list[HeadInstruction]:
        """Take one event; return what to do, in order.

        Raises
        ------
        ProtocolError
            Only for `Received` and `FromClient`: the peer broke the protocol. Close it and feed in that it is closed;
            what was done before the error stands, and its instructions come with that next event.
        """
        self.context.now_ms = now_ms
        self._handlers[type(event)](event)
        return self.context.take()

    # ------------------------------------------------------------------ links

    def _link_opened(self, event: LinkOpened) -> None:
        (self.rivals if event.connected_for else self.links_below).opened(event)

    def _link_closed(self, event: LinkClosed) -> None:
        self.rivals.closed(event.link)
        self.links_below.closed(event.link, event.reason)

    def _received(self, event: Received) -> None:
        link = self.context.below.by_link.get(event.link)
        if link is None:
            self.rivals.answered(event.link, event.message)
            return
        self.links_below.received(link, event.message)

    # ------------------------------------------------------------------ for the links from below

    def hello(self) -> m.Hello:
        """Return the greeting of this head."""
        version, oldest, config = m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, self.config
        return m.Hello(version, oldest, config.cluster, HEAD, config.epoch, config.release, lease_ms=config.lease_ms)

    def objection(self, link: LinkBelow, hello: m.Hello) -> Objection | None:
        """See `heorot.core.tree.below_links.UpperEnd`."""
        if hello.epoch > self.config.epoch:
            why = f"n{link.peer} has seen epoch {hello.epoch}; this head's is {self.config.epoch}"
            return "old-epoch", why, "warning"
        if hello.peer:
            return "no-visitors", "no node has an image from a head as from a peer", "warning"
        return self.removals.objection(link)

    def pong(self) -> m.Pong:
        """Return the answer to a heartbeat."""
        return m.Pong(at_ms=self.context.now_ms)

    def reattached(self) -> m.Reattached:
        """Return the word with which somebody below is asked to attach again."""
        return m.Reattached(self.config.epoch)

    def known(self, node: int) -> KnownNode | None:
        """Return what is known of a node."""
        return self.members.records.get(node)

    def record(self, node: int) -> KnownNode:
        """Return what is known of a node; one that comes for the first time is known from now on."""
        return self.members.record(node)

    def was_sent_there(self, record: NodeBelow, placed: tuple[int, int]) -> bool:
        """Say whether a placement is the one that this head has sent a node last."""
        return placed == (self.config.epoch, self.members.records[record.node].placed_serial)

    def link_lost(self, link: int) -> None:
        """A child is gone."""
        self.images.link_lost(link)

    def detached(self, mask: int, heard_at_ms: int) -> None:
        """These nodes are out of reach, for now."""
        for record in self.members.detached(mask, self.context.now_ms, heard_at_ms):
            if self.members.step(record, NodeChange.WAY_LOST) is NodeState.DETACHED:
                self.context.await_somebody(GraceDue(record.node), self.config.node_grace_ms)
        self.jobs.adoptions.detached(mask)

    # ------------------------------------------------------------------ what nodes say

    def _take(self, link: LinkBelow, node: int, said: m.NodePayload) -> None:
        SAID_BY_NODES[type(said)](self, link, node, said)

    def _launch_copy(self, node: int, copy: m.LaunchCopy) -> None:
        self.jobs.take_copy(node, copy)
        self.settling.heard()

    def _attach(self, link: LinkBelow, node: int, attach: m.Attach) -> None:
        if attach.node != node:
            raise ProtocolError(f"n{node} attaches as n{attach.node}")
        if self.removals.has(node):
            self.removals.refused(link, node)
            return
        if self._attachments.take(link, attach) is None:
            return
        record = self.members.records[node]
        if record.incarnation not in (None, attach.incarnation):
            self._gone(record, NodeChange.RESTARTED, f"n{node} was restarted: what ran on it is gone")
        record.incarnation = attach.incarnation
        self.clients.wishes.attached(record)
        record.parent = attach.parent
        record.release = attach.release
        self.context.warn(self.members.hosts.claimed(node, attach.host_name))
        record.agent_pid, record.init_pid = attach.agent_pid, attach.init_pid
        self.listed.attached(record, attach)
        self.names.attached(record, attach)
        if self.members.outcasts.removed or self.members.outcasts.former:
            self.removals.tell(1 << node)
        self.members.step(record, NodeChange.ATTACHED)
        if shown_epoch(attach.placement) != self.config.epoch:
            record.placed_under = None  # or the placement was lost on its way
        path = self.members.desired_path(node)
        desired = path[-1].node if path else HEAD
        if desired == record.parent:
            if record.lacks_placement:
                self.context.place(record, path)
        elif not attach.placement and record.parent == HEAD:
            # New, and only asking where it belongs: it comes back with this placement, through its parent.
            self.context.place(record, path)
        else:
            # It has lost its parent, or its parent was away: it may stay where it is, and is moved later and gently.
            self._rebalance_soon()

    def _rebalance_soon(self) -> None:
        if not self._rebalance_armed:
            self._rebalance_armed = True
            self.context.set_timer(RebalanceDue(), self.config.rebalance_ms)

    def _inventory(self, record: KnownNode, inventory: m.Inventory) -> None:
        if inventory.incarnation != record.incarnation:
            raise ProtocolError(f"n{record.node} attached with another incarnation than its inventory has")
        self.members.step(record, NodeChange.LISTED)
        self.clients.preparing.listed(record)
        self.members.spoken_mask |= 1 << record.node
        # Late news make it look younger, never older.
        record.began_ms = self.context.now_ms - inventory.age_ms
        # Descendants may have gone elsewhere while it was away.
        self._rebalance_soon()
        self._admit(record, inventory)
        self.jobs.adoptions.said(record.node, inventory)
        self.jobs.reconcile(record, inventory)
        self.requests.questions.ask_again(record.node)
        self.settling.heard()

    def _admit(self, record: KnownNode, inventory: m.Inventory) -> None:
        """See that a node starts nothing that was meant for a former incarnation of it."""
        if inventory.after:
            record.admitted, record.admitted_after = inventory.incarnation, inventory.after
            return
        if record.admitted != inventory.incarnation:
            record.admitted, record.admitted_after = inventory.incarnation, self.jobs.latest
        here = NodeSet(1 << record.node)
        self.context.send_down(here, m.Admit(inventory.incarnation, record.admitted_after))

    def _space_gone(self, record: KnownNode, gone: m.SpaceGone) -> None:
        if gone.incarnation == record.incarnation:
            self._gone(record, NodeChange.SPACE_GONE, f"n{record.node} went down")

    def _gone(self, record: KnownNode, change: NodeChange, why: str) -> None:
        """The node's processes are gone for good, or must be taken for gone."""
        self.context.log("warning", why)
        self.members.step(record, change)
        self.jobs.node_gone(record.node, why)
        self.requests.questions.node_gone(record.node)

    def _grace_over(self, node: int) -> None:
        record = self.members.records[node]
        if record.state is NodeState.DETACHED:
            grace_ms = self.config.node_grace_ms
            if self.context.now_ms - record.detached_at_ms < grace_ms:
                return  # it was back meanwhile; the newer timer is on its way
            wait_ms = self._patience_ms(record, grace_ms)
            if wait_ms:
                self.context.await_somebody(GraceDue(node), wait_ms)
                return
            why = f"n{node} is lost: it was not heard of for {self.config.node_grace_ms / 1000:g} s"
            self._gone(record, NodeChange.GRACE_OVER, why)
            record.incarnation = None

    def _patience_ms(self, record: KnownNode, wait_ms: int) -> int:
        """Return for how long a silent node is not to be given up yet."""
        tenure, now_ms = self.context.tenure, self.context.now_ms
        if not tenure.is_certain(now_ms) and not self._doubt_was_told:
            self._doubt_was_told = True
            self.context.log("warning", "nodes are silent, but this head may have a successor: no node is given up now")
        patience_ms = tenure.patience_ms(record.detached_at_ms, self.config.node_grace_ms, now_ms)
        return max(patience_ms, self.context.wakefulness.missed_ms(now_ms, now_ms - wait_ms, wait_ms))

    def _nodes_joined(self, event: NodesJoined) -> None:
        self.events.joined(event)
        self.context.warn(self.context.know_hosts(event))
        self.names.changed()

    def _heads_known(self, event: HeadsKnown) -> None:
        self.context.tenure.heard(event, self.context.now_ms)
        self._doubt_was_told = self._doubt_was_told and not self.context.tenure.is_certain(self.context.now_ms)
        self.listed.heard(event)
        self.rivals.know(event.listed)

    def _rebalance(self) -> None:
        self._rebalance_armed = False
        now_ms = self.context.now_ms
        moves = waiting = 0
        usable = NodeSet(self.context.below.mask & self.members.up_mask)
        launching: int | None = None
        for record in self.members.records.values():
            if record.state is not NodeState.UP:
                record.misplaced_at_ms = None
                continue
            path = living_path(record.node, self.config.fanout, usable)
            desired = path[-1] if path else HEAD
            if desired == record.parent and not record.lacks_placement:
                record.moves = record.next_move_ms = 0
                record.misplaced_at_ms = None
                continue
            if record.misplaced_at_ms is None:
                record.misplaced_at_ms = now_ms
            if desired != record.placed_under:
                record.moves = record.next_move_ms = 0
            if launching is None:
                launching = self._launching_mask()
            is_busy = launching >> record.node & 1 and not record.lacks_placement
            if now_ms < record.next_move_ms or (is_busy and now_ms - record.misplaced_at_ms < LONGEST_MOVE_PAUSE_MS):
                waiting += 1
                continue
            if moves == MAX_MOVES_AT_ONCE:
                break
            moves += 1
            record.next_move_ms = now_ms + min(self.config.rebalance_ms << record.moves, LONGEST_MOVE_PAUSE_MS)
            record.moves = min(record.moves + 1, 16)
            self.context.place(record, [self.members.records[hop] for hop in path])
        if moves or waiting:
            self._rebalance_soon()

    def _launching_mask(self) -> int:
        """Return the nodes through which a launch is under way: a move now would cost it a connection and a snapshot.

        A node that has just lost its parent in the middle of a launch is the one that is moved next.
        """
        mask = 0
        for node in self.jobs.launching():
            mask |= 1 << node
            for ancestor in ancestors_of(node, self.config.fanout):
                mask |= 1 << ancestor
        return mask

    # ------------------------------------------------------------------ timers

    def _timer_fired(self, event: TimerFired) -> None:
        WHEN_DUE.find(event.key)(self, event.key)

    def _missing_over(self, due: MissingDue) -> None:
        record = self.members.records[due.node]
        wait_ms = self._patience_ms(record, self.config.adoption_grace_ms)
        if not record.is_up and wait_ms:
            self.context.await_somebody(due, wait_ms)
        elif not record.is_up:
            self.jobs.node_gone(record.node, f"n{record.node} did not come back after the change of heads")

    def _next_heartbeat(self) -> None:
        now_ms = self.context.now_ms
        self.context.set_timer(HeartbeatDue(), self._beats.plan(now_ms, self.config.heartbeat_ms) - now_ms)

    def _heartbeat(self) -> None:
        now_ms = self.context.now_ms
        if self._beats.were_slept_through(now_ms):
            self.context.wakefulness.woke(self._beats.due_ms, now_ms)
            self.links_below.woke()
        self._next_heartbeat()
        # A client that was waited for may not come back.
        self.images.transfers.source_found()
        self.links_below.close_silent(now_ms - self.config.link_timeout_ms)
