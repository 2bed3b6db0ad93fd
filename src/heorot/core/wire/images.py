"""Link messages that carry images (`heorot.core.images.manifest`) from neighbour to neighbour; tags 10 to 17 and 19 of
the link.

A node that lacks something asks its parent (`Want`), which sends what it has and asks for the rest itself. Nothing is
sent that was not asked for, and of one image no more than a window that was not acknowledged (`Took`).

A head that has an image from nobody else asks its children, with the same messages the other way. A child sends its
parent only an image that it has all of, and never asks anybody for it: so nobody waits in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence

from heorot.core.wire.base import Chunk, Count, ImageId, Message, NodeNumber, Port


class Want(Message, tag=10, frozen=True):
    """Send me this of an image, too, in ascending order, as soon as you have it; with neither manifest nor chunks: send
    no more of it."""

    image: ImageId
    manifest: bool
    chunks: list[int]
    """Flat ranges: first, count."""
    doubt: bool = False
    """What you sent was not what it should be: check what you have before you send it again."""
    direct: bool = False
    """If you lack it, have it from your parent, not from a peer: there is no ring on the way to the head."""
    swarms: bool = False
    """The sender understands `Swarm`, and may be answered by it."""
    plan: bytes = b""
    """The `heorot.core.images.swarms.SwarmHere.plan` that the sender follows; empty: none."""
    origin: int = -1
    """The node below the sender that asks for it; -1: the sender itself; -2 - N: the peers of node N. See
    `heorot.core.images.shares`."""
    store: bytes = b""
    """The store that the sender's cache shares with others of its host (`heorot.images.shared`): whoever has the same
    may answer `Stored`. Empty: it shares none, or what it was told of was not there."""


class ImageManifest(Message, tag=11, frozen=True):
    """An image's encoded manifest."""

    image: ImageId
    data: bytes


class Piece(Message, tag=12, frozen=True):
    """Consecutive chunks of an image."""

    image: ImageId
    first: Count
    chunks: Sequence[Chunk]


class Stored(Message, tag=19, frozen=True):
    """In place of each `Piece`, and with nothing to acknowledge: these chunks are in the store that we share."""

    image: ImageId
    chunks: list[int]
    """Flat ranges: first, count."""


class Took(Message, tag=13, frozen=True):
    """So many more bytes of an image's chunks were taken: the sender may send as many again."""

    image: ImageId
    size_bytes: Count


class Unavailable(Message, tag=14, frozen=True):
    """The sender cannot give what was asked for of this image."""

    image: ImageId
    text: str
    """Why, for people."""


class KeepImage(Message, tag=16, frozen=True):
    """From the head to a child whose `Hello` says that it keeps images: have all of this one, answer `ImageKept`, and
    keep it for the next head."""

    image: ImageId
    keep: bool = True
    """False: it is needed no longer."""


class ImageKept(Message, tag=17, frozen=True):
    """Upward: all of an image that the sender was asked to keep is in its cache."""

    image: ImageId
    error: str = ""
    """Or it cannot be, and this is why; then it is not kept."""


class PeerAddress(Message, frozen=True):
    """Where a node accepts neighbours."""

    node: NodeNumber
    host: str
    port: Port


class Swarm(Message, tag=15, frozen=True):
    """Downward: from now on have this image from each other (`heorot.core.images.two_trees`), not from me."""

    image: ImageId
    members: list[int]
    """Flat inclusive ranges of nodes."""
    tops: list[NodeNumber]
    """Who are the roots of the trees: they have it from above, as before."""
    addresses: list[PeerAddress]
    """Of the members that send to those for whom this message is, as far as these cannot know them."""
