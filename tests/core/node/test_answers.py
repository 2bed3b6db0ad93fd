"""What a process space says goes up as it is, and no further than there is a way."""

from __future__ import annotations

import msgspec

from heorot.core.machine import (
    FromSpace,
    Send,
    SendEncoded,
)
from heorot.core.wire import tree as m
from heorot.core.wire.tags import LAST_ANSWER_TAG
from tests.core.rigs import NodeRig


def test_output_waits_for_everything_else() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.give(FromSpace(m.encode(m.Output("1.1", 0, 1, 0, b"x"))))
    node.give(FromSpace(m.encode(m.StdinAck("1.1", 5))))
    assert [item.bulk for item in node.sent if isinstance(item, Send)] == [True, False]


def test_an_answer_of_a_later_release_goes_up_as_it_is() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    payload = msgspec.msgpack.encode([LAST_ANSWER_TAG, "of tomorrow"])
    node.give(FromSpace(payload))
    assert node.to(node.uplink) == [m.Up(0, payload)]


def test_a_leaf_passes_on_a_report_as_the_very_bytes_that_it_was_given() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    payload = m.encode(m.Report("1.1", [0, 0, 77], [], [], 1))
    node.give(FromSpace(payload))
    assert node.sent == [SendEncoded(node.uplink, payload)]


def test_what_is_said_without_a_way_up_is_dropped() -> None:
    node = NodeRig(0)
    node.looked()
    for answer in (m.StdinAck("1.1", 5), m.Report("1.1", [0, 0, 77], [], [], 1)):
        node.give(FromSpace(m.encode(answer)))
    assert node.sent == []
