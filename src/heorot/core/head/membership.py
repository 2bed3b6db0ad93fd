"""Which nodes the head knows, how each is reached, and where each belongs in the tree; the states of a node are in
`heorot.core.head.states`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heorot.core.head.states import NODE, NodeChange, NodeState
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.shape import is_ancestor, living_path
from heorot.core.wire.heads import HeadAddress


@dataclass(slots=True)
class KnownNode:
    """What the head knows of one node."""

    node: int
    state: NodeState = NODE.start
    story: int = 0
    link: int | None = None
    """The head's link through which it is reached; None: it is down or detached."""
    parent: int = HEAD
    incarnation: int | None = None
    host: str = ""
    port: int = 0
    release: str = ""
    agent_pid: int = 0
    init_pid: int = 0
    placed_under: int | None = None
    """The parent that the newest placement of this head names."""
    moves: int = 0
    """How often it was sent there and has not arrived."""
    next_move_ms: int = 0
    misplaced_at_ms: int | None = None
    """Since when it is known to belong elsewhere; None: it is where it belongs."""
    order: int = 0
    """Of its newest `Attach`."""
    shown: tuple[int, int] = (0, 0)
    """Epoch and serial of the newest placement that it has shown; zeros: of none."""
    placed_serial: int = 0
    """Of the newest placement of this head; 0: it has not placed it."""
    attached_at_ms: int = 0
    taken: int = 0
    """When, in the sequence of events, its newest `Attach` was taken."""
    detached_at_ms: int = 0
    heard_at_ms: int = 0
    """When something has come over its last way, as far as that is known; of a node that is detached."""
    admitted: int | None = None
    """The incarnation that `admitted_after` is about."""
    admitted_after: str = "0.0"
    """Jobs up to this one were launched before this incarnation was known."""
    began_ms: int = 0
    """When this incarnation began, or later; on the head's clock."""
    heads: tuple[HeadAddress, ...] | None = None
    """The heads that it keeps on its disk; None: it cannot be told."""
    mode: int = 0o111
    uid: int = 0
    gid: int = 0

    @property
    def name(self) -> str:
        """``n7``."""
        return f"n{self.node}"

    @property
    def is_up(self) -> bool:
        """Its processes are taken to go on, though it may not be reached for the moment."""
        return self.state is NodeState.UP or self.state is NodeState.DETACHED

    @property
    def word(self) -> str:
        """The state that users are told: ``up``, ``boot`` or ``down``."""
        if self.is_up:
            return "up"
        return "boot" if self.state is NodeState.BOOT else "down"

    @property
    def was_seen(self) -> bool:
        """It has attached to this head at least once."""
        return self.taken > 0

    @property
    def lacks_placement(self) -> bool:
        """This head has not placed it, and it may have learned of this head from nobody but its parent.

        Placed by each head, a node refuses the former ones from then on, whoever stands between.
        """
        return self.parent != HEAD and self.placed_under is None


@dataclass(slots=True)
class NodeLink:
    """A direct child of the head and the nodes reached through it."""

    link: int
    peer: int
    heard_at_ms: int
    opened: int = 0
    """When, in the sequence of events."""
    holder: bytes = b""
    """Which key its certificate is for; empty: it cannot be told."""
    present_at_ms: int | None = None
    """The child is known to have been there at this time of our clock, or later."""
    greeted: bool = False
    keeps_images: bool = False
    """It can be asked to keep images, and for what it has of them."""
    mask: int = 0
    doubted: bool = False
    """It said at its last heartbeat that it reaches another number of nodes than are known."""


class Membership:
    """All nodes and all links. Iteration is always in the order of node or link numbers."""

    def __init__(self, fanout: int, nodes: tuple[int, ...]) -> None:
        self.fanout = fanout
        self.records: dict[int, KnownNode] = {node: KnownNode(node) for node in sorted(nodes)}
        self.links: dict[int, NodeLink] = {}
        self.known_mask = NodeSet.of(self.records).mask
        self.removed = 0
        """Mask of the nodes that were removed from the cluster; see `heorot.core.head.removals`."""
        self.holders: dict[int, bytes] = {}
        """Which key each number was given to, as far as a registry says; see `heorot.core.head.removals`."""
        self.former: frozenset[tuple[int, bytes]] = frozenset()
        """Numbers that were given anew, and to whom they were given before."""
        self._events = 0
        self.up_mask = 0
        """Nodes that are up: reached, or within the grace."""
        self.spoken_mask = 0
        """Nodes that have said in this term of office what they hold."""

    def next_event(self) -> int:
        """Return a number that says what comes after what."""
        self._events += 1
        return self._events

    def record(self, node: int) -> KnownNode:
        """Return the record of a node; a node with a valid certificate that attaches for the first time gets one."""
        if node not in self.records:
            self.register((node,))
        return self.records[node]

    def register(self, nodes: Iterable[int]) -> None:
        """Give each of these nodes a record that has none yet."""
        new = {node: KnownNode(node) for node in nodes if node not in self.records}
        if new:
            self.known_mask |= NodeSet.of(new).mask
            self.records = dict(sorted((self.records | new).items()))

    @property
    def known(self) -> NodeSet:
        """Every registered node."""
        return NodeSet(self.known_mask & ~self.removed)

    @property
    def up(self) -> NodeSet:
        """Every node that is up."""
        return NodeSet(self.up_mask)

    @property
    def silent(self) -> NodeSet:
        """Every registered node that has not said in this term of office what it holds."""
        return NodeSet(self.known_mask & ~self.spoken_mask & ~self.removed)

    @property
    def attached_mask(self) -> int:
        """Every node that can be reached now."""
        mask = 0
        for link in self.links.values():
            mask |= link.mask
        return mask

    def step(self, record: KnownNode, change: NodeChange) -> NodeState:
        """Let a node's state change; return the new one."""
        state = NODE.step(record, change)
        if record.is_up:
            self.up_mask |= 1 << record.node
        else:
            self.up_mask &= ~(1 << record.node)
        return state

    def is_former(self, link: NodeLink) -> bool:
        """Say whether the number of this neighbour is another one's now."""
        holder = self.holders.get(link.peer)
        return bool(holder and link.holder) and link.holder != holder

    def was_placed_before(self, node: int, holder: bytes) -> bool:
        """Say whether a placement for this holder of the number is no longer good; empty: it does not say for whom."""
        known = self.holders.get(node)
        if known is None or holder == known:
            return False
        return bool(holder) or any(number == node for number, _ in self.former)

    def may_speak_for(self, link: NodeLink, node: int) -> bool:
        """Say whether the tree allows this child to stand above that node."""
        return is_ancestor(link.peer, node, self.fanout)

    def route(self, record: KnownNode, link: NodeLink) -> None:
        """Reach a node through this link from now on."""
        bit = 1 << record.node
        for other in self.links.values():
            other.mask &= ~bit
        link.mask |= bit
        record.link = link.link

    def detach(self, mask: int, now_ms: int, heard_at_ms: int) -> list[KnownNode]:
        """Note that these nodes cannot be reached, and were heard of last at that time; return their records."""
        gone: list[KnownNode] = []
        for node in NodeSet(mask):
            record = self.records[node]
            record.link = None
            record.detached_at_ms = now_ms
            record.heard_at_ms = heard_at_ms
            gone.append(record)
        for link in self.links.values():
            link.mask &= ~mask
        return gone

    def desired_path(self, node: int) -> list[KnownNode]:
        """Return the ancestors that a node should have now, the topmost first."""
        return [self.records[a] for a in living_path(node, self.fanout, NodeSet(self.attached_mask & self.up_mask))]
