"""Who is admitted below a node, and for whom a child may speak."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.machine import LinkOpened, Received
from heorot.core.wire import tree as m
from tests.core.rigs import LEFT, RIGHT, NodeRig, hello, placement, relay


def test_a_child_that_the_head_did_not_place_here_is_refused() -> None:
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.looked()
    node.admit(LEFT, 2, [1])
    assert [message.code for message in node.to(LEFT)] == ["not-placed-here"]
    assert node.closed(LEFT)
    assert node.to(node.uplink) == []


def test_a_child_without_a_placement_is_refused() -> None:
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.looked()
    node.from_child(LEFT, m.Up(2, m.encode(m.Attach(2, 7, "host2", 1, b""))))
    assert node.closed(LEFT)


@pytest.mark.parametrize("fields", [14, 15, 70_000])
def test_a_child_of_a_later_release_with_more_fields_is_admitted(fields: int) -> None:
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.looked()
    attach = msgspec.msgpack.decode(m.encode(m.Attach(2, 7, "host2", 1, placement(2, [0]), parent=0, order=1)))
    payload = msgspec.msgpack.encode([*attach, *[None] * (1 + fields - len(attach))])
    node.from_child(LEFT, m.Up(2, payload))
    assert [up.payload for up in node.to(node.uplink)] == [payload]


def test_a_child_cannot_hide_from_its_parent_that_a_node_attaches() -> None:
    node = relay()
    attach = m.encode(m.Attach(2, 7, "host2", 1, b"", parent=0, order=2))
    node.from_child(LEFT, m.Up(2, attach[:1] + b"\xcc" + attach[1:]))
    assert node.closed(LEFT)
    assert not [up for up in node.to(node.uplink) if isinstance(up, m.Up)]


def test_what_has_no_tag_is_refused_and_not_dropped_in_silence() -> None:
    node = relay()
    with pytest.raises(ProtocolError, match="without a tag"):
        node.from_child(LEFT, m.Up(2, b"\xc0"))


def test_a_node_stays_admitted_when_its_ancestor_moves_below_another_one() -> None:
    # n6 was placed below n2 when n2 stood directly below the head; then n2 came below n0.
    node = NodeRig(0)
    node.attach()
    node.child(2, LEFT)
    node.admit(LEFT, 2, [0])
    node.looked()
    node.admit(LEFT, 6, [2], parent=2)
    assert [up.node for up in node.to(node.uplink)] == [6]


def test_a_child_may_not_offer_a_node_that_belongs_below_another_one() -> None:
    node = relay()
    node.admit(RIGHT, 7, [0, 2], parent=3)
    assert node.to(node.uplink) == []


def test_an_attachment_that_was_overtaken_on_another_way_is_ignored() -> None:
    node = relay()
    node.child(6, 53)
    node.admit(53, 6, [0, 2], order=9)
    node.looked()
    node.admit(LEFT, 6, [0, 2], order=5, parent=2)
    node.from_child(LEFT, m.Detached([6, 6]))
    assert node.to(node.uplink) == []
    node.down([6], m.Attend("1.1", True))
    assert len(node.to(53)) == 1


def test_no_order_keeps_a_node_out_once_the_way_that_it_came_on_is_gone() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=1 << 62, parent=3)
    node.from_child(RIGHT, m.Detached([6, 6]))
    node.looked()
    node.admit(LEFT, 6, [0, 2], order=9, parent=2)
    node.down([6], m.Attend("1.1", True))
    assert len(node.to(LEFT)) == 1


def test_a_newer_placement_counts_whatever_order_a_child_has_said() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=1 << 62, parent=3)
    node.looked()
    moved = m.Attach(6, 7, "host6", 1, placement(6, [0, 2], serial=2), parent=2, order=9)
    node.from_child(LEFT, m.Up(6, m.encode(moved)))
    node.down([6], m.Attend("1.1", True))
    assert len(node.to(LEFT)) == 1


def test_a_word_that_nodes_are_gone_does_not_count_after_they_have_come_another_way() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=2, parent=3)
    node.looked()
    node.from_child(LEFT, m.Detached([6, 6]))
    assert node.to(node.uplink) == []


def test_what_a_moved_node_says_on_its_former_way_is_dropped() -> None:
    node = relay()
    node.admit(RIGHT, 6, [0, 3], order=2, parent=3)
    node.looked()
    node.from_child(LEFT, m.Up(6, m.encode(m.Inventory(7, []))))
    assert node.to(node.uplink) == []


def test_a_child_that_counts_otherwise_twice_attaches_again() -> None:
    node = relay()
    for _ in range(2):
        node.from_child(LEFT, m.Ping(4))
    assert [type(message) for message in node.to(LEFT)] == [m.Pong, m.Pong, m.Reattached]


def test_a_newer_link_of_a_child_replaces_the_older_one() -> None:
    node = relay()
    node.child(3, 54)
    assert node.closed(RIGHT)
    assert [message.nodes for message in node.to(node.uplink)] == [[3, 3]]


def test_a_peer_that_comes_again_replaces_its_former_link_and_not_the_childs() -> None:
    node = relay()
    for link in (60, 61):
        node.give(LinkOpened(link, 2))
        node.give(Received(link, replace(hello(2), peer=True)))
    assert [type(message) for message in node.to(61)] == [m.Hello]
    assert node.closed(60)
    assert not node.closed(LEFT)
    node.child(2, 62)
    assert node.closed(LEFT)
    assert not node.closed(61)
