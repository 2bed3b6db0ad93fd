"""How a node comes into the tree, and where the head wants it: payloads that agents and the head exchange."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from heorot.core.wire.base import Count, Message, NodeNumber, Port
from heorot.core.wire.heads import Heads


class Attach(Message, tag=32, frozen=True):
    """A node offers itself to the head through its parent; an `Inventory` follows at once."""

    node: Count
    incarnation: Count
    """Chosen at random by each bpinit; another number means that all processes of the former are gone."""
    host: str
    port: Port
    """Where the agent accepts children."""
    placement: bytes
    """The encoded `SignedPlacement` under which the node attaches; empty: the node asks the head for one."""
    release: str = ""
    agent_pid: Count = 0
    init_pid: Count = 0
    parent: NodeNumber = -1
    """The neighbour through which the node attaches."""
    order: Count = 0
    """Grows with each `Attach` of an incarnation: one that was overtaken by a newer one on another way is ignored."""
    heads: Heads | None = None
    """The heads that the node keeps on its disk; empty also while it is about to keep others; None: it does not
    understand `TellHeads`."""
    host_name: Annotated[str, Meta(max_length=255)] = ""
    """What the node's host calls itself; empty: it does not say."""
    hears_names: bool = False
    """It understands `TellNames`, and wants to know them."""


class SpaceGone(Message, tag=33, frozen=True):
    """The node's bpinit has ended, and with it every process of that incarnation."""

    incarnation: Count


class Place(Message, tag=34, frozen=True):
    """Downward: attach to the last hop of this placement (none: to the head, where you are)."""

    placement: bytes
    """An encoded `SignedPlacement`."""


class Hop(Message, frozen=True):
    """An ancestor and where it accepts children."""

    node: NodeNumber
    host: str
    port: Port


class Placement(Message, frozen=True):
    """The head's word that `node` belongs below each hop of `path` (root first, nearest ancestor last)."""

    cluster: str
    node: Count
    path: list[Hop]
    epoch: Count
    serial: Count
    """Grows with each placement of one head: the newer replaces the older."""
    holder: bytes = b""
    """Which key the node's certificate is for; empty: no registry says."""


class SignedPlacement(Message, tag=35, frozen=True):
    """A `Placement` with the head's Ed25519 signature over `b"heorot placement\\0" + placement`."""

    placement: bytes
    signature: bytes
