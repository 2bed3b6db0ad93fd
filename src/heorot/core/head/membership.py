"""Which nodes the head knows, how each is reached, and where each belongs in the tree; the states of a node are in
`heorot.core.head.states`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from heorot.core.head.host_names import HostNames
from heorot.core.head.states import NODE, NodeChange, NodeState
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.below_attachments import NodeBelow
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.tree.outcasts import Outcasts
from heorot.core.tree.shape import living_path
from heorot.core.wire.heads import HeadAddress
from heorot.core.wire.wishes import NO_WISH, NodeWish, shown_state


@dataclass(slots=True)
class KnownNode(NodeBelow):
    """What the head knows of one node."""

    state: NodeState = NODE.start
    story: int = 0
    parent: int = HEAD
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
    placed_serial: int = 0
    """Of the newest placement of this head; 0: it has not placed it."""
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
    wish: NodeWish = NO_WISH
    """What is wanted of it, and who may use it."""
    preparing: bool = False
    """The site's ``node_up`` has not ended for it (`heorot.core.head.preparing`)."""

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
        """The fact: ``up``, ``boot`` or ``down``."""
        if self.is_up:
            return "boot" if self.preparing else "up"
        return "boot" if self.state is NodeState.BOOT else "down"

    @property
    def told(self) -> str:
        """The state that users are told (`heorot.core.wire.wishes`)."""
        return shown_state(self.word, self.wish.state) if self.wish.state else self.word

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


class Membership:
    """All nodes. Iteration is always in the order of their numbers."""

    def __init__(
        self,
        fanout: int,
        nodes: tuple[int, ...],
        below: NodesBelow,
        wishes: tuple[NodeWish, ...] = (),
        hosts: tuple[tuple[int, str], ...] = (),
    ) -> None:
        self.fanout = fanout
        self.below = below
        """Which nodes are reached, and through which links."""
        self.records: dict[int, KnownNode] = {}
        self.known_mask = 0
        self.outcasts = Outcasts()
        """See `heorot.core.head.removals`."""
        self.up_mask = 0
        """Nodes that are up: reached, or within the grace."""
        self.hosts = HostNames(hosts)
        self.wished_mask = 0
        """Nodes that somebody has set to something: nothing is started there that names nobody."""
        self.preparing_mask = 0
        """Nodes that are up but for the site's ``node_up``."""
        self.spoken_mask = 0
        """Nodes that have said in this term of office what they hold."""
        self.on_step: Callable[[KnownNode], None] = lambda record: None
        """Called when a node has come up, or is up no more."""
        self._wishes = {wish.node: wish for wish in wishes}
        """As they were when the term began."""
        self.register(nodes)

    def record(self, node: int) -> KnownNode:
        """Return the record of a node; a node with a valid certificate that attaches for the first time gets one."""
        if node not in self.records:
            self.register((node,))
        return self.records[node]

    def register(self, nodes: Iterable[int]) -> None:
        """Give each of these nodes a record that has none yet."""
        new = {node: KnownNode(node) for node in nodes if node not in self.records}
        for node, record in new.items():
            if node in self._wishes:
                self.wish(record, self._wishes[node])
        if new:
            self.known_mask |= NodeSet.of(new).mask
            self.records = dict(sorted((self.records | new).items()))

    @property
    def known(self) -> NodeSet:
        """Every registered node."""
        return NodeSet(self.known_mask & ~self.outcasts.removed)

    @property
    def up(self) -> NodeSet:
        """Every node that is up."""
        return NodeSet(self.up_mask)

    @property
    def usable(self) -> NodeSet:
        """Every node that is up, and of which nobody wants anything."""
        return NodeSet(self.up_mask & ~self.closed_mask)

    @property
    def closed_mask(self) -> int:
        """The nodes on which not everybody may start something, whatever their modes; 0 as a rule."""
        return self.wished_mask | self.preparing_mask

    @property
    def silent(self) -> NodeSet:
        """Every registered node that has not said in this term of office what it holds."""
        return NodeSet(self.known_mask & ~self.spoken_mask & ~self.outcasts.removed)

    def wish(self, record: KnownNode, wish: NodeWish) -> None:
        """Go by what is wanted of a node from now on."""
        record.wish = wish
        if wish.state:
            self.wished_mask |= 1 << record.node
        else:
            self.wished_mask &= ~(1 << record.node)

    def prepare(self, record: KnownNode, begins: bool) -> None:
        """The site's ``node_up`` begins for a node, or has ended."""
        record.preparing = begins
        if begins:
            self.preparing_mask |= 1 << record.node
        else:
            self.preparing_mask &= ~(1 << record.node)

    def holders_known(self) -> None:
        """The registry says who has which number: what was wanted of the host before is not wanted of the next one."""
        for node, holder in self.outcasts.given_to.items():
            record = self.records.get(node)
            if record is not None and record.wish.holder and record.wish.holder != holder.hex():
                # A later change is newer all the same.
                self.wish(record, NodeWish(node, record.wish.epoch, record.wish.sequence))

    def step(self, record: KnownNode, change: NodeChange) -> NodeState:
        """Let a node's state change; return the new one."""
        former, was_up, state = record.state, record.is_up, NODE.step(record, change)
        if state is not former:
            if record.is_up:
                self.up_mask |= 1 << record.node
            else:
                self.up_mask &= ~(1 << record.node)
            if record.is_up is not was_up:
                self.on_step(record)
        return state

    def detached(self, mask: int, now_ms: int, heard_at_ms: int) -> list[KnownNode]:
        """Note since when these nodes cannot be reached, and when they were heard of last; return their records."""
        gone = [self.records[node] for node in NodeSet(mask)]
        for record in gone:
            record.detached_at_ms = now_ms
            record.heard_at_ms = heard_at_ms
        return gone

    def desired_path(self, node: int) -> list[KnownNode]:
        """Return the ancestors that a node should have now, the topmost first."""
        return [self.records[a] for a in living_path(node, self.fanout, NodeSet(self.below.mask & self.up_mask))]
