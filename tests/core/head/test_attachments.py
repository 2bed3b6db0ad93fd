"""A relay that was broken into offers the head nodes that are not, or no longer, below it."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import CloseLink, LinkClosed, Log, Received, Send, TimerFired
from heorot.core.tree.below_attachments import DoubtDue
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, placement


def offer(head: HeadRig, relay: int, placed: bytes, order: int = 1, incarnation: int = 7, parent: int = 0) -> None:
    """Let a relay say that n3 attaches through it."""
    attach = m.Attach(3, incarnation, "elsewhere", 1, placed, parent=parent, order=order)
    head.up(3, attach, head.links[relay])


def way_of(head: HeadRig, node: int = 3) -> int | None:
    """Return the link through which the head reaches a node."""
    return head.machine.members.records[node].link


def attached(epoch: int = 3) -> HeadRig:
    """Return a head with n0, and with n3, which belongs below n0 and is attached directly."""
    head = HeadRig(4, fanout=3, epoch=epoch)
    head.attach(0)
    head.attach(3)
    head.looked()
    return head


def old(epoch: int = 2) -> bytes:
    """Return the placement of n3 below n0 of an earlier head."""
    return placement(3, [0], epoch)


def asked_again(head: HeadRig, link: int) -> bool:
    """Whether those at the end of this link were asked to attach again."""
    return Send(link, m.Reattached(head.machine.config.epoch)) in head.sent


@pytest.mark.parametrize("placed", [b"", b"nonsense", placement(2, [0], 2), old()[:-1] + b"?"])
def test_a_relay_needs_a_placement_for_a_node_that_is_known_too(placed: bytes) -> None:
    head = attached()
    with pytest.raises(ProtocolError, match="n0 may not speak for n3"):
        offer(head, 0, placed, 1 << 62)
    assert way_of(head) == head.links[3]


def test_a_relay_needs_a_placement_that_names_it() -> None:
    # n1 stands below n0 as well; the head has placed n4 below n1, and n0 is its ancestor by arithmetic alone.
    head = HeadRig(6, fanout=1)
    head.attach(0)
    head.attach(1)
    head.up(2, m.Attach(2, 7, "host2", 1, placement(2, [1]), parent=0, order=5), head.links[0])
    assert 2 not in head.machine.members.records or way_of(head, 2) is None
    head.attach(1, below=[0])
    head.give(LinkClosed(head.links[1], "moved"))
    head.attach(1, below=[0])
    head.up(2, m.Attach(2, 7, "host2", 1, placement(2, [1]), parent=1, order=5), head.links[0])
    assert way_of(head, 2) == head.links[0]


@pytest.mark.parametrize("incarnation", [7, 8])
def test_a_nodes_own_link_is_believed_before_a_relay_with_an_old_placement(incarnation: int) -> None:
    head = attached()
    head.client()
    job = head.spawn("n3", detached=True)
    head.report(3, job, started=[0, 9])
    head.looked()
    offer(head, 0, old(), 1 << 62, incarnation)
    assert way_of(head) == head.links[3]
    assert asked_again(head, head.links[3])
    # It answers, and that is all.
    head.attach(3, [m.JobInventory(job, [0, 9], [], [], 0)])
    head.wait(2_000, DoubtDue(3))
    assert way_of(head) == head.links[3]
    assert not any(isinstance(item, CloseLink) for item in head.sent)
    assert not head.machine.jobs.jobs[job].done


def test_a_node_that_has_lost_its_own_link_comes_through_its_ancestor() -> None:
    head = attached()
    offer(head, 0, old(), 9)
    head.looked()
    head.close(3)
    assert asked_again(head, head.links[0])
    offer(head, 0, old(), 10)
    assert way_of(head) == head.links[0]


def test_a_nodes_own_link_that_is_silent_makes_way() -> None:
    head = attached()
    own = head.links[3]
    offer(head, 0, old(), 9)
    head.looked()
    head.wait(2_000, DoubtDue(3))
    assert [item.link for item in head.sent if isinstance(item, CloseLink)] == [own]
    assert asked_again(head, head.links[0])
    offer(head, 0, old(), 10)
    assert way_of(head) == head.links[0]


def test_a_head_that_slept_gives_a_nodes_own_link_its_time_to_answer() -> None:
    head = attached()
    offer(head, 0, old(), 9)
    head.looked()
    head.now += 60_000
    head.give(TimerFired(DoubtDue(3)))
    assert not any(isinstance(item, CloseLink) for item in head.sent)
    head.wait(2_000, DoubtDue(3))
    assert [item.link for item in head.sent if isinstance(item, CloseLink)] == [head.links[3]]


def test_a_relay_that_offers_a_node_without_end_does_not_fill_the_log() -> None:
    head = HeadRig(13, fanout=3)
    head.attach(0)
    head.attach(3)
    head.up(12, m.Attach(12, 7, "host", 1, placement(12, [3], 1, 9), parent=3, order=1), head.links[3])
    head.looked()
    for order in range(2, 50):
        shown = m.Attach(12, 7, "host", 1, placement(12, [0], 1, 4), parent=0, order=order)
        head.up(12, shown, head.links[0])
    assert [item.level for item in head.sent if isinstance(item, Log)] == ["info", *["debug"] * 47]


def newest_placement(head: HeadRig) -> bytes:
    """Return the placement of n3 that the head has sent last."""
    placements: list[bytes] = [place.placement for nodes, place in head.commands(m.Place) if nodes == "n3"]
    return placements[-1]


def test_a_node_that_the_head_has_just_placed_is_taken_at_once() -> None:
    head = HeadRig(4, fanout=3)
    head.attach(0)
    head.attach(3)
    offer(head, 0, newest_placement(head), 5)
    assert way_of(head) == head.links[0]


def test_a_placement_that_the_node_has_left_does_not_bring_it_back() -> None:
    # n12 is below n3, and n3 below n0: n0 may show its former placement again.
    head = HeadRig(13, fanout=3)
    head.attach(0)
    head.attach(1)
    shown = m.Attach(12, 7, "host", 1, placement(12, [0], 1, 4), parent=0, order=1)
    head.up(12, shown, head.links[0])
    newer = m.Attach(12, 7, "host", 1, placement(12, [3], 1, 9), parent=3, order=2)
    head.attach(3)
    head.up(12, newer, head.links[3])
    assert way_of(head, 12) == head.links[3]
    again = m.Attach(12, 7, "host", 1, placement(12, [0], 1, 4), parent=0, order=1 << 62)
    head.up(12, again, head.links[0])
    assert way_of(head, 12) == head.links[3]


@pytest.mark.parametrize("order", [1 << 62, 500_000])
def test_no_order_locks_a_node_out(order: int) -> None:
    head = HeadRig(4, fanout=3)
    head.attach(0)
    offer(head, 0, placement(3, [0]), order)
    assert way_of(head) == head.links[0]
    # The node itself comes, over a link that is newer: no order counts against its certificate.
    head.attach(3)
    assert way_of(head) == head.links[3]


def test_no_order_outlives_the_way_that_it_came_on() -> None:
    head = HeadRig(13, fanout=3)
    head.attach(0)
    head.attach(3)
    both = placement(12, [0, 3])
    head.up(12, m.Attach(12, 7, "host", 1, both, parent=0, order=1 << 62), head.links[0])
    head.give(Received(head.links[0], m.Detached([12, 12])))
    head.up(12, m.Attach(12, 7, "host", 1, both, parent=3, order=20), head.links[3])
    assert way_of(head, 12) == head.links[3]


def test_an_order_that_cannot_be_true_counts_only_for_as_much_as_can() -> None:
    head = HeadRig(13, fanout=3)
    head.attach(0)
    head.attach(3)
    both = placement(12, [0, 3])
    head.up(12, m.Attach(12, 7, "host", 1, both, parent=3, order=1_000), head.links[3])
    head.up(12, m.Attach(12, 7, "host", 1, both, parent=0, order=1 << 62), head.links[0])
    assert way_of(head, 12) == head.links[0]
    head.now += 62_000
    head.up(12, m.Attach(12, 7, "host", 1, both, parent=3, order=63_500), head.links[3])
    assert way_of(head, 12) == head.links[3]
