"""Peers: nodes from which this one has images beside its parent, by links of their own that carry nothing else.

A peer that cannot be reached, is lost, refuses or falls silent is not tried again for that image: its part is had from
the parent, directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.two_trees import TREES
from heorot.core.machine import CloseLink, Connect, ConnectFailed, LinkOpened, Log, NodeInstruction, Send
from heorot.core.node.config import NodeConfig
from heorot.core.routes import Routes, Side
from heorot.core.tree.greeting import incompatibility
from heorot.core.wakefulness import Looks
from heorot.core.wire import tree as m

KEY = "peer:"
LOOK_MS = 1_000
PING_AFTER_MS = 2_000
"""A peer that has said nothing for so long is asked whether it is there."""
SILENCE_MS = 6_000
"""One that has said nothing for so long is given up. It may wait for others itself, but it says that it is there."""

Way: TypeAlias = tuple[int, str, int]
"""A node, and where it accepts neighbours; an empty host: unknown, it serves as long as it is the parent."""


class _Peer:
    __slots__ = ("heard_at_ms", "images", "key", "link", "node", "ready")

    def __init__(self, node: int, key: str) -> None:
        self.heard_at_ms = 0
        self.node = node
        self.key = key
        self.link: int | None = None
        self.ready = False
        self.images: dict[bytes, None] = {}


class Peers:
    """See the module. Calls `transfers` when a source is found or lost."""

    def __init__(
        self,
        config: NodeConfig,
        emit: Callable[[NodeInstruction], None],
        hello: Callable[[bool], m.Hello],
        transfers: Callable[[], Transfers],
    ) -> None:
        self._config = config
        self._emit = emit
        self._hello = hello
        self._transfers = transfers
        self._plans: dict[bytes, tuple[bytes, list[Way | None]]] = {}
        """From whom each image is had: which plan says so, and a way for each of the trees; None: from above."""
        self._by_node: dict[int, _Peer] = {}
        self._by_link: dict[int, _Peer] = {}
        self._attempts = 0
        self._looks = Looks()

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def links(self) -> int:
        """How many peers there are, on their way or connected."""
        return len(self._by_node)

    def has_link(self, link: int) -> bool:
        """Say whether this is the link to a peer."""
        return link in self._by_link

    # ------------------------------------------------------------------ what is had from whom

    def follow(self, image: bytes, plan: bytes, ways: list[Way | None]) -> None:
        """Have an image from these nodes from now on, each tree's chunks from one."""
        assert len(ways) == TREES, ways
        self._leave(image)
        self._plans[image] = plan, ways

    def plan_of(self, image: bytes) -> bytes:
        """Return which plan says from whom an image is had; empty: none."""
        known = self._plans.get(image)
        return known[0] if known is not None else b""

    def sources(self, image: bytes, up: int | None, parent: int) -> list[Source]:
        """Return from where an image is had at the moment. `up`: the link to the parent."""
        known = self._plans.get(image)
        if known is None:
            return [Source(up)] if up is not None else []
        plan, ways = known
        sources: list[Source] = []
        for tree, way in enumerate(ways):
            is_parent = way is not None and way[0] == parent
            if is_parent or way is None or not way[1]:
                if up is not None:
                    sources.append(Source(up, tree, TREES, not is_parent, plan))
            else:
                peer = self._use(image, way)
                if peer.ready and peer.link is not None:
                    sources.append(Source(peer.link, tree, TREES, False, plan))
        return sources

    def _use(self, image: bytes, way: Way) -> _Peer:
        node, host, port = way
        peer = self._by_node.get(node)
        if peer is None:
            self._attempts += 1
            peer = self._by_node[node] = _Peer(node, f"{KEY}{self._attempts}")
            self._emit(Connect(peer.key, host, port, self._config.connect_timeout_ms))
        peer.images[image] = None
        return peer

    def drop(self, image: bytes) -> None:
        """The image is needed no more."""
        if self._plans.pop(image, None) is not None:
            self._leave(image)

    def _leave(self, image: bytes) -> None:
        for peer in list(self._by_node.values()):
            if peer.images.pop(image, 0) is None and not peer.images:
                self._forget(peer)
                if peer.link is not None:
                    self._emit(CloseLink(peer.link, "nothing more is needed of it"))

    def _forget(self, peer: _Peer) -> None:
        del self._by_node[peer.node]
        if peer.link is not None:
            self._by_link.pop(peer.link, None)

    # ------------------------------------------------------------------ links

    def opened(self, event: LinkOpened, now_ms: int) -> None:
        """A connection stands."""
        peer = self._peer_of(event.connected_for)
        if peer is None:
            self._emit(CloseLink(event.link, "no longer needed"))
            return
        if event.peer != peer.node:
            self._emit(CloseLink(event.link, f"it is not n{peer.node}"))
            self._lose(peer, f"another node is at the address of n{peer.node}")
            return
        peer.link = event.link
        peer.heard_at_ms = now_ms
        self._by_link[event.link] = peer
        self._emit(Send(event.link, self._hello(True)))

    def failed(self, event: ConnectFailed) -> None:
        """A connection could not be made."""
        peer = self._peer_of(event.key)
        if peer is not None:
            self._lose(peer, event.reason)

    def _peer_of(self, key: str) -> _Peer | None:
        return next((peer for peer in self._by_node.values() if peer.key == key), None)

    def closed(self, link: int, reason: str) -> None:
        """The link is gone."""
        self._lose(self._by_link[link], reason)

    def _lose(self, peer: _Peer, why: str) -> None:
        self._emit(Log("info", f"no image comes from n{peer.node} any more: {why}; asking the parent"))
        images = list(peer.images)
        self._forget(peer)
        for image in images:
            self._give_up(image, peer.node)
        if peer.link is not None:
            self._transfers().source_lost(peer.link)
        for image in images:
            self._transfers().pursue(image)

    def _give_up(self, image: bytes, node: int) -> None:
        known = self._plans.get(image)
        if known is not None:
            plan, ways = known
            self._plans[image] = plan, [None if way is not None and way[0] == node else way for way in ways]

    def received(self, link: int, message: m.LinkMessage, now_ms: int) -> None:
        """A peer says something.

        Raises
        ------
        ProtocolError
            If what it says is wrong.
        """
        peer = self._by_link[link]
        peer.heard_at_ms = now_ms
        FROM_PEERS.find(Side.PEER if peer.ready else Side.NEWCOMER, message)(self, peer, link, message)

    def _piece(self, peer: _Peer, link: int, piece: m.Piece) -> None:
        if not self._transfers().piece(link, piece):
            self._emit(CloseLink(link, "it sent a damaged chunk"))
            self._lose(peer, "it sent a damaged chunk")

    def _stored(self, peer: _Peer, link: int, word: m.Stored) -> None:
        self._transfers().stored.told(link, word)

    def _greeted(self, peer: _Peer, link: int, hello: m.Hello) -> None:
        problem = incompatibility(hello, self._config.cluster)
        if problem is not None:
            self._emit(CloseLink(link, problem[1]))
            self._lose(peer, problem[1])
            return
        peer.ready = True
        for image in list(peer.images):
            self._transfers().pursue(image)

    def _unavailable(self, peer: _Peer, link: int, word: m.Unavailable) -> None:
        self._give_up(word.image, peer.node)
        peer.images.pop(word.image, None)
        self._transfers().unasked(word.image, link)
        if not peer.images:
            self._forget(peer)
            self._emit(CloseLink(link, "nothing more is needed of it"))

    def _refused(self, peer: _Peer, link: int, refused: m.Refused) -> None:
        self._emit(CloseLink(link, "refused"))
        self._lose(peer, refused.text)

    def _is_there(self, peer: _Peer, link: int, message: m.Pong) -> None:
        """It answers, which is all that was asked for."""

    # ------------------------------------------------------------------ silence

    def next_look_ms(self, now_ms: int) -> int:
        """Return when `look` is to be called next."""
        return self._looks.plan(now_ms, LOOK_MS)

    def look(self, now_ms: int) -> None:
        """Ask peers that are silent whether they are there, and give up those that do not answer.

        What this node slept itself is nobody's silence: they are asked as often as otherwise before they are given up.
        """
        if self._looks.were_slept_through(now_ms):
            for peer in self._by_link.values():
                peer.heard_at_ms = max(peer.heard_at_ms, now_ms - PING_AFTER_MS)
        for peer in list(self._by_link.values()):
            silent_ms = now_ms - peer.heard_at_ms
            if peer.link is None or silent_ms < PING_AFTER_MS:
                continue
            if silent_ms < SILENCE_MS:
                self._emit(Send(peer.link, m.Ping()))
            else:
                self._emit(CloseLink(peer.link, "silent for too long"))
                self._lose(peer, "it has been silent for too long")


FROM_PEERS = Routes(
    "a node",
    {
        (Side.NEWCOMER, m.Hello): Peers._greeted,
        (Side.NEWCOMER, m.Refused): Peers._refused,
        (Side.PEER, m.Piece): Peers._piece,
        (Side.PEER, m.Stored): Peers._stored,
        (Side.PEER, m.Unavailable): Peers._unavailable,
        (Side.PEER, m.Refused): Peers._refused,
        (Side.PEER, m.Pong): Peers._is_there,
    },
)
"""Who may say what: `heorot.core.routes` tells how to read this."""
