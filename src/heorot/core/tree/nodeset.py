"""Sets of nodes: an immutable set of small integers, kept as the bits of one int.

Splitting a launch among the children of a hop is one ``&`` for each child, whatever the number of nodes.
"""

from __future__ import annotations

from heorot.core.errors import ProtocolError

TYPE_CHECKING = False  # commands start without `typing` and `collections.abc`
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HEAD = -1
"""The head's number in node lists and in the tree; never a member of a `NodeSet`."""
MAX_NODES = 1 << 20
"""No node number reaches this; hostile ranges would otherwise allocate without bound."""


def ranges_in(mask: int) -> list[int]:
    """Return the bits of a mask as flat inclusive ranges ``[first, last, ...]``, ascending."""
    result: list[int] = []
    base = 0
    while mask:
        gap = (mask & -mask).bit_length() - 1
        mask >>= gap
        run = (~mask & (mask + 1)).bit_length() - 1
        result += (base + gap, base + gap + run - 1)
        mask >>= run
        base += gap + run
    return result


def names_of(nodes: Iterable[int]) -> str:
    """Return a list of nodes, of which the head may be one: ``n3``, ``master,n[0-7]``."""
    numbers = set(nodes)
    names = ["master"] if min(numbers, default=0) < 0 else []
    listed = NodeSet.of(sorted(number for number in numbers if number >= 0))
    return ",".join([*names, str(listed)] if listed else names)


class NodeSet:
    """An immutable set of node numbers, 0 <= number < `MAX_NODES`."""

    __slots__ = ("mask",)

    mask: int

    def __init__(self, mask: int = 0) -> None:
        self.mask = mask

    @classmethod
    def of(cls, nodes: Iterable[int]) -> NodeSet:
        """Return the set of the given numbers."""
        numbers = list(nodes)
        # Most sets are one range: no step for each of its numbers.
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return cls.from_ranges((numbers[0], numbers[-1]))
        mask = 0
        # A step costs as much as the set is wide: none for a number that repeats.
        for node in numbers if len(numbers) < 16 else set(numbers):
            if not 0 <= node < MAX_NODES:
                raise ProtocolError(f"node number {node} is outside 0..{MAX_NODES - 1}")
            mask |= 1 << node
        return cls(mask)

    @classmethod
    def from_ranges(cls, ranges: Sequence[int]) -> NodeSet:
        """Return the set of flat inclusive ranges ``[first, last, first, last, ...]``, the form on the wire.

        Raises
        ------
        ProtocolError
            If the list has an odd length or a range is not ascending within the limits.
        """
        if len(ranges) % 2:
            raise ProtocolError("a node set has an odd number of bounds")
        mask = 0
        for index in range(0, len(ranges), 2):
            first, last = ranges[index], ranges[index + 1]
            if not 0 <= first <= last < MAX_NODES:
                raise ProtocolError(f"the node range {first}-{last} is not within 0..{MAX_NODES - 1}")
            mask |= ((1 << (last - first + 1)) - 1) << first
        return cls(mask)

    def ranges(self) -> list[int]:
        """Return flat inclusive ranges ``[first, last, ...]``, ascending."""
        return ranges_in(self.mask)

    def numbers(self) -> list[int]:
        """Return the members, ascending."""
        result: list[int] = []
        ranges = self.ranges()
        for index in range(0, len(ranges), 2):
            result += range(ranges[index], ranges[index + 1] + 1)
        return result

    def __iter__(self) -> Iterator[int]:
        ranges = self.ranges()
        for index in range(0, len(ranges), 2):
            yield from range(ranges[index], ranges[index + 1] + 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, node: int) -> bool:
        return node >= 0 and bool(self.mask >> node & 1)

    def __and__(self, other: NodeSet) -> NodeSet:
        return NodeSet(self.mask & other.mask)

    def __or__(self, other: NodeSet) -> NodeSet:
        return NodeSet(self.mask | other.mask)

    def __sub__(self, other: NodeSet) -> NodeSet:
        return NodeSet(self.mask & ~other.mask)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeSet) and self.mask == other.mask

    def __hash__(self) -> int:
        return hash(self.mask)

    def __str__(self) -> str:
        """Return the folded form: ``n3``, ``n[0-63,70]``, or ``""`` for the empty set."""
        ranges = self.ranges()
        pairs = [(ranges[i], ranges[i + 1]) for i in range(0, len(ranges), 2)]
        parts = [str(first) if first == last else f"{first}-{last}" for first, last in pairs]
        if not parts:
            return ""
        return f"n{parts[0]}" if len(self) == 1 else f"n[{','.join(parts)}]"

    def __repr__(self) -> str:
        return f"NodeSet({str(self) or 'empty'})"
