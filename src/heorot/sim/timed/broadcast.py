"""A broadcast in virtual time: the real `heorot.core.images.hop` on every hop, links with a rate, and a cache in
memory.

The head holds an image, and every node needs it at the same moment. With `peers` they have it from each other, as
`heorot.core.images.swarms` has them do on slow links; the plan is known from the start, and links between peers cost
nothing. A chunk's bytes are not there, only its size: what is copied and digested for real is a handful of bytes, or 16
MB on 16,384 nodes would be 256 GB.
"""

from __future__ import annotations

from hashlib import sha256

from heorot.core.images.chunks import CHUNK_BYTES, FILE
from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.manifest import Entry, Manifest, encode_manifest, image_id, mask_of, ranges_of
from heorot.core.images.two_trees import TREES, Order
from heorot.core.machine import (
    ChunksGone,
    Examine,
    Examined,
    KeepChunks,
    KeepManifest,
    Send,
    SendChunks,
    SendManifest,
)
from heorot.core.shells import HopShell
from heorot.core.tree.nodeset import HEAD
from heorot.core.tree.shape import parent_of
from heorot.core.wire import images as i
from heorot.sim.timed.costs import MEASURED, Costs
from heorot.sim.timed.timeline import Cores, Port, TimedNetwork, TimedProcess, Timeline, Unexpected

DEADLINE_NS = 3_600_000_000_000
PIECE_OVERHEAD_BYTES = 48
LINK_BITS = 24


class VirtualChunk(bytes):
    """The bytes of a chunk: few, but they say that they are as many as they should be."""

    def __len__(self) -> int:
        return CHUNK_BYTES


CHUNK = VirtualChunk(b"chunk")


def image_of(chunks: int) -> tuple[bytes, bytes]:
    """Return the name and the encoded manifest of an image that is one file of so many chunks."""
    digests = sha256(CHUNK).digest() * chunks
    encoded = encode_manifest(Manifest([Entry(b"/image", FILE, 0o755, chunks * CHUNK_BYTES, digests)], b"/image"))
    return image_id(encoded), encoded


def link_between(lower: int, upper: int) -> int:
    """Return the number of the link over which `lower` has the image from `upper`."""
    return lower << LINK_BITS | upper + 1


def ends_of(link: int) -> tuple[int, int]:
    """Return who has the image over a link from whom."""
    return link >> LINK_BITS, (link & (1 << LINK_BITS) - 1) - 1


