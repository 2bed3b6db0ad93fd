"""What the nodes of one job tell each other at a barrier of its ranks: gathered on its way up, scattered on its way
down.

The barriers of a job are numbered from 0 by *generation*. What a node has to say in one is always the same, so that all
of it may be said again: with an inventory, on another way, or to another head.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from heorot.core.wire.base import Count, JobId, Message

MAX_PARTS = 65_536


class Gathered(Message, tag=20, frozen=True):
    """Upward: all ranks of these nodes wait in a barrier. Relays merge them. Also sent by bpinit to its agent."""

    job: JobId
    generation: Count
    nodes: list[int]
    """Flat ranges: first, last."""
    entries: list[bytes]
    """Flat: key, value. What the ranks there have put since the last barrier."""


class Scattered(Message, tag=61, frozen=True):
    """All ranks of the job wait in this barrier: it opens when all parts of what they have put are there."""

    job: JobId
    generation: Count
    part: Count
    parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    entries: list[bytes]
    """Flat: key, value."""


class Collective(Message, frozen=True):
    """How far the ranks of a node have come with the barriers of their job; a part of its inventory."""

    generation: Count
    """Through so many barriers they have come."""
    waits: bool
    """And they wait in the next one, in which the node says ..."""
    entries: list[bytes]
    """... this."""
    former: list[bytes]
    """What it has said in the last one: other nodes may not have come through that."""
