"""What nodes say at barriers, on the wire."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.wire import tree as m


def test_words_at_barriers_travel() -> None:
    gathered = m.Gathered("1.1", 3, [0, 5], [b"a", b"1"])
    assert m.decode_link(m.encode(gathered)) == m.decode_space_answer(m.encode(gathered)) == gathered
    scattered = m.Scattered("1.1", 3, 0, 1, [b"a", b"1"])
    assert m.decode_head_command(m.encode(scattered)) == m.decode_space_command(m.encode(scattered)) == scattered


def test_an_inventory_of_an_older_release_has_no_barriers() -> None:
    item = m.JobInventory("1.1", [], [], [], 0, collective=m.Collective(1, True, [b"a", b"1"], []))
    inventory = m.Inventory(7, [item])
    assert m.decode_node_payload(m.encode(inventory)) == inventory
    assert m.JobInventory("1.1", [], [], [], 0).collective is None


def test_there_are_no_messages_of_no_parts() -> None:
    with pytest.raises(ProtocolError):
        m.decode_head_command(m.encode(m.Scattered("1.1", 0, 0, 0, [])))
