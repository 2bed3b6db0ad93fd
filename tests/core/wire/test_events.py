"""Which events are kept."""

from __future__ import annotations

from heorot.core.wire.events import MAX_EVENTS, ClusterEvent, latest


def test_the_latest_are_kept_in_order_whatever_the_order_in_which_they_came() -> None:
    events = [ClusterEvent(epoch, number, 0, "up") for epoch in (2, 1) for number in range(MAX_EVENTS, 0, -1)]
    kept = latest({event.order: event for event in events})
    assert kept == sorted(events, key=lambda event: event.order)[-MAX_EVENTS:]
    assert kept[0].order == (2, 1)
