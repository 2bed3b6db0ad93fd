"""Images that nodes have from each other, because sending them to each child takes too long: when, and who from whom.

Theory of operation. A hop sends an image to each of its children that asks for it, so its own link carries it as often
as it has children. That is the least work where links are fast, or where all are on one host. Where it would take
longer than it is worth, by the rate at which neighbours have taken bytes so far, the hop has the nodes below it have
the image from each other: in two trees over all of them (`heorot.core.images.two_trees`), in which each sends it once
or so.

`SwarmHere` goes down the tree of the nodes, and each hop adds the addresses that it knows: so the head says few. A node
that cannot have its part from its peer has it from above instead (`Want.direct`), where there is no ring.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import CHUNK_BYTES
from heorot.core.images.two_trees import TREES, Order
from heorot.core.machine import Log, Send, SharedInstruction
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import images as i

GAIN_MS = 200
"""So much shorter must the time to send an image be with a swarm: new links cost a few milliseconds each."""
ENOUGH_BYTES = 256 * 1024
ENOUGH_MS = 50
"""After so many bytes, or after this time, the rate is known well enough ..."""
FIRST_BYTES = CHUNK_BYTES
"""... and before that so much is sent ahead at first, to all neighbours together: on a slow link more would be in the
way of everything that follows ..."""
WIDENING = 3
"""... and so many times what was taken comes on top: on a fast link the rate is known after a few milliseconds."""
PATIENCE_MS = 500
"""If so little was taken for so long, somebody else is sent as much: who was sent it may be in no state to take it."""
KEPT_MS = 10_000
"""For so long after a transfer has ended a swarm is remembered: some may still ask, and all must follow the same."""
PLAN_BYTES = 8
MAX_SWARMS = 64
"""So many are remembered at most."""
SMALLEST_PIECE_BYTES = 128 * 1024
LARGEST_PIECE_BYTES = 512 * 1024
PIECE_MS = 20
"""Chunks are sent together that take no longer than this: the next hop, and what is urgent, waits for all of them."""
FORGET_BYTES = 64 * 1024 * 1024
"""From here on, older measurements count half."""

AddressOf: TypeAlias = Callable[[int], tuple[str, int] | None]


class Pace:
    """How fast the neighbours of a hop take what it sends them, all together, while there is something to take."""

    def __init__(self) -> None:
        self.outstanding_bytes = 0
        self._bytes = 0
        self._busy_ms = 0
        self._since_ms = 0
        self._is_quick = False
        self.ahead_bytes = FIRST_BYTES
        """What may be on its way as long as the rate is not known."""

    def sent(self, size: int, now_ms: int) -> None:
        """So many bytes are on their way."""
        if not self.outstanding_bytes:
            self._since_ms = now_ms
        self.outstanding_bytes += size

    def took(self, size: int, now_ms: int) -> None:
        """So many have arrived."""
        self._bytes += size
        self.ahead_bytes = max(self.ahead_bytes, min(ENOUGH_BYTES, self.ahead_bytes + WIDENING * size))
        self._busy_ms += now_ms - self._since_ms
        self._since_ms = now_ms
        self.outstanding_bytes = max(0, self.outstanding_bytes - size)
        if self._bytes <= FIRST_BYTES and self._busy_ms < ENOUGH_MS and not self._is_quick:
            # One chunk alone on a quick link shows how long its way takes, not how many follow each other on it.
            self._is_quick = True
            self._bytes = self._busy_ms = 0
        if self._bytes > FORGET_BYTES:
            self._bytes //= 2
            self._busy_ms //= 2

    def lost(self, size: int) -> None:
        """So many will not arrive."""
        self.outstanding_bytes = max(0, self.outstanding_bytes - size)
        if not self.outstanding_bytes:
            # Whoever took nothing is gone: the next ones are begun with as carefully.
            self.ahead_bytes = FIRST_BYTES

    def quiet_until_ms(self) -> int:
        """Return until when it is no wonder that nobody has taken anything."""
        return self._since_ms + PATIENCE_MS

    def waited(self) -> None:
        """Nobody has taken anything for a while."""
        self.ahead_bytes *= 2

    @property
    def room_bytes(self) -> int:
        """How much more may be sent ahead as long as the rate is not known."""
        return self.ahead_bytes - self.outstanding_bytes

    @property
    def known(self) -> bool:
        """Whether enough was measured."""
        return self._bytes >= ENOUGH_BYTES or (self._bytes > 0 and self._busy_ms >= ENOUGH_MS)

    @property
    def piece_bytes(self) -> int:
        """How much to send in one message: each costs every hop a wake-up, whatever is in it."""
        taken_bytes = PIECE_MS * self._bytes // max(self._busy_ms, 1)
        return max(SMALLEST_PIECE_BYTES, min(LARGEST_PIECE_BYTES, taken_bytes))

    def ms_for(self, size: int) -> int:
        """Return how long so many bytes take."""
        return size * max(self._busy_ms, 1) // max(self._bytes, 1)


class SwarmHere:
    """Who has one image from whom, as this hop knows it."""

    def __init__(
        self, image: bytes, members: int, tops: tuple[int, int], addresses: dict[int, tuple[str, int]]
    ) -> None:
        self.image = image
        self.members = members
        self.tops = tops
        self.addresses = addresses
        self._order: Order | None = None
        shape = f"{NodeSet(members).ranges()} {tops}"
        self.plan = sha256(image + shape.encode()).digest()[:PLAN_BYTES]
        """What names this order of the members."""
        self.told: dict[int, None] = {}
        """The links that were sent it: should another swarm take its place, they are told."""
        self.ended_at_ms: int | None = None
        """When the transfer of the image ended here last."""

    @property
    def order(self) -> Order:
        """The order of the members, which is worked out when it is needed."""
        if self._order is None:
            self._order = Order(NodeSet(self.members).numbers(), self.tops)
        return self._order

    def senders_of(self, node: int) -> list[int | None]:
        """Return who sends to a member, by tree; None: it is the root, and has its part from above."""
        return [self.order.parent(tree, node) for tree in range(TREES)]


class Below(NamedTuple):
    """A child of a hop, and a mask of the nodes that are reached through it, itself included."""

    node: int
    mask: int


class Swarms:
    """The swarms that a hop has begun, or was told of, by image.

    Parameters
    ----------
    redirect
        The neighbour at the end of a link will ask others for an image.
    address_of
        Where a node below this hop, or the hop itself, accepts neighbours, if that is known.
    below
        The children, by link.
    wanted
        The nodes below that are known to need an image, as a mask.
    """

    def __init__(
        self,
        emit: Callable[[SharedInstruction], None],
        redirect: Callable[[bytes, int], None],
        address_of: AddressOf,
        below: Callable[[], dict[int, Below]],
        wanted: Callable[[bytes], int],
        gain_ms: int = GAIN_MS,
    ) -> None:
        self._emit = emit
        self._redirect = redirect
        self._address_of = address_of
        self._below = below
        self._wanted = wanted
        self._gain_ms = gain_ms
        self.pace = Pace()
        self.by_image: dict[bytes, SwarmHere] = {}

    def use(self, image: bytes, now_ms: int) -> SwarmHere | None:
        """Return the swarm of an image that is being transferred."""
        self._forget_old(now_ms)
        swarm = self.by_image.get(image)
        if swarm is not None:
            swarm.ended_at_ms = None
        return swarm

    def _forget_old(self, now_ms: int) -> None:
        for image, swarm in list(self.by_image.items()):
            if swarm.ended_at_ms is not None and now_ms - swarm.ended_at_ms > KEPT_MS:
                del self.by_image[image]

    def consider(self, image: bytes, size: int, links: list[int], now_ms: int, *, can_begin: bool = True) -> None:
        """These neighbours ask for an image of which `size` bytes lack: redirect them, if that is worth it."""
        swarm = self.use(image, now_ms)
        if swarm is None and can_begin:
            swarm = self._begin(image, size, links, now_ms)
        if swarm is not None:
            self.tell(swarm, links)

    def _begin(self, image: bytes, size: int, links: list[int], now_ms: int) -> SwarmHere | None:
        below = self._below()
        # Nearly every call ends here: links are fast.
        if not self._is_worth_it(size, len(below)):
            return None
        members = self._wanted(image)
        for link in links:
            if link in below:
                members |= 1 << below[link].node
        children = [child.node for child in below.values() if child.mask & members]
        hosts = {address[0] for node in children if (address := self._address_of(node)) is not None}
        # Neighbours on one host share its processors and its link: no other way is shorter.
        if len(hosts) < TREES or not self._is_worth_it(size, len(children)):
            return None
        first, second = children[:TREES]
        members |= 1 << first | 1 << second
        self._emit(Log("info", f"{members.bit_count()} nodes shall have an image from each other"))
        return self._add(SwarmHere(image, members, (first, second), {}), now_ms)

    def _is_worth_it(self, size: int, children: int) -> bool:
        return self.pace.known and children >= TREES and self.pace.ms_for(size * (children - 1)) >= self._gain_ms

    def tell(self, swarm: SwarmHere, links: list[int]) -> None:
        """Have these neighbours, and those below them, follow a swarm, as far as it is for them."""
        below = self._below()
        for link in links:
            child = below.get(link)
            if child is None or not swarm.members & child.mask:
                continue
            is_member = swarm.members >> child.node & 1
            # A member that asks without a plan does not know of it any more; for others it is enough to be told once.
            if is_member or link not in swarm.told:
                swarm.told[link] = None
                self._emit(Send(link, self.message_for(swarm, child.mask)))
            if is_member:
                self._redirect(swarm.image, link)

    def _add(self, swarm: SwarmHere, now_ms: int) -> SwarmHere:
        self._forget_old(now_ms)
        self.by_image.pop(swarm.image, None)
        self.by_image[swarm.image] = swarm
        ended = [image for image, other in self.by_image.items() if other.ended_at_ms is not None]
        if len(ended) > MAX_SWARMS:
            del self.by_image[ended[0]]
        return swarm

    def take(self, message: i.Swarm, now_ms: int) -> SwarmHere:
        """The hop above has begun one.

        Raises
        ------
        ProtocolError
            If what it says contradicts itself.
        """
        members = NodeSet.from_ranges(message.members).mask
        tops = message.tops
        if len(tops) != TREES or tops[0] == tops[1] or any(top < 0 or not members >> top & 1 for top in tops):
            raise ProtocolError(f"a swarm whose first members {tops} are not two of its members")
        addresses = {address.node: (address.host, address.port) for address in message.addresses}
        former = self.by_image.get(message.image)
        swarm = self._add(SwarmHere(message.image, members, (tops[0], tops[1]), addresses), now_ms)
        if former is not None:
            swarm.told.update(former.told)
        return swarm

    def message_for(self, swarm: SwarmHere, mask: int) -> i.Swarm:
        """Return what to tell the child through which these nodes are reached."""
        needed: dict[int, None] = {}
        for node in NodeSet(swarm.members & mask):
            for sender in swarm.senders_of(node):
                if sender is not None and not mask >> sender & 1:
                    needed[sender] = None
        addresses = []
        for node in needed:
            address = self.address(swarm, node)
            if address is not None:
                addresses.append(i.PeerAddress(node, *address))
        return i.Swarm(swarm.image, NodeSet(swarm.members).ranges(), list(swarm.tops), addresses)

    def address(self, swarm: SwarmHere, node: int) -> tuple[str, int] | None:
        """Return where a member accepts neighbours."""
        return swarm.addresses.get(node) or self._address_of(node)

    def ended(self, image: bytes, now_ms: int) -> None:
        """Nobody asks for the image any more."""
        swarm = self.by_image.get(image)
        if swarm is not None:
            swarm.ended_at_ms = now_ms

    def link_lost(self, link: int) -> None:
        """Who comes in its place has to be told anew."""
        for swarm in self.by_image.values():
            swarm.told.pop(link, None)
