"""The node's machine, run by its agent (bpnode): one hop of the tree between the head and the node's process space.

Theory of operation. The agent keeps nothing that matters: processes, statuses and unread output live in bpinit, and
what is known of a job lives at the head. So every break is mended in the same way: the agent attaches again with
`Attach`, and bpinit hands over its `Inventory` and repeats every stream from its acknowledged offset. Children do the
same when their parent tells them (`Reattached`) that its own way to the head is new. What an agent drops while it has
no way up is repeated by that.

Downward, a message is for a set of nodes: deliver here, split the rest among the children. Upward, payloads pass as
opaque bytes, except that reports of one job are merged. A child may speak only for itself, if its placement, signed by
the head, names this node, and for nodes whose placement names an ancestor that is admitted through that child.

Way up::

    waiting ──Inventory──▶ connecting ──LinkOpened──▶ greeting ──Hello──▶ attached
                 ▲           │      ▲                    │                   │
                 │           │      └── next ancestor ───┴─── link lost ─────┘
                 └─ pausing ◀┘ all ancestors and heads tried

The word on the head. The agent is *headless* from its start, and again `HEADLESS_AFTER_MS` after it has lost its way
up, or as soon as its parent says that it is headless itself; until a head greets it, or a parent that is not. It passes
each change on to bpinit and to its children at once, and repeats it to children in its greeting and at every heartbeat.
On one link words stay in order, and a new link begins with the word of its upper end: so the last word is right.

A higher epoch is obeyed only when it is on disk: what brought it, and all that the parent says meanwhile, is held until
the shell answers `Kept`. If it cannot be kept, the link is given up, as if the head were not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heorot.core import messages as m
from heorot.core.children import Child, Children, speakable
from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    CloseLink,
    Compared,
    ConnectFailed,
    Examined,
    FromSpace,
    Instruction,
    Kept,
    LinkClosed,
    LinkOpened,
    Log,
    NodeEvent,
    Received,
    Remember,
    Send,
    SendEncoded,
    SetTimer,
    SpaceClosed,
    SpaceConnected,
    Stop,
    TimerFired,
    ToSpace,
    ViewMade,
)
from heorot.core.merge import Accumulator
from heorot.core.neighbours import differs, incompatibility
from heorot.core.node_config import NodeConfig
from heorot.core.node_images import NodeImages
from heorot.core.nodeset import HEAD, NodeSet
from heorot.core.peers import KEY as PEER_KEY
from heorot.core.programs import Programs
from heorot.core.report_runs import RUNS_VERSION, in_runs
from heorot.core.tickets import Verify, clock_problem, open_placement, open_signed_launch
from heorot.core.uplink import Uplink

_TAG_REPORT = 7
_TAG_ATTACH = 32
_TAG_PLACE = 34
_TAG_LAUNCH = 48
_TAG_RELEASE = 52
_TAG_ADMIT = 57
_TAG_LAST_COMMAND = 79
_OWN_TAGS = (58, 59, 60)
"""Of commands that only the agent itself, or somebody on the node, gives to bpinit."""
_TAG_INVENTORY = 80
_TAG_OUTPUT = 81
_BULK_TAGS = (_TAG_OUTPUT, 49)

HEADLESS_AFTER_MS = 200
"""How long an agent looks for another way up before it counts as headless: one that moves to another parent is not."""
MAX_HELD = 1024
"""So many messages of the parent are held while an epoch is written to the disk."""
MAX_CHILDREN = 4096
MAX_ACCUMULATORS = 16_384


__all__ = ["NodeConfig", "NodeMachine"]


class NodeMachine:
    """See the module. `verify(data, signature)` checks the head's Ed25519 signature."""

    def __init__(self, config: NodeConfig, verify: Verify) -> None:
        self.config = config
        self.epoch = config.epoch
        self.incarnation: int | None = None
        self.admitted_after = ""
        """The last job before the head knew this incarnation; empty: it does not know it yet."""
        self.headless = True
        """The word on the head that bpinit and the children were told last."""
        self._space_hears = False
        self._space_takes_refusals = False
        self._space_shows_images = False
        self._keeping = 0
        """The epoch that is being written to the disk, 0 if none is."""
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        """What waits for it, with the link that it came on."""
        self._below = Children(config, verify)
        self.children = self._below.by_link
        self.accumulators: dict[str, Accumulator] = {}
        self.uplink = Uplink(config)
        self._verify = verify
        self._attach_order = 0
        self._out: list[Instruction] = []
        self._now_ms = 0
        self.images = NodeImages(
            config,
            self._emit,
            lambda: self._now_ms,
            self.uplink,
            self._below,
            self._hello,
            lambda image: self.programs.nodes_of(image),
            lambda image: self.programs.complete(image),
            lambda image, why: self.programs.failed(image, why),
        )
        self.programs = Programs(self._emit, self.images.transfers, self._hand_over, self._fail)
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
        }
        if config.placement:
            try:
                self.uplink.placed(open_placement(verify, config.placement, cluster=config.cluster, node=config.node))
            except (SecurityError, ProtocolError) as error:
                self._out.append(Log("warning", f"the remembered placement is of no use: {error}"))

    def start(self, now_ms: int) -> list[Instruction]:
        """Begin; must be called once, before the first event."""
        self._out.append(SetTimer("heartbeat", now_ms + self.config.heartbeat_ms))
        return self._take()

    def handle(self, event: NodeEvent, now_ms: int) -> list[Instruction]:
        """Take one event; return what to do, in order.

        Raises
        ------
        ProtocolError
            Only for `Received` and `FromSpace`: the peer broke the protocol. Close its link and feed in that it is
            closed.
        """
        self._now_ms = now_ms
        uplink = self.uplink
        was_attached, former = uplink.attached, uplink.link
        self._handlers[type(event)](event)
        if was_attached and not uplink.attached:
            self._out.append(SetTimer("headless", now_ms + HEADLESS_AFTER_MS))
        self.images.parent_changed(former, is_new=uplink.attached and not was_attached)
        return self._take()

    def _emit(self, instruction: Instruction) -> None:
        self._out.append(instruction)

    def _take(self) -> list[Instruction]:
        out, self._out = self._out, []
        return out

    def _log(self, level: str, text: str) -> None:
        self._out.append(Log(level, text))

    # ------------------------------------------------------------------ process space

    def _space_connected(self, event: SpaceConnected) -> None:
        self._out.append(ToSpace(m.encode(m.Inventorize(self.headless, self.epoch))))

    def _space_closed(self, event: SpaceClosed) -> None:
        if self.uplink.attached and self.incarnation is not None:
            self._send_up(m.Up(self.config.node, m.encode(m.SpaceGone(self.incarnation))))
            assert self.uplink.link is not None
            self._out.append(CloseLink(self.uplink.link, "the node's process space has ended"))
        self._out.append(Stop("bpinit has ended, and with it every process of this node"))

    def _from_space(self, event: FromSpace) -> None:
        tag = m.tag_of(event.payload)
        if tag == _TAG_REPORT:
            self._own_report(event.payload)
            return
        if self.incarnation is None and tag == _TAG_INVENTORY:
            inventory = m.decode_space_answer(event.payload)
            assert isinstance(inventory, m.Inventory)
            self.incarnation = inventory.incarnation
            self.admitted_after = inventory.after
            self._space_hears = inventory.hears_alone
            self._space_takes_refusals = inventory.takes_refusals
            self._space_shows_images = inventory.shows_images
            self._out += self.uplink.connect(self._now_ms)
            return
        # What is dropped here without a way up, bpinit repeats after the next Inventorize.
        if self.uplink.attached:
            self._send_up(m.Up(self.config.node, event.payload), bulk=tag in _BULK_TAGS)

    def _own_report(self, payload: bytes) -> None:
        if self.accumulators or self.programs.starting:
            report = m.decode_space_answer(payload)
            assert isinstance(report, m.Report)
            if report.nodes_started:
                self.programs.let_go(report.job)
            self._merge(report)
        elif self.uplink.attached:
            # A leaf has nothing to merge it with: bpinit's own bytes go up.
            assert self.uplink.link is not None
            self._out.append(SendEncoded(self.uplink.link, payload))

    # ------------------------------------------------------------------ links

    def _link_opened(self, event: LinkOpened) -> None:
        if event.connected_for.startswith(PEER_KEY):
            self.images.peers.opened(event, self._now_ms)
            return
        if event.connected_for:
            self._out += self.uplink.opened(event, self._now_ms)
            if self.uplink.link == event.link:
                self._out.append(Send(event.link, self._hello()))
            return
        if event.peer == HEAD:
            self._refuse(event.link, "not-a-node", "a head has no place below a node")
            return
        if len(self.children) >= MAX_CHILDREN:
            self._refuse(event.link, "too-many-children", f"n{self.config.node} has {MAX_CHILDREN} children already")
            return
        self.children[event.link] = Child(event.link, event.peer, self._now_ms)

    def _link_closed(self, event: LinkClosed) -> None:
        if event.link == self.uplink.link:
            self._log("info", f"the link to {self.uplink.parent_name} is gone: {event.reason}")
            self._out += self.uplink.lost(self._now_ms)
        elif self.images.peers.has_link(event.link):
            self.images.peers.closed(event.link, event.reason)
        else:
            self._drop_child(event.link)

    def _connect_failed(self, event: ConnectFailed) -> None:
        if event.key.startswith(PEER_KEY):
            self.images.peers.failed(event)
            return
        self._out += self.uplink.failed(event, self._now_ms)

    def _drop_child(self, link: int) -> None:
        child = self.children.pop(link, None)
        self.images.link_lost(link)
        if child is not None and child.mask:
            self._expect_no_more(child.mask)
            self._send_up(m.Detached(NodeSet(child.mask).ranges()))

    def _refuse(self, link: int, code: str, text: str) -> None:
        self._log("warning", text)
        self._out += (Send(link, m.Refused(code, text)), CloseLink(link, text))

    def _hello(self, peer: bool = False) -> m.Hello:
        return m.Hello(
            m.PROTOCOL_VERSION,
            m.OLDEST_PROTOCOL_VERSION,
            self.config.cluster,
            self.config.node,
            self.epoch,
            self.config.release,
            self.headless,
            peer=peer,
        )

    def _set_headless(self, headless: bool) -> None:
        """Pass the word on the head on, if it is news."""
        if headless == self.headless:
            return
        self.headless = headless
        self._tell_space()
        for child in self.children.values():
            if child.greeted:
                self._out.append(Send(child.link, m.Pong(headless)))

    def _tell_space(self) -> None:
        if self._space_hears:
            self._out.append(ToSpace(m.encode(m.Alone(self.headless, self.epoch))))

    def _received(self, event: Received) -> None:
        if event.link == self.uplink.link:
            self._from_parent(event.message)
            return
        if self.images.peers.has_link(event.link):
            self.images.peers.received(event.link, event.message, self._now_ms)
            return
        child = self.children.get(event.link)
        if child is None:
            return
        child.heard_at_ms = self._now_ms
        self._from_child(child, event.message)

    # ------------------------------------------------------------------ downward

    def _from_parent(self, message: m.LinkMessage) -> None:
        self.uplink.heard_at_ms = self._now_ms
        if self._keeping:
            if len(self._held) >= MAX_HELD:
                # Its parent does nothing wrong. Attached anew, this node is told all that it did not hear.
                self._held.clear()
                self._give_up_link(f"more than {MAX_HELD} messages came while epoch {self._keeping} was being kept")
                return
            self._hold(lambda: self._from_parent(message))
        elif isinstance(message, m.Down):
            self._down(message)
        elif isinstance(message, m.Hello):
            self._greeted(message)
        elif isinstance(message, m.Reattached):
            self._attach()
        elif isinstance(message, m.Refused):
            self._log("warning", f"{self.uplink.parent_name} refuses this node: {message.text}")
            assert self.uplink.link is not None
            self._out.append(CloseLink(self.uplink.link, "refused"))
            self._out += self.uplink.refused(message.code, self._now_ms)
        elif isinstance(message, m.Pong):
            if self.uplink.attached:
                self.uplink.answered_at_ms = message.at_ms
                self._set_headless(message.headless)
        elif isinstance(message, (m.Piece, m.ImageManifest, m.Unavailable, m.Swarm)):
            self.images.from_parent(self.uplink.link or 0, message)
        else:
            raise ProtocolError(f"a parent may not send {type(message).__name__}")

    def _greeted(self, hello: m.Hello) -> None:
        problem = incompatibility(hello, self.config.cluster)
        if problem:
            assert self.uplink.link is not None
            self._refuse(self.uplink.link, *problem)
            self._out += self.uplink.refused(problem[0], self._now_ms)
            return
        if self.uplink.parent == HEAD:
            # Its certificate says that it is a head: its epoch needs no further signature.
            if hello.epoch < self.epoch:
                why = f"the head's epoch is {hello.epoch}; this node has seen {self.epoch}"
                self._refuse(self.uplink.link or 0, "old-epoch", why)
                self._out += self.uplink.refused("old-epoch", self._now_ms)
                return
            if not self._has_kept(hello.epoch, lambda: self._greeted(hello)):
                return
        lease_ms = hello.lease_ms if self.uplink.parent == HEAD else 0
        self._out += self.uplink.greeted(self._now_ms, hello.epoch, lease_ms, hello.version)
        self._set_headless(hello.headless and self.uplink.parent != HEAD)
        self._attach()

    def _attach(self) -> None:
        """Offer this node, and have every descendant offer itself."""
        assert self.incarnation is not None
        config = self.config
        # A clock that runs on through a restart of the agent.
        self._attach_order = max(self._attach_order + 1, self._now_ms)
        attach = m.Attach(
            config.node,
            self.incarnation,
            config.host,
            config.port,
            self.uplink.sealed_placement(config.placement),
            config.release,
            config.agent_pid,
            config.init_pid,
            self.uplink.parent,
            self._attach_order,
        )
        self._send_up(m.Up(config.node, m.encode(attach)))
        self.programs.drop_all()
        self._out.append(ToSpace(m.encode(m.Inventorize(self.headless, self.epoch))))
        self._expect_no_more(1 << config.node)
        for child in self.children.values():
            if child.greeted:
                self._out.append(Send(child.link, m.Reattached(self.epoch)))

    def _down(self, down: m.Down) -> None:
        if down.epoch < self.epoch:
            assert self.uplink.link is not None
            self._refuse(
                self.uplink.link, "old-epoch", f"a command of epoch {down.epoch}; this node has seen {self.epoch}"
            )
            self._out += self.uplink.refused("old-epoch", self._now_ms)
            return
        nodes = NodeSet.from_ranges(down.nodes)
        tag = m.tag_of(down.payload)
        if tag == _TAG_LAUNCH:
            self._expect_reports(nodes, down.payload)
        elif tag == _TAG_RELEASE and self.accumulators:
            release = m.decode_head_command(down.payload)
            assert isinstance(release, m.Release)
            self._expect_no_more(nodes.mask, release.job)
        here = 1 << self.config.node
        rest = nodes.mask & ~here
        if rest:
            bulk = tag in _BULK_TAGS
            for child in self.children.values():
                part = rest & child.mask
                if part:
                    self._out.append(Send(child.link, m.Down(down.epoch, NodeSet(part).ranges(), down.payload), bulk))
        if nodes.mask & here:
            self._deliver(tag, down.payload)

    def _deliver(self, tag: int, payload: bytes) -> None:
        if tag == _TAG_LAUNCH:
            self._launch(payload)
        elif tag == _TAG_PLACE:
            place = m.decode_head_command(payload)
            assert isinstance(place, m.Place)
            self._place(place.placement)
        elif tag == _TAG_ADMIT:
            admit = m.decode_head_command(payload)
            assert isinstance(admit, m.Admit)
            if admit.incarnation == self.incarnation and not self.admitted_after:
                self.admitted_after = admit.after
                self._out.append(ToSpace(payload))
        elif _TAG_LAUNCH < tag <= _TAG_LAST_COMMAND and tag not in _OWN_TAGS:
            if tag == _TAG_RELEASE and (self.programs.held or self.programs.starting):
                release = m.decode_head_command(payload)
                assert isinstance(release, m.Release)
                self.programs.drop(release.job)
            elif self.programs.unannounced:
                self.programs.announce(getattr(m.decode_head_command(payload), "job", ""))
            self._out.append(ToSpace(payload))
        else:
            raise ProtocolError(f"a command with the unknown tag {tag}")

    def _expect_reports(self, nodes: NodeSet, payload: bytes) -> None:
        if not self.children and not self.accumulators:
            return
        launch = m.decode_head_command(payload)
        assert isinstance(launch, m.Launch)
        subtree = 1 << self.config.node | self._below.mask
        expected = nodes.mask & subtree
        known = self.accumulators.get(launch.job)
        if known is not None:
            known.expected |= expected
        elif expected and len(self.accumulators) < MAX_ACCUMULATORS:
            self.accumulators[launch.job] = Accumulator(launch.job, expected, self.config.merge_ms)

    def _expect_no_more(self, mask: int, job: str | None = None) -> None:
        """Do not wait for reports of these nodes any more: their inventories say it all, or the job is released."""
        if job is None:
            concerned = [accumulator for accumulator in self.accumulators.values() if accumulator.expected & mask]
        else:
            concerned = [self.accumulators[job]] if job in self.accumulators else []
        for accumulator in concerned:
            accumulator.expected &= ~mask
            if job is None or not accumulator.expected:
                # What the others have said waits for nobody: the count of those that are missing is right no more.
                self._flush(accumulator)

    def _launch(self, payload: bytes) -> None:
        launch = m.decode_head_command(payload)
        assert isinstance(launch, m.Launch)
        if launch.view or launch.waits:
            raise ProtocolError("a launch from above says what only this node can know")
        try:
            ticket = open_signed_launch(self._verify, launch, cluster=self.config.cluster)
            if ticket.epoch < self.epoch:
                raise SecurityError(f"the launch is of epoch {ticket.epoch}; this node has seen {self.epoch}")
        except SecurityError as error:
            self._log("error", f"launch {launch.job} refused: {error}")
            self._report_failure(launch, self._refusal(str(error)))
            return
        if not self._has_kept(ticket.epoch, lambda: self._launch(payload)):
            return
        if not self.admitted_after or m.job_order(ticket.job) <= m.job_order(self.admitted_after):
            # Meant for a former incarnation, which may have started it. The head decides by the inventory of this one.
            self._log("warning", f"launch {ticket.job} was not meant for this incarnation and is dropped")
            # So that no relay waits for this node.
            self._merge(m.Report(ticket.job, [], [], [], 1, 1))
            return
        problem = clock_problem(ticket, self._now_ms + self.config.wall_offset_ms)
        if problem:
            self._log("error", f"launch {launch.job} refused: {problem}")
            self._fail(launch, self._refusal(problem))
        elif ticket.image and self._space_shows_images:
            self.programs.hold(launch, ticket)
        elif ticket.image and not ticket.program_id:
            self._fail(launch, f"the bpinit of n{self.config.node} is of a release that cannot be sent programs")
        else:
            self._out.append(ToSpace(payload))

    def _hand_over(self, launch: m.Launch) -> None:
        self._out.append(ToSpace(m.encode(launch)))

    def _fail(self, launch: m.Launch, why: str) -> None:
        """Report the ranks of a launch whose ticket is in order as failed."""
        if self._space_takes_refusals:
            # It may hold the job, or have released it; else it remembers the refusal, for the next head, too.
            self._out.append(ToSpace(m.encode(m.RefuseLaunch(launch.ticket, launch.signature, why))))
        else:
            self._report_failure(launch, why)

    def _refusal(self, why: str) -> str:
        return f"n{self.config.node} refuses the launch: {why}"

    def _report_failure(self, launch: m.Launch, why: str) -> None:
        # The ticket may not be trusted, but the head checks every report against what it asked for.
        ticket = m.decode_ticket(launch.ticket)
        node = self.config.node
        failed = [m.Failure(node, rank, 0, why) for rank in m.ranks_on(ticket, node)]
        self._merge(m.Report(ticket.job, [], [], failed, 1, 1))

    def _place(self, sealed: bytes) -> None:
        try:
            placement = open_placement(self._verify, sealed, cluster=self.config.cluster, node=self.config.node)
            if placement.epoch < self.epoch:
                raise SecurityError(f"the placement is of epoch {placement.epoch}; this node has seen {self.epoch}")
        except SecurityError as error:
            self._log("error", str(error))
            return
        if not self._has_kept(placement.epoch, lambda: self._place(sealed)):
            return
        if not self.uplink.is_news(placement):
            return
        self._out.append(Remember("placement", sealed))
        self._out += self.uplink.move(placement, sealed, self._now_ms)

    # ------------------------------------------------------------------ epochs

    def _has_kept(self, epoch: int, again: Callable[[], None]) -> bool:
        """Say whether an epoch that a head itself has signed or said is on disk; if not, do `again` once it is.

        Were a relay believed, it could lock us.
        """
        if epoch <= self.epoch:
            return True
        self._keeping = epoch
        self._hold(again)
        self._out.append(Remember("epoch", b"%d" % epoch, True))
        return False

    def _hold(self, action: Callable[[], None]) -> None:
        self._held.append((self.uplink.link or 0, action))

    def _kept(self, event: Kept) -> None:
        keeping, self._keeping = self._keeping, 0
        held, self._held = self._held, deque()
        if event.error:
            self._give_up_link(f"epoch {keeping} cannot be kept, and is not obeyed: {event.error}")
            return
        self.epoch = max(self.epoch, keeping)
        self.programs.drop_older(self.epoch)
        self._tell_space()
        for link, action in held:
            if self._keeping:
                self._held.append((link, action))
            elif link == self.uplink.link:
                try:
                    action()
                except ProtocolError as error:
                    self._give_up_link(str(error))

    def _give_up_link(self, why: str) -> None:
        if self.uplink.link is not None:
            self._out.append(CloseLink(self.uplink.link, why))
            self._out += self.uplink.given_up(why, self._now_ms)

    # ------------------------------------------------------------------ upward

    def _from_child(self, child: Child, message: m.LinkMessage) -> None:
        if isinstance(message, m.Hello):
            self._child_greets(child, message)
        elif child.is_peer and isinstance(message, (m.Want, m.Took)):
            self.images.asked(child, message)
        elif child.is_peer and isinstance(message, m.Ping):
            self._out.append(Send(child.link, m.Pong(self.headless)))
        elif not child.greeted:
            raise ProtocolError("the first message of a link must be Hello")
        elif isinstance(message, m.Up):
            self._up(child, message)
        elif isinstance(message, m.Report):
            report = speakable(child, message)
            if report is not None:
                self._merge(report)
        elif isinstance(message, (m.Want, m.Took)):
            self.images.asked(child, message)
        elif isinstance(message, m.Detached):
            gone = NodeSet.from_ranges(message.nodes).mask & child.mask & ~(1 << child.node)
            if gone:
                child.mask &= ~gone
                self._expect_no_more(gone)
                self._send_up(m.Detached(NodeSet(gone).ranges()))
        elif isinstance(message, m.Ping):
            self._out.append(Send(child.link, m.Pong(self.headless)))
            child.doubted, again = differs(child.mask, message.nodes, child.doubted)
            if again and self.uplink.attached:
                self._out.append(Send(child.link, m.Reattached(self.epoch)))
        elif isinstance(message, m.Refused):
            self._log("warning", f"n{child.node} refuses this node: {message.text}")
            self._out.append(CloseLink(child.link, "refused"))
            self._drop_child(child.link)
        else:
            raise ProtocolError(f"a child may not send {type(message).__name__}")

    def _child_greets(self, child: Child, hello: m.Hello) -> None:
        problem = incompatibility(hello, self.config.cluster)
        if problem is None and hello.node != child.node:
            problem = "wrong-node", f"the certificate says n{child.node}, the greeting n{hello.node}"
        if problem:
            self._refuse(child.link, *problem)
            self._drop_child(child.link)
            return
        if child.greeted or child.is_peer:
            raise ProtocolError("a second Hello")
        if hello.peer:
            child.is_peer = True
            self._out.append(Send(child.link, self._hello()))
            return
        # A node has one link: a newer one replaces an older one whose end has not been noticed yet.
        for other in list(self.children.values()):
            if other is not child and other.node == child.node and not other.is_peer:
                self._out.append(CloseLink(other.link, "replaced by a newer link"))
                self._drop_child(other.link)
        child.greeted = True
        self._out.append(Send(child.link, self._hello()))

    def _up(self, child: Child, up: m.Up) -> None:
        tag = m.tag_of(up.payload)
        if tag == _TAG_ATTACH:
            if not self._admit(child, up):
                return
        elif not child.mask >> up.node & 1:
            # Not yet admitted, or moved elsewhere: its inventory will say it again on the new way.
            return
        self._send_up(up, bulk=tag in _BULK_TAGS)

    def _admit(self, child: Child, up: m.Up) -> bool:
        attach = m.decode_node_payload(up.payload)
        assert isinstance(attach, m.Attach)
        try:
            admitted = self._below.admit(child, up.node, attach)
        except (SecurityError, ProtocolError) as error:
            self._log("warning", f"n{up.node} may not attach here: {error}")
            if child.node == up.node:
                self._refuse(child.link, "not-placed-here", str(error))
                self._drop_child(child.link)
            return False
        if admitted:
            self._expect_no_more(1 << up.node)
        return admitted

    def _merge(self, report: m.Report) -> None:
        accumulator = self.accumulators.get(report.job)
        if accumulator is None:
            # No launch of this job came by (an agent that was restarted): nothing to wait for.
            self._send_up(report)
            return
        was_empty = accumulator.empty
        if accumulator.add(report):
            self._flush(accumulator)
        elif was_empty:
            self._out.append(SetTimer(f"merge:{report.job}", accumulator.due_ms(self._now_ms)))

    def _flush(self, accumulator: Accumulator) -> None:
        if not accumulator.empty:
            report = accumulator.take()
            self._send_up(in_runs(report) if self.uplink.parent_version >= RUNS_VERSION else report)
        if accumulator.finished:
            del self.accumulators[accumulator.job]

    def _send_up(self, message: m.LinkMessage, bulk: bool = False) -> None:
        if self.uplink.attached:
            assert self.uplink.link is not None
            self._out.append(Send(self.uplink.link, message, bulk))

    # ------------------------------------------------------------------ timers

    def _examined(self, event: Examined) -> None:
        self.images.transfers.examined(event)
        self.programs.examined(event)

    def _timer_fired(self, event: TimerFired) -> None:
        if event.key.startswith("merge:"):
            accumulator = self.accumulators.get(event.key[6:])
            if accumulator is not None:
                accumulator.waited(self._now_ms)
                self._flush(accumulator)
        elif event.key == "heartbeat":
            self._heartbeat()
        elif event.key == "headless":
            if not self.uplink.attached:
                self._set_headless(True)
        elif event.key == "peers":
            self.images.look()
        elif event.key == "pace":
            self.images.transfers.waited()
        elif event.key == "pulse":
            self._pulse()
        elif event.key == "another":
            self._out += self.uplink.try_another(self._now_ms)
        elif event.key == "retry":
            self._out += self.uplink.connect(self._now_ms)

    def _heartbeat(self) -> None:
        self._out.append(SetTimer("heartbeat", self._now_ms + self.config.heartbeat_ms))
        deadline_ms = self._now_ms - self.config.link_timeout_ms
        for child in list(self.children.values()):
            if child.heard_at_ms < deadline_ms:
                self._out.append(CloseLink(child.link, "silent for too long"))
                self._drop_child(child.link)
        uplink = self.uplink
        if uplink.link is None:
            return
        if uplink.heard_at_ms < deadline_ms:
            self._leave_silent_parent()
        else:
            self._ping()

    def _pulse(self) -> None:
        is_silent, follows = self.uplink.pulse(self._now_ms)
        self._out += follows
        if is_silent:
            self._leave_silent_parent()
        else:
            self._ping()

    def _leave_silent_parent(self) -> None:
        assert self.uplink.link is not None
        self._out.append(CloseLink(self.uplink.link, "silent for too long"))
        self._log("warning", f"{self.uplink.parent_name} has been silent for too long")
        self._out += self.uplink.lost(self._now_ms)

    def _ping(self) -> None:
        if self.uplink.attached:
            reached = 1 + sum(child.mask.bit_count() for child in self.children.values())
            self._send_up(m.Ping(reached, self.uplink.answered_at_ms))
