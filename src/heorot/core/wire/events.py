"""What has happened to the cluster, as administrators read it: who led, which nodes came and went, what was set."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from heorot.core.wire.base import Count, Message

MAX_EVENTS = 1_000
"""So many are kept, the latest."""
MAX_TEXT = 300
LED, JOINED, UP, DOWN, REMOVED, SET = WHAT = ("led", "joined", "up", "down", "removed", "set")


class ClusterEvent(Struct, frozen=True, gc=False):
    """Something that has happened; on the wire, and so in JSON, a map of these names."""

    epoch: int
    """Of the head that tells it, and ..."""
    sequence: int
    """... which of its events it is: of two the later one has the greater pair."""
    at_ms: int
    """When, since 1970; of several nodes, the first."""
    what: str
    """One of `WHAT`: a head leads, hosts have joined as nodes, nodes are up, down or removed, nodes were set."""
    nodes: str = ""
    """A node list."""
    by: str = ""
    """Who has set them; of `LED`, the head."""
    text: str = ""
    """For people."""

    @property
    def order(self) -> tuple[int, int]:
        """What tells which of two is the later one."""
        return self.epoch, self.sequence


class KeepEvents(Struct, frozen=True, gc=False):
    """Instruction to a head's shell: put these into the store. It may fail, and is not answered."""

    events: tuple[ClusterEvent, ...]


class TellSite(Struct, frozen=True, gc=False):
    """Instruction to a head's shell: run the site's hook for each of these changes, in order; it is not answered."""

    changes: tuple[tuple[str, str, str], ...]
    """A node list, what these nodes were shown as before, and what they are now."""


class ListEvents(Message, tag="events", frozen=True):
    """Answered by `Result` with a list of `ClusterEvent`, the oldest first."""

    request: Count
    after: Annotated[list[int], Meta(min_length=2, max_length=2)]
    """Only those that are later than the one of this epoch and sequence; 0, 0: all that are kept."""


def latest(events: dict[tuple[int, int], ClusterEvent]) -> list[ClusterEvent]:
    """Return those that are kept of these, in order."""
    return [events[order] for order in sorted(events)[-MAX_EVENTS:]]
