"""The head as the root of the tree: who stands where, who may speak for whom."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.timers import RebalanceDue
from heorot.core.machine import CloseLink, LinkOpened, Received, Send
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, hello, placement


def placed(head: HeadRig) -> list[tuple[str, list[int]]]:
    """Return where the head sent which nodes."""
    found = []
    for nodes, place in head.commands(m.Place):
        signed = m.decode_signed_placement(place.placement)
        found.append((nodes, [hop.node for hop in m.decode_placement(signed.placement).path]))
    return found


def test_a_new_node_is_sent_below_its_ideal_parent() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(0)
    head.looked()
    head.attach(2)
    assert placed(head) == [("n2", [0])]


def test_nodes_that_a_missing_parent_left_to_the_head_go_back_to_it() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(0)
    head.attach(2, below=[0])
    head.close(0)
    head.attach(2)
    head.attach(0)
    head.looked()
    head.wait(1_000, RebalanceDue())
    assert placed(head) == [("n2", [0])]


def launching_to_a_misplaced_node() -> HeadRig:
    """Return a head at which n2 stands though it belongs below n0, with a launch on its way to it."""
    head = HeadRig(6, fanout=2)
    head.attach(0)
    head.attach(2, below=[0])
    head.client()
    head.spawn("n2")
    head.close(0)
    head.attach(2)
    head.attach(0)
    head.looked()
    return head


def test_a_node_is_not_moved_while_a_launch_is_on_its_way_to_it() -> None:
    head = launching_to_a_misplaced_node()
    head.wait(1_000, RebalanceDue())
    assert placed(head) == []
    head.report(2, "1.1", started=[0, 100])
    head.wait(1_000, RebalanceDue())
    assert placed(head) == [("n2", [0])]


def test_a_launch_that_never_arrives_does_not_keep_a_node_from_its_place() -> None:
    head = launching_to_a_misplaced_node()
    for _ in range(31):
        assert placed(head) == []
        head.wait(1_000, RebalanceDue())
    assert placed(head) == [("n2", [0])]


def test_a_node_is_not_moved_while_a_launch_is_on_its_way_through_it() -> None:
    head = HeadRig(14, fanout=2)
    head.attach(0)
    head.attach(2, below=[0])
    head.attach(6, below=[0, 2])
    head.client()
    head.spawn("n6")
    head.close(0)
    head.attach(2)
    head.attach(6, below=[2])
    head.attach(0)
    head.looked()
    head.wait(1_000, RebalanceDue())
    assert placed(head) == []
    head.give(Received(head.links[2], m.Report("1.1", [6, 0, 100], [], [])))
    head.wait(1_000, RebalanceDue())
    assert ("n2", [0]) in placed(head)


def test_each_head_places_a_node_once_so_that_it_refuses_former_heads() -> None:
    head = HeadRig(6, fanout=2, epoch=3)
    head.attach(0)
    head.looked()
    head.attach(2, below=[0], placed_in=2)
    head.attach(2, below=[0])
    head.wait(1_000, RebalanceDue())
    assert placed(head) == [("n2", [0])]


def test_a_node_that_comes_before_what_its_parent_holds_is_placed_once_the_parent_is_up() -> None:
    head = HeadRig(6, fanout=2, epoch=3)
    link = head.connect(0)
    head.up(0, m.Attach(0, 7, "host0", 1, b""), link)
    head.attach(2, below=[0], placed_in=2)
    head.up(0, m.Inventory(7, []), link)
    assert placed(head) == []
    head.wait(1_000, RebalanceDue())
    head.wait(1_000, RebalanceDue())
    assert placed(head) == [("n2", [0])]


def test_a_node_that_has_not_received_its_placement_is_placed_again() -> None:
    head = HeadRig(6, fanout=2, epoch=3)
    head.attach(0)
    head.attach(2, below=[0], placed_in=2)
    head.looked()
    shown = placement(2, [0], epoch=2)
    head.up(2, m.Attach(2, 7, "host2", 1, shown, parent=0, order=9), head.links[0])
    assert placed(head) == [("n2", [0])]


def test_an_attachment_that_was_overtaken_by_a_newer_one_is_ignored() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(0)
    old = m.Attach(2, 7, "host2", 1, placement(2, [0]), parent=0, order=1)
    head.orders = 10
    head.attach(2)
    head.up(2, old, head.links[0])
    head.give(Received(head.links[0], m.Detached([2, 2])))
    assert head.machine.members.records[2].link == head.links[2]


def test_who_disagrees_twice_on_what_is_below_attaches_again() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(0)
    head.attach(2, below=[0])
    head.looked()
    for _ in range(2):
        assert head.give(Received(head.links[0], m.Ping(2))) == [Send(head.links[0], m.Pong())]
    assert head.give(Received(head.links[0], m.Ping(3))) == [Send(head.links[0], m.Pong())]
    again = head.give(Received(head.links[0], m.Ping(3)))
    assert again == [Send(head.links[0], m.Pong()), Send(head.links[0], m.Reattached(1))]


def test_a_node_may_not_speak_for_one_that_does_not_belong_below_it() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(1)
    with pytest.raises(ProtocolError):
        head.up(2, m.Attach(2, 7, "host2", 1, b"", parent=1), head.links[1])


def test_a_node_that_has_seen_a_newer_head_is_refused() -> None:
    head = HeadRig(1, epoch=3)
    head.give(LinkOpened(5, 0))
    out = head.give(Received(5, hello(0, epoch=4)))
    assert [item.message.code for item in out if isinstance(item, Send) and isinstance(item.message, m.Refused)] == [
        "old-epoch"
    ]
    assert any(isinstance(item, CloseLink) for item in out)


def test_a_word_that_nodes_are_gone_counts_only_for_those_reached_that_way() -> None:
    head = HeadRig(6, fanout=2)
    head.attach(0)
    head.attach(1)
    head.attach(2, below=[0])
    head.give(Received(head.links[1], m.Detached([2, 2])))
    assert head.machine.members.records[2].link == head.links[0]
    head.give(Received(head.links[0], m.Detached([0, 2])))
    assert head.machine.members.records[2].link is None
    assert head.machine.members.records[0].link == head.links[0]
