"""Which attachment a relay and a head take: neighbours below may have been broken into, or be of another fan-out."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import LinkClosed, Log, Received, TimerFired
from heorot.core.tickets import seal_placement
from heorot.core.timers import AwakeDue
from heorot.core.tree.below_attachments import DOUBT_MS, DoubtDue
from heorot.core.wire import tree as m
from tests.core.rigs import CLUSTER, LEFT, RIGHT, HeadRig, NodeRig, placement, relay, sign

OWN = 53
"""The own link of n6, which also belongs below n2 and n3."""


def offer(node: NodeRig, link: int, placed: bytes, order: int = 1 << 62, incarnation: int = 7) -> None:
    """Let a child say that n6 attaches through it."""
    attach = m.Attach(6, incarnation, "elsewhere", 1, placed, parent=2, order=order)
    node.from_child(link, m.Up(6, m.encode(attach)))


def way_of(node: NodeRig) -> list[int]:
    """Return the links on which a command for n6 goes down."""
    node.looked()
    node.down([6], m.Attend("1.1", True))
    links = [link for link in (LEFT, RIGHT, OWN) if node.to(link)]
    node.looked()
    return links


def with_own_link() -> NodeRig:
    """Return a relay to which n6 is attached directly, since its parent was away."""
    node = relay()
    node.child(6, OWN)
    node.admit(OWN, 6, [0, 2], order=9)
    assert way_of(node) == [OWN]
    return node


def test_an_older_placement_does_not_replace_a_way_that_stands_at_a_relay() -> None:
    node = relay()
    moved = m.Attach(6, 7, "host6", 1, placement(6, [0, 3], serial=2), parent=3, order=2)
    node.from_child(RIGHT, m.Up(6, m.encode(moved)))
    assert way_of(node) == [RIGHT]
    offer(node, LEFT, placement(6, [0, 2]))
    assert way_of(node) == [RIGHT]


def test_a_relay_believes_a_nodes_own_link_before_another_child() -> None:
    node = with_own_link()
    offer(node, LEFT, placement(6, [0, 2]))
    assert [type(message) for message in node.to(OWN)] == [m.Reattached]
    assert not [up for up in node.to(node.uplink) if isinstance(up, m.Up)]
    assert way_of(node) == [OWN]
    # It answers, and that is all.
    node.admit(OWN, 6, [0, 2], order=10)
    node.now += DOUBT_MS
    node.give(TimerFired(DoubtDue(6)))
    assert not node.closed(OWN)
    assert way_of(node) == [OWN]


def test_a_node_whose_own_link_is_silent_or_gone_comes_through_the_other_child() -> None:
    for is_gone in (False, True):
        node = with_own_link()
        offer(node, LEFT, placement(6, [0, 2]), order=10)
        if is_gone:
            node.looked()
            node.give(LinkClosed(OWN, "cut"))
        else:
            for _ in range(2):
                node.now += DOUBT_MS // 2
                node.give(TimerFired(AwakeDue()))
            node.looked()
            node.give(TimerFired(DoubtDue(6)))
            assert node.closed(OWN)
        assert [type(message) for message in node.to(LEFT)] == [m.Reattached]
        offer(node, LEFT, placement(6, [0, 2]), order=11)
        assert way_of(node) == [LEFT]


def test_a_node_that_a_head_has_just_sent_below_another_child_is_taken_there_at_once() -> None:
    node = with_own_link()
    offer(node, LEFT, placement(6, [0, 2], serial=2), order=10)
    assert way_of(node) == [LEFT]


def test_no_order_that_a_child_invents_keeps_the_node_itself_out() -> None:
    node = relay()
    offer(node, RIGHT, placement(6, [0, 3]))
    assert way_of(node) == [RIGHT]
    node.child(6, OWN)
    node.admit(OWN, 6, [0, 2], order=9)
    assert way_of(node) == [OWN]


def test_a_placement_of_a_former_holder_of_the_number_is_not_taken_by_a_relay() -> None:
    node = relay()
    node.down([0], m.Barred([], [(6, b"former")]))
    hops = [m.Hop(hop, "host", 1) for hop in (0, 3)]
    for holder in (b"former", b""):
        offer(node, RIGHT, seal_placement(sign, m.Placement(CLUSTER, 6, hops, 1, 5, holder)))
        assert way_of(node) == [LEFT]
    offer(node, RIGHT, seal_placement(sign, m.Placement(CLUSTER, 6, hops, 1, 5, b"present")))
    assert way_of(node) == [RIGHT]


def test_a_child_that_offers_a_node_without_end_does_not_fill_a_relays_log() -> None:
    node = relay()
    for order in range(9):
        node.admit(RIGHT, 7, [0, 2], order=order, parent=3)
    node.down([0], m.Barred([6, 6]))
    for order in range(9):
        node.admit(RIGHT, 6, [0, 3], order=order, parent=3)
    assert [item.level for item in node.sent if isinstance(item, Log) and item.level != "debug"] == ["info", "info"]


@pytest.mark.parametrize("placed", [b"", b"nonsense", placement(2, [0]), placement(6, [0, 2])[:-1] + b"?"])
def test_who_offers_a_node_without_a_signed_placement_may_not_speak_for_it(placed: bytes) -> None:
    node = relay()
    with pytest.raises(ProtocolError, match="n3 may not speak for n6"):
        offer(node, RIGHT, placed)
    assert way_of(node) == [LEFT]


def test_a_node_that_attaches_as_another_one_breaks_the_protocol_at_both() -> None:
    attach = m.encode(m.Attach(3, 7, "host", 1, placement(3, [0]), parent=0, order=1))
    node = relay()
    with pytest.raises(ProtocolError, match="n2 attaches as n3"):
        node.from_child(LEFT, m.Up(2, attach))
    head = HeadRig(4)
    head.attach(2)
    with pytest.raises(ProtocolError, match="n2 attaches as n3"):
        head.give(Received(head.links[2], m.Up(2, attach)))


def test_a_head_with_another_fan_out_takes_nodes_where_the_former_one_has_placed_them() -> None:
    # n6 was below n2 and n0 with a fan-out of 2. With 3 it belongs below n1.
    head = HeadRig(8, fanout=3, epoch=2)
    head.attach(0)
    head.attach(2, below=[0], placed_in=1)
    head.attach(6, below=[0, 2], placed_in=1)
    assert head.machine.members.records[6].link == head.links[0]
    assert head.machine.members.up.numbers() == [0, 2, 6]
