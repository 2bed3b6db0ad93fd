"""The warden's patience with daemons that end again and again."""

from __future__ import annotations

from heorot.core.head.context import HeadConfig
from heorot.embedded import warden


def test_no_pause_costs_a_node_its_jobs() -> None:
    grace_s = HeadConfig("c", "h0", "1", 1, "127.0.0.1", 1).node_grace_ms / 1000
    pauses = [warden._pause(ends) for ends in range(100)]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= grace_s / 2
