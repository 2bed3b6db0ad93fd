"""The names and addresses of nodes, as a head tells them to the nodes; see `heorot.core.node.known_names`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from heorot.core.wire.base import Count, Message, NodeNumber

MAX_NAMED = 8192
"""Nodes of one list, and the head."""
MAX_LIST_BYTES = 4 << 20
"""Of an encoded list that is not compressed."""


class NamedHost(Message, frozen=True):
    """A node or the head: what stands of it in a hosts file."""

    node: NodeNumber
    address: Annotated[str, Meta(min_length=2, max_length=45)]
    """Of IPv4 or IPv6, as text."""
    names: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=4)]
    """The host's own first, if it has one by which it is known; ``n7`` and ``master`` last."""


class NameList(Message, frozen=True):
    """All nodes whose addresses the head knows, up or not, in the order of their numbers."""

    cluster: str
    epoch: Count
    """Of the head that says so."""
    revision: Count
    """Grows with each list of one head: of two lists, the one with the higher epoch and revision is newer."""
    hosts: Annotated[list[NamedHost], Meta(max_length=MAX_NAMED)]


class TellNames(Message, tag=39, frozen=True):
    """Downward: these are the names. Only to nodes whose `Attach` says that they want to know, when they attach and
    when something has changed, at most once a second."""

    listing: bytes
    """An encoded `NameList`, compressed (RFC 1950): what signs it says where it comes from, before it is opened."""
    signature: bytes
    """Ed25519 over `b"heorot names\\0" + listing`."""