class TimedHop(HopShell):
    """The head or a node: its transfers, its cache, its process."""

    __slots__ = (
        "cache",
        "complete_ns",
        "manifest",
        "node",
        "parent",
        "port",
        "process",
        "run",
        "spent_ns",
        "transfers",
    )

    def __init__(self, run: Broadcast, node: int, parent: int | None) -> None:
        self.run = run
        self.node = node
        self.parent = parent
        """The node above; None: this is the head, which has everything."""
        self.port = Port(run.network)
        self.process = TimedProcess(Cores(run.timeline, 1))
        self.cache = (1 << run.chunks) - 1 if parent is None else 0
        self.manifest = run.manifest if parent is None else b""
        self.complete_ns = 0
        self.spent_ns = 0
        self.transfers = Transfers(
            lambda item: self.carry_out((item,)),
            lambda link, message: self.send(Send(link, message)),
            lambda image: self.run.sources_of(node, parent),
            self._complete,
            self._failed,
        )

    def _complete(self, image: bytes) -> None:
        self.complete_ns = self.run.timeline.now_ns + self.spent_ns
        self.run.waiting -= 1
        self.transfers.dismiss(image)

    def _failed(self, image: bytes, why: str) -> None:
        raise Unexpected(f"n{self.node} cannot get the image: {why}")

    def need(self) -> int:
        """Begin to want the image."""
        self.spent_ns = 0
        self.transfers.need(self.run.image)
        return self.spent_ns

    def take(self, link: int, message: object, size_bytes: int) -> int:
        """Take a message; return what it costs."""
        costs, transfers = self.run.costs, self.transfers
        self.spent_ns = round(costs.agent.message_us * 1000)
        if isinstance(message, i.Piece):
            self.spent_ns += round(costs.chunk_in_us * 1000 * size_bytes / 1024)
            transfers.piece(link, message)
        elif isinstance(message, i.Want):
            transfers.want(link, message)
        elif isinstance(message, i.Took):
            transfers.took(link, message)
        elif isinstance(message, i.ImageManifest):
            transfers.manifest(link, message)
        else:
            raise Unexpected(f"n{self.node} is sent {message}")
        return self.spent_ns

    # ------------------------------------------------------------------ instructions, in the present turn

    def send(self, item: Send) -> None:
        """Let a short message leave."""
        self._send(item.link, item.message, 64, item.bulk)

    def send_manifest(self, item: SendManifest) -> None:
        """Let it leave."""
        self._send(item.link, i.ImageManifest(item.image, self.manifest), len(self.manifest), False)

    def send_chunks(self, item: SendChunks) -> None:
        """Let them leave, which takes as long as if there were bytes in them."""
        size = item.count * CHUNK_BYTES
        self.spent_ns += round(self.run.costs.chunk_out_us * 1000 * size / 1024)
        piece = i.Piece(item.image, item.first, [CHUNK] * item.count)
        if mask_of([item.first, item.count], self.run.chunks) & ~self.cache:
            raise Unexpected(f"n{self.node} is to send what it does not have: {ChunksGone.__name__}")
        self._send(item.link, piece, size + PIECE_OVERHEAD_BYTES, True)

    def keep_chunks(self, item: KeepChunks) -> None:
        """Note that they are here."""
        self.cache |= ((1 << len(item.chunks)) - 1) << item.first

    def examine(self, item: Examine) -> None:
        """Say what is here."""
        self._examined()

    def keep_manifest(self, item: KeepManifest) -> None:
        """Keep it for good."""
        self.manifest = item.data
        self._examined()

    def unneeded(self, item: object) -> None:
        """Nothing is idle, late or evicted before the broadcast is over, and nobody reads the log."""

    set_timer = forget = drop_copies = log = unneeded

    def unexpected(self, item: object) -> None:
        """Raise `Unexpected`: all links are there from the start, and stay."""
        raise Unexpected(f"n{self.node} is to {type(item).__name__}")

    connect = close_link = stop = take_shared = unexpected

    def _examined(self) -> None:
        """The cache answers in a turn of its own."""
        timeline = self.run.timeline
        timeline.at(timeline.now_ns + self.spent_ns, self.process.give, self._take_examined)

    def _take_examined(self) -> int:
        self.spent_ns = 0
        self.transfers.examined(Examined(self.run.image, self.manifest, ranges_of(self.cache)))
        return self.spent_ns

    def _send(self, link: int, message: object, size_bytes: int, bulk: bool) -> None:
        run = self.run
        self.spent_ns += round(run.costs.agent.message_us * 1000)
        lower, upper = ends_of(link)
        to = run.hops[upper if lower == self.node else lower]
        at_ns = run.timeline.now_ns + self.spent_ns
        give = to.process.give
        self.port.send(at_ns, to.port, size_bytes, give, (to.take, link, message, size_bytes), bulk)


class Broadcast:
    """One image on its way to every node."""

    def __init__(
        self, nodes: int, fanout: int, bits_per_s: float, *, chunks: int = 256, latency_us: float = 50,
        costs: Costs = MEASURED, peers: bool = False,
    ) -> None:  # fmt: skip
        self.timeline = Timeline()
        self.network = TimedNetwork(self.timeline, latency_us, bits_per_s)
        self.costs = costs
        self.chunks = chunks
        self.bits_per_s = bits_per_s
        self.image, self.manifest = image_of(chunks)
        self.waiting = nodes
        self.order = Order(list(range(nodes)), (0, 1)) if peers else None
        self.depth = 0
        level = nodes - 1
        while level != HEAD:
            self.depth += 1
            level = parent_of(level, fanout)
        if peers:
            self.depth = nodes.bit_length()
        self.hops = {HEAD: TimedHop(self, HEAD, None)}
        self.hops |= {node: TimedHop(self, node, parent_of(node, fanout)) for node in range(nodes)}

    def sources_of(self, node: int, parent: int | None) -> list[Source]:
        """Return from whom a node has the image."""
        if parent is None:
            return []
        if self.order is None:
            return [Source(link_between(node, parent))]
        senders = [self.order.parent(tree, node) for tree in range(TREES)]
        return [
            Source(link_between(node, HEAD if sender is None else sender), tree, TREES)
            for tree, sender in enumerate(senders)
        ]

    def run(self) -> float:
        """Return the virtual seconds until every node has everything."""
        for node, hop in self.hops.items():
            if node != HEAD:
                hop.process.give(hop.need)
        self.timeline.run_until(DEADLINE_NS, lambda: not self.waiting)
        if self.waiting:
            raise Unexpected(f"{self.waiting} nodes do not get the image")
        return max(hop.complete_ns for hop in self.hops.values()) / 1e9

    @property
    def bound_s(self) -> float:
        """The lower bound: the image once over one link, and one chunk over each hop."""
        return (self.chunks + self.depth) * CHUNK_BYTES * 8 / self.bits_per_s
