"""What has happened, on the disks of heads' hosts: all of it comes together, the latest are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from heorot.core.errors import SecurityError
from heorot.core.wire.events import MAX_EVENTS, ClusterEvent
from heorot.security.events import EventFile


def event(epoch: int, sequence: int) -> ClusterEvent:
    return ClusterEvent(epoch, sequence, 1000 * epoch + sequence, "set", "n0", "root", "state drain: é")


def test_the_latest_of_all_heads_are_kept(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.put([event(2, 1), event(1, 5)])
    file.put([event(1, 6)])
    assert list(EventFile(tmp_path).content()) == [(1, 5), (1, 6), (2, 1)]
    file.put(event(3, number) for number in range(MAX_EVENTS))
    assert list(file.content()) == [(3, number) for number in range(MAX_EVENTS)]
    assert file.content()[3, 0] == event(3, 0)


def test_a_damaged_list_says_what_to_do(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.path.write_text('{"version": 1, "events": [{"epoch": "x"}]}')
    with pytest.raises(SecurityError, match=r"events.json is damaged; remove it"):
        file.content()
