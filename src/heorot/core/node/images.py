"""The node's part in images: it has them from its parent or from peers, and passes them on.

For the head it keeps images that others may need yet (`heorot.core.head.safekeeping`). When that head is lost, the next
one has `KEEP_MS` from when the way up is open again to ask for it, too; what it does not ask for is let go then.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.shares import origin_of, origin_to_tell, peer_origin
from heorot.core.images.swarms import Below, SwarmHere, Swarms
from heorot.core.machine import Log, Send, SetTimer
from heorot.core.node.context import NodeContext
from heorot.core.node.peers import Peers, Way
from heorot.core.node.timers import ClaimsDue, PeersDue
from heorot.core.tree.below_link import LinkBelow
from heorot.core.wire import tree as m

KEEP_MS = 30_000
MAX_KEPT = 1_024
"""So many images are kept for heads at a time: as many as a head lets users have on their way."""


class NodeImages:
    """Images on a node. See `heorot.core.images.hop`, `heorot.core.images.swarms` and `heorot.core.node.peers`.

    Parameters
    ----------
    wanted
        The nodes of the launches that wait for an image here, as a mask.
    complete, failed
        See `Transfers`.
    """

    def __init__(
        self,
        context: NodeContext,
        wanted: Callable[[bytes], int],
        complete: Callable[[bytes], None],
        failed: Callable[[bytes, str], None],
    ) -> None:
        config, below = context.config, context.below
        self._context = context
        self._uplink = context.uplink
        self.swarms = Swarms(
            context.emit,
            lambda image, link: self.transfers.redirect(image, link),
            self._address_of,
            lambda: {link.link: Below(link.peer, link.mask) for link in below.by_link.values()},
            lambda image: wanted(image) & below.mask,
            config.swarm_gain_ms,
        )
        self.peers = Peers(config, context.emit, context.hello, lambda: self.transfers)
        self._wanted, self._complete, self._failed = wanted, complete, failed
        self._kept: dict[bytes, int | None] = {}
        """By image that is kept for the head: the link on which that was asked for; None: on one that is lost."""
        self._unclaimed_until_ms = 0
        self.transfers = Transfers(
            context.emit,
            self._ask,
            self._sources,
            self._have,
            self._have_not,
            lambda: self._up,
            self._consider,
            self.peers.plan_of,
            self._ended,
            self.swarms.pace,
            lambda: context.now_ms,
            lambda: self._up is not None,
        )

    @property
    def _up(self) -> int | None:
        return self._uplink.link if self._uplink.attached else None

    def _address_of(self, node: int) -> tuple[str, int] | None:
        if node == self._context.config.node:
            return self._context.config.host, self._context.config.port
        record = self._context.records.get(node)
        return (record.host, record.port) if record is not None else None

    def _sources(self, image: bytes) -> list[Source]:
        swarm = self.swarms.use(image, self._context.now_ms) if not self.peers.plan_of(image) else None
        if swarm is not None and swarm.members >> self._context.config.node & 1:
            self._follow(swarm)
        return self.peers.sources(image, self._up, self._uplink.parent)

    def _ask(self, link: int, message: m.Want | m.Took) -> None:
        if isinstance(message, m.Want):
            message = replace(message, origin=origin_to_tell(message.origin, self._context.config.node))
        self._context.emit(Send(link, message))

    # ------------------------------------------------------------------ neighbours

    def child_wants(self, link: LinkBelow, want: m.Want) -> None:
        """A child lacks something. Raises ProtocolError."""
        if link.is_attached:
            self.transfers.want(link.link, want, origin=origin_of(want.origin, link.peer, link.mask))
        else:
            self._context.emit(Send(link.link, m.Unavailable(want.image, f"n{link.peer} is not attached here")))

    def visitor_wants(self, link: LinkBelow, want: m.Want) -> None:
        """A visitor lacks something. Raises ProtocolError."""
        self.transfers.want(link.link, replace(want, swarms=False), origin=peer_origin(link.peer))

    def head_wants(self, link: int, want: m.Want) -> None:
        """A head lacks something that nobody has but its nodes. Raises ProtocolError."""
        self.transfers.want(link, replace(want, swarms=False), above=True)

    def link_lost(self, link: int) -> None:
        """A neighbour below is gone."""
        self.transfers.neighbour_lost(link)
        self.swarms.link_lost(link)

    def parent_changed(self, former: int | None, *, is_new: bool) -> None:
        """The link to the parent is another one than `former`; `is_new`: the way up is open again."""
        if self.transfers and former is not None and former != self._uplink.link:
            self.transfers.source_lost(former)
            self.transfers.neighbour_lost(former)
        if is_new:
            self._await_claims()
            self.transfers.copies.way_up_found()
            self.transfers.source_found()

    # ------------------------------------------------------------------ what is kept for the head

    def keep(self, link: int, message: m.KeepImage) -> None:
        """A head has an image kept, or lets it go."""
        image = message.image
        if not message.keep:
            self._kept.pop(image, None)
            self.transfers.let_go(image)
        elif image not in self._kept and len(self._kept) >= MAX_KEPT:
            text = f"n{self._context.config.node} keeps {MAX_KEPT} images already"
            self._context.emit(Send(link, m.ImageKept(image, text)))
        else:
            self._kept[image] = link
            self.transfers.keep(image)

    def _have(self, image: bytes) -> None:
        self._answer(image, m.ImageKept(image))
        if self._wanted(image):
            self._complete(image)

    def _have_not(self, image: bytes, why: str) -> None:
        self._answer(image, m.ImageKept(image, why))
        self._kept.pop(image, None)
        self._failed(image, why)

    def _answer(self, image: bytes, message: m.ImageKept) -> None:
        link = self._kept.get(image)
        if link is not None and link == self._up:
            self._context.emit(Send(link, message))

    def _await_claims(self) -> None:
        """The way up is new: see who asks for what was kept for a former head."""
        if self._kept:
            self._kept = dict.fromkeys(self._kept)
            self._unclaimed_until_ms = self._context.now_ms + KEEP_MS
            self._context.emit(SetTimer(ClaimsDue(), self._unclaimed_until_ms))

    def claims_due(self) -> None:
        """The timer for `ClaimsDue` has fired."""
        if self._up is None or self._context.now_ms < self._unclaimed_until_ms:
            return
        for image in [image for image, link in self._kept.items() if link is None]:
            del self._kept[image]
            self.transfers.let_go(image)

    # ------------------------------------------------------------------ swarms

    def _consider(self, image: bytes, size: int, links: list[int]) -> None:
        # As long as nothing comes, the hop above may begin one for all.
        self.swarms.consider(image, size, links, self._context.now_ms, can_begin=self.transfers.is_flowing(image))

    def join(self, message: m.Swarm) -> None:
        """The parent says that an image comes from peers."""
        swarm = self.swarms.take(message, self._context.now_ms)
        if message.image not in self.transfers.transfers:
            # It came here meanwhile, or nobody needs it any more: others may ask all the same.
            self.swarms.ended(message.image, self._context.now_ms)
            return
        self._context.emit(Log("debug", f"an image comes from peers: {swarm.members.bit_count()} members"))
        links = [*self.transfers.requesters(message.image), *swarm.told]
        swarm.told.clear()
        self.swarms.tell(swarm, list(dict.fromkeys(links)))
        if swarm.members >> self._context.config.node & 1:
            self._follow(swarm)
            self.transfers.replan(message.image)

    def _follow(self, swarm: SwarmHere) -> None:
        ways: list[Way | None] = []
        for node in swarm.senders_of(self._context.config.node):
            ways.append((node, *(self.swarms.address(swarm, node) or ("", 0))) if node is not None else None)
        if not self.peers:
            self._plan_look()
        self.peers.follow(swarm.image, swarm.plan, ways)

    def _ended(self, image: bytes) -> None:
        self.swarms.ended(image, self._context.now_ms)
        self.peers.drop(image)

    def look(self) -> None:
        """The timer for `PeersDue` has fired."""
        self.peers.look(self._context.now_ms)
        if self.peers:
            self._plan_look()

    def _plan_look(self) -> None:
        self._context.emit(SetTimer(PeersDue(), self.peers.next_look_ms(self._context.now_ms)))
