"""The list of the cluster's heads, as a head tells it to the nodes; see `heorot.core.node.known_heads`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from heorot.core.wire.base import Count, Message, Port

MAX_HEADS = 32
"""Of one cluster."""


class HeadAddress(Message, frozen=True):
    """One head, and where it accepts nodes."""

    name: Annotated[str, Meta(max_length=64)]
    """Empty: only its address is known."""
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Port


Heads = Annotated[list[HeadAddress], Meta(max_length=MAX_HEADS)]


class HeadList(Message, frozen=True):
    """All heads of the cluster, as the active one knows them."""

    cluster: str
    epoch: Count
    """Of the head that says so."""
    revision: Count
    """Grows with each list of one head: of two lists, the one with the higher epoch and revision is newer."""
    heads: Heads


class TellHeads(Message, tag=36, frozen=True):
    """Downward: these are the heads; keep that. Answered by `HeadsKept`. Only to nodes whose `Attach` says that they
    understand it.
    """

    listing: bytes
    """An encoded `HeadList`."""
    signature: bytes
    """Ed25519 over `b"heorot heads\\0" + listing`."""


class Barred(Message, tag=38, frozen=True):
    """Downward: these nodes, and no others, were removed from the cluster: let none of them in, nor through.

    It holds until the node that is told attaches again, and is told again if it must be. Only to nodes that understand
    `TellHeads`, which are of the same release.
    """

    nodes: list[int]
    """Flat ranges: first, last."""
    former: list[tuple[int, bytes]] = field(default_factory=list)
    """Nor these: numbers that were given anew, and the keys of those who had them before."""


class HeadsKept(Message, tag=37, frozen=True):
    """Upward: this list is on the node's disk."""

    epoch: Count
    revision: Count
