"""Images that nodes have from each other, because sending them to each child takes too long: when, and who from whom.

Theory of operation. A hop sends an image to each of its children that asks for it, so its own link carries it as often
as it has children. That is the least work where links are fast, or where all are on one host. Where it would take
longer than it is worth, by the rate at which neighbours have taken bytes so far, the hop has the nodes below it have
the image from each other: in two trees over all of them (`heorot.core.two_trees`), in which each sends it once or so.

`Swarm` goes down the tree of the nodes, and each hop adds the addresses that it knows: so the head says few. A node
that cannot have its part from its peer has it from above instead (`Want.direct`), where there is no ring.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TypeAlias

from heorot.core import image_messages as i
from heorot.core.errors import ProtocolError
from heorot.core.nodeset import NodeSet
from heorot.core.two_trees import TREES, Order

GAIN_MS = 200
"""So much shorter must the time to send an image be with a swarm: new links cost a few milliseconds each."""
ENOUGH_BYTES = 256 * 1024
ENOUGH_MS = 50
"""After so many bytes, or after this time, the rate is known well enough ..."""
CAUTIOUS_BYTES = ENOUGH_BYTES
"""... and before that about so much is sent ahead to all neighbours together: it would only be in the way."""
KEPT_MS = 10_000
"""For so long after a transfer has ended a swarm is remembered: some may still ask, and all must follow the same."""
PLAN_BYTES = 8
MAX_SWARMS = 64
"""So many are remembered at most."""
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

    def sent(self, size: int, now_ms: int) -> None:
        """So many bytes are on their way."""
        if not self.outstanding_bytes:
            self._since_ms = now_ms
        self.outstanding_bytes += size

    def took(self, size: int, now_ms: int) -> None:
        """So many have arrived."""
        self._bytes += size
        self._busy_ms += now_ms - self._since_ms
        self._since_ms = now_ms
        self.lost(size)
        if self._bytes > FORGET_BYTES:
            self._bytes //= 2
            self._busy_ms //= 2

    def lost(self, size: int) -> None:
        """So many will not arrive."""
        self.outstanding_bytes = max(0, self.outstanding_bytes - size)

    @property
    def known(self) -> bool:
        """Whether enough was measured."""
        return self._bytes >= ENOUGH_BYTES or (self._bytes > 0 and self._busy_ms >= ENOUGH_MS)

    def ms_for(self, size: int) -> int:
        """Return how long so many bytes take."""
        return size * max(self._busy_ms, 1) // max(self._bytes, 1)


class Swarm:
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


class Swarms:
    """The swarms that a hop has begun, or was told of, by image.

    Parameters
    ----------
    address_of
        Where a node below this hop, or the hop itself, accepts neighbours, if that is known.
    """

    def __init__(self, address_of: AddressOf, gain_ms: int = GAIN_MS) -> None:
        self._address_of = address_of
        self._gain_ms = gain_ms
        self.pace = Pace()
        self.by_image: dict[bytes, Swarm] = {}

    def get(self, image: bytes, now_ms: int) -> Swarm | None:
        """Return the swarm of an image."""
        swarm = self.by_image.get(image)
        if swarm is not None and swarm.ended_at_ms is not None and now_ms - swarm.ended_at_ms > KEPT_MS:
            del self.by_image[image]
            return None
        return swarm

    def is_worth_it(self, size: int, children: list[int]) -> bool:
        """Say whether an image of which `size` bytes lack is better not sent to each of these children."""
        if len(children) < TREES or not self.pace.known:
            return False
        hosts = {address[0] for node in children if (address := self._address_of(node)) is not None}
        # Neighbours on one host share its processors and its link: no other way is shorter.
        return len(hosts) >= TREES and self.pace.ms_for(size * (len(children) - 1)) >= self._gain_ms

    def begin(self, image: bytes, members: int, tops: tuple[int, int], now_ms: int) -> Swarm:
        """Have these nodes have the image from each other; `tops` have it from here."""
        return self._add(Swarm(image, members, tops, {}), now_ms)

    def _add(self, swarm: Swarm, now_ms: int) -> Swarm:
        for image in list(self.by_image):
            self.get(image, now_ms)
        self.by_image.pop(swarm.image, None)
        self.by_image[swarm.image] = swarm
        ended = [image for image, other in self.by_image.items() if other.ended_at_ms is not None]
        if len(ended) > MAX_SWARMS:
            del self.by_image[ended[0]]
        return swarm

    def take(self, message: i.Swarm, now_ms: int) -> Swarm:
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
        swarm = self._add(Swarm(message.image, members, (tops[0], tops[1]), addresses), now_ms)
        if former is not None:
            swarm.told.update(former.told)
        return swarm

    def message_for(self, swarm: Swarm, mask: int) -> i.Swarm:
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
                addresses.append(i.Address(node, *address))
        return i.Swarm(swarm.image, NodeSet(swarm.members).ranges(), list(swarm.tops), addresses)

    def address(self, swarm: Swarm, node: int) -> tuple[str, int] | None:
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
