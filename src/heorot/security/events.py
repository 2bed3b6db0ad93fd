"""What has happened to the cluster, on the disk of each head's host: the latest events that heads have told.

One JSON file, ``DIR/events.json``; see `heorot.security.records`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from heorot.core.wire.events import ClusterEvent, latest
from heorot.security.records import Fields, RecordFile

EventRecords = dict[tuple[int, int], ClusterEvent]
"""By epoch and sequence, in order."""


class EventFile(RecordFile[EventRecords]):
    """Reads and changes them."""

    name = "events.json"
    what = "the list of events"
    remedy = "remove it"

    def empty(self) -> EventRecords:
        """See `heorot.security.records.RecordFile`."""
        return {}

    def merge(self, ours: EventRecords, theirs: EventRecords) -> EventRecords:
        """See `heorot.security.records.RecordKind`. What one head has told is never told otherwise by another."""
        return {event.order: event for event in latest({**theirs, **ours})}

    def fields(self, content: EventRecords) -> dict[str, Any]:
        """See `heorot.security.records.RecordKind`."""
        return {"events": [msgspec.to_builtins(content[order]) for order in sorted(content)]}

    def parse(self, fields: Fields) -> EventRecords:
        """See `heorot.security.records.RecordKind`. An earlier release shares none."""
        try:
            events = msgspec.convert(fields.get("events", ()), list[ClusterEvent])
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a list of events: {error}") from error
        return {event.order: event for event in sorted(events, key=lambda one: one.order)}

    def put(self, events: Iterable[ClusterEvent]) -> None:
        """Enter these; the lock of the token store is held. Raises SecurityError or OSError."""
        self.take(self.merge(self.content(), {event.order: event for event in events}))
