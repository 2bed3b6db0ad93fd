"""The node's part in images: it has them from its parent or from peers, and passes them on."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from heorot.core import messages as m
from heorot.core.children import Child, Children
from heorot.core.image_fetcher import Source
from heorot.core.machine import Log, Send, SetTimer
from heorot.core.node_context import NodeContext
from heorot.core.peers import LOOK_MS, Peers, Way
from heorot.core.swarms import Below, Swarm, Swarms
from heorot.core.transfers import Transfers


class NodeImages:
    """Images on a node. See `heorot.core.transfers`, `heorot.core.swarms` and `heorot.core.peers`.

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
        children: Children,
        wanted: Callable[[bytes], int],
        complete: Callable[[bytes], None],
        failed: Callable[[bytes, str], None],
    ) -> None:
        config = context.config
        self._context = context
        self._uplink = context.uplink
        self._children = children
        self.swarms = Swarms(
            context.emit,
            lambda image, link: self.transfers.redirect(image, link),
            self._address_of,
            lambda: {child.link: Below(child.node, child.mask) for child in children.by_link.values()},
            lambda image: wanted(image) & children.mask,
            config.swarm_gain_ms,
        )
        self.peers = Peers(config, context.emit, context.hello, lambda: self.transfers)
        self.transfers = Transfers(
            context.emit,
            lambda link, message: context.emit(Send(link, message)),
            self._sources,
            complete,
            failed,
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
        return self._children.addresses.get(node)

    def _sources(self, image: bytes) -> list[Source]:
        swarm = self.swarms.use(image, self._context.now_ms) if not self.peers.plan_of(image) else None
        if swarm is not None and swarm.members >> self._context.config.node & 1:
            self._follow(swarm)
        return self.peers.sources(image, self._up, self._uplink.parent)

    # ------------------------------------------------------------------ neighbours

    def asked(self, child: Child, message: m.Want | m.Took) -> None:
        """A neighbour lacks something, or has taken it. Raises ProtocolError."""
        if isinstance(message, m.Took):
            self.transfers.took(child.link, message)
        elif child.is_peer:
            self.transfers.want(child.link, replace(message, swarms=False))
        elif child.mask >> child.node & 1:
            self.transfers.want(child.link, message)
        else:
            self._context.emit(Send(child.link, m.Unavailable(message.image, f"n{child.node} is not attached here")))

    def from_parent(self, link: int, message: m.Piece | m.ImageManifest | m.Unavailable | m.Swarm) -> None:
        """The parent says something about an image. Raises ProtocolError."""
        if isinstance(message, m.Piece):
            self.transfers.piece(link, message)
        elif isinstance(message, m.ImageManifest):
            self.transfers.manifest(link, message)
        elif isinstance(message, m.Unavailable):
            self.transfers.unavailable(link, message)
        else:
            self._join(message)

    def link_lost(self, link: int) -> None:
        """A neighbour below is gone."""
        self.transfers.neighbour_lost(link)
        self.swarms.link_lost(link)

    def parent_changed(self, former: int | None, *, is_new: bool) -> None:
        """The link to the parent is another one than `former`; `is_new`: the way up is open again."""
        if self.transfers and former is not None and former != self._uplink.link:
            self.transfers.source_lost(former)
        if is_new:
            self.transfers.copies.way_up_found()
            self.transfers.source_found()

    # ------------------------------------------------------------------ swarms

    def _consider(self, image: bytes, size: int, links: list[int]) -> None:
        # As long as nothing comes, the hop above may begin one for all.
        self.swarms.consider(image, size, links, self._context.now_ms, can_begin=self.transfers.is_flowing(image))

    def _join(self, message: m.Swarm) -> None:
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

    def _follow(self, swarm: Swarm) -> None:
        ways: list[Way | None] = []
        for node in swarm.senders_of(self._context.config.node):
            ways.append((node, *(self.swarms.address(swarm, node) or ("", 0))) if node is not None else None)
        if not self.peers:
            self._context.emit(SetTimer("peers", self._context.now_ms + LOOK_MS))
        self.peers.follow(swarm.image, swarm.plan, ways)

    def _ended(self, image: bytes) -> None:
        self.swarms.ended(image, self._context.now_ms)
        self.peers.drop(image)

    def look(self) -> None:
        """The timer ``peers`` has fired."""
        self.peers.look(self._context.now_ms)
        if self.peers:
            self._context.emit(SetTimer("peers", self._context.now_ms + LOOK_MS))
