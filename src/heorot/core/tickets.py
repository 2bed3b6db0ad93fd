"""What the head signs: launch tickets, placements, the lists of heads and of names. Pure: the signature is a callable.

The word in front of the signed bytes keeps one kind from being passed off as the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.tree import (
    MAX_LIST_BYTES,
    HeadList,
    Launch,
    NameList,
    Placement,
    SignedPlacement,
    TellHeads,
    TellNames,
    Ticket,
    decode_head_list,
    decode_name_list,
    decode_placement,
    decode_signed_placement,
    decode_ticket,
    encode,
)

Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[bytes, bytes], bool]
"""``verify(data, signature)``."""

TICKET_VALIDITY_MS = 60_000
CLOCK_TOLERANCE_MS = 300_000
"""How far the clocks of head and node may differ; a ticket is refused outside of its validity and this tolerance."""

_TICKET_DOMAIN = b"heorot ticket\0"
_PLACEMENT_DOMAIN = b"heorot placement\0"
_HEADS_DOMAIN = b"heorot heads\0"
_NAMES_DOMAIN = b"heorot names\0"


def seal_ticket(sign: Sign, ticket: Ticket) -> Launch:
    """Encode and sign a ticket."""
    encoded = encode(ticket)
    return Launch(encoded, sign(_TICKET_DOMAIN + encoded), ticket.job, gathers=ticket.spec.pmi)


def renewed(ticket: Ticket, epoch: int, wall_ms: int, attended: bool, refused: str) -> Ticket:
    """Return a ticket as the head of this epoch gives it now, to be sealed again."""
    return replace(
        ticket,
        epoch=epoch,
        issued_at_ms=wall_ms,
        expires_at_ms=wall_ms + TICKET_VALIDITY_MS,
        attended=attended,
        refused=refused,
    )


def open_launch(verify: Verify, launch: Launch, *, cluster: str, wall_ms: int) -> Ticket:
    """Return the ticket of a launch after checking everything that a node must check.

    Raises
    ------
    SecurityError
        If the signature, the cluster or the validity is wrong; the text is for people.
    ProtocolError
        If the signed bytes are no ticket.
    """
    ticket = open_signed_launch(verify, launch, cluster=cluster)
    problem = clock_problem(ticket, wall_ms)
    if problem:
        raise SecurityError(problem)
    return ticket


def open_signed_launch(verify: Verify, launch: Launch, *, cluster: str) -> Ticket:
    """Return the ticket of a launch after checking who has issued it, but not when. Raises as `open_launch`."""
    if not verify(_TICKET_DOMAIN + launch.ticket, launch.signature):
        raise SecurityError("the launch is not signed by this cluster's head")
    ticket = decode_ticket(launch.ticket)
    if ticket.cluster != cluster:
        raise SecurityError(f"the launch is for the cluster {ticket.cluster!r}, not for {cluster!r}")
    return ticket


def clock_problem(ticket: Ticket, wall_ms: int) -> str:
    """Return why a ticket must start nothing at this time, for people; empty if it may."""
    if ticket.issued_at_ms - CLOCK_TOLERANCE_MS <= wall_ms <= ticket.expires_at_ms + CLOCK_TOLERANCE_MS:
        return ""
    difference_s = (wall_ms - ticket.issued_at_ms) // 1000
    return f"the launch has expired: this node's clock is {difference_s} s off the head's; synchronise the clocks"


def seal_placement(sign: Sign, placement: Placement) -> bytes:
    """Return the encoded `SignedPlacement`."""
    encoded = encode(placement)
    return encode(SignedPlacement(encoded, sign(_PLACEMENT_DOMAIN + encoded)))


def open_placement(verify: Verify, payload: bytes, *, cluster: str, node: int) -> Placement:
    """Return the placement of `node` after checking its signature, cluster and node.

    Raises
    ------
    SecurityError
        If it was not signed by this cluster's head, or is for another node or cluster.
    ProtocolError
        If the bytes are no placement.
    """
    signed = decode_signed_placement(payload)
    if not verify(_PLACEMENT_DOMAIN + signed.placement, signed.signature):
        raise SecurityError(f"the placement of n{node} is not signed by this cluster's head")
    placement = decode_placement(signed.placement)
    if placement.cluster != cluster or placement.node != node:
        raise SecurityError(f"the placement is for n{placement.node} of {placement.cluster!r}, not for n{node}")
    return placement


def shown_epoch(payload: bytes) -> int:
    """Return the epoch of a placement that somebody shows, unverified; 0 if it shows none."""
    try:
        return decode_placement(decode_signed_placement(payload).placement).epoch if payload else 0
    except ProtocolError:
        return 0


def seal_heads(sign: Sign, listing: HeadList) -> TellHeads:
    """Encode and sign a list of heads."""
    encoded = encode(listing)
    return TellHeads(encoded, sign(_HEADS_DOMAIN + encoded))


def open_heads(verify: Verify, sealed: TellHeads, *, cluster: str) -> HeadList:
    """Return a list of heads after checking its signature and cluster.

    Raises
    ------
    SecurityError
        If it was not signed by this cluster's head, or is for another cluster.
    ProtocolError
        If the bytes are no such list.
    """
    if not verify(_HEADS_DOMAIN + sealed.listing, sealed.signature):
        raise SecurityError("the list of heads is not signed by this cluster's head")
    listing = decode_head_list(sealed.listing)
    if listing.cluster != cluster:
        raise SecurityError(f"the list of heads is of the cluster {listing.cluster!r}, not of {cluster!r}")
    return listing


def seal_names(sign: Sign, listing: NameList) -> TellNames:
    """Encode, compress and sign a list of names."""
    compressed = zlib.compress(encode(listing))
    return TellNames(compressed, sign(_NAMES_DOMAIN + compressed))


def open_names(verify: Verify, sealed: TellNames, *, cluster: str) -> NameList:
    """Return a list of names after checking its signature and cluster.

    Raises
    ------
    SecurityError
        If it was not signed by this cluster's head, or is for another cluster.
    ProtocolError
        If the bytes are no such list.
    """
    if not verify(_NAMES_DOMAIN + sealed.listing, sealed.signature):
        raise SecurityError("the list of names is not signed by this cluster's head")
    try:
        encoded = zlib.decompressobj().decompress(sealed.listing, MAX_LIST_BYTES)
    except zlib.error as error:
        raise ProtocolError(f"not a valid list of names: {error}") from error
    listing = decode_name_list(encoded)
    if listing.cluster != cluster:
        raise SecurityError(f"the list of names is of the cluster {listing.cluster!r}, not of {cluster!r}")
    return listing
