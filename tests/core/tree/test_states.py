"""The states of links from below, as a head and a relay bring them about."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.machine import LinkOpened, Received
from heorot.core.tree.states import LINK_BELOW
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, NodeRig, hello, placement


def a_relay() -> NodeRig:
    """Return n0, which has a way up."""
    node = NodeRig(0)
    node.attach()
    return node


@pytest.mark.parametrize("make", [lambda: HeadRig(9), a_relay], ids=["head", "relay"])
def test_a_link_goes_all_of_its_way(make: Any) -> None:
    rig = make()
    rig.give(LinkOpened(61, 2))
    link = rig.machine.context.below.by_link[61]
    rig.give(Received(61, hello(2)))
    for node, path in ((2, (0,)), (6, (0, 2))):
        attach = m.Attach(node, 7, "host", 1, placement(node, path), parent=path[-1], order=1)
        rig.give(Received(61, m.Up(node, m.encode(attach))))
    # One of them comes another way, and the other over a newer link.
    rig.give(LinkOpened(62, 3))
    rig.give(Received(62, hello(3)))
    attach = m.Attach(3, 7, "host", 1, placement(3, (0,)), parent=0, order=1)
    rig.give(Received(62, m.Up(3, m.encode(attach))))
    moved = m.Attach(6, 7, "host", 1, placement(6, (0, 3), serial=2), parent=3, order=2)
    rig.give(Received(62, m.Up(6, m.encode(moved))))
    rig.give(LinkOpened(63, 2))
    rig.give(Received(63, hello(2)))
    assert LINK_BELOW.story_of(link) == ("new ─greeted▶ greeted ─reached▶ attached ─reached▶ attached ─ended▶ gone")


def test_a_link_whose_node_has_come_another_way_is_detached_until_it_comes_back() -> None:
    rig = a_relay()
    for number, node in ((61, 2), (62, 3)):
        rig.child(node, number)
        rig.admit(number, node, [0])
    link = rig.machine.context.below.by_link[62]
    sent = m.Attach(3, 7, "host", 1, placement(3, (0, 2), serial=2), parent=2, order=2)
    rig.from_child(61, m.Up(3, m.encode(sent)))
    assert LINK_BELOW.story_of(link) == "new ─greeted▶ greeted ─reached▶ attached ─emptied▶ detached"
    back = m.Attach(3, 7, "host", 1, placement(3, (0,), serial=3), parent=0, order=3)
    rig.from_child(62, m.Up(3, m.encode(back)))
    assert LINK_BELOW.story_of(link).endswith("detached ─reached▶ attached")
