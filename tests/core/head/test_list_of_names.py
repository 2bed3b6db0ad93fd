"""The list of names: who is told it, when, and how seldom."""

from __future__ import annotations

import pytest

from heorot.core.head.list_of_names import COALESCE_MS, INTERVAL_MS, host_address
from heorot.core.head.timers import NamesDue
from heorot.core.machine import HeadsKnown, NodesJoined, NodesRemoved, SetTimer
from heorot.core.tickets import open_names
from heorot.core.wire import tree as m
from tests.core.rigs import CLUSTER, HEAD, HeadRig, placement, verify


def offer(head: HeadRig, node: int, address: str = "", *, below: tuple[int, ...] = (), hears: bool = True) -> None:
    """Let a node attach, at this address, 10.0.0.N unless another is given."""
    head.orders += 1
    top = below[0] if below else node
    link = head.links[top] if top in head.links else head.connect(top)
    placed = placement(node, below, head.machine.config.epoch) if below else b""
    parent = below[-1] if below else HEAD
    attach = m.Attach(
        node, 7, address or f"10.0.0.{node}", 1, placed, parent=parent, order=head.orders, hears_names=hears
    )
    head.up(node, attach, link)
    head.up(node, m.Inventory(7, [], after="0.0", age_ms=3_600_000), link)


def told(head: HeadRig) -> list[tuple[str, m.NameList]]:
    """Return who was told which list; forget it."""
    found = [(nodes, open_names(verify, sealed, cluster=CLUSTER)) for nodes, sealed in head.commands(m.TellNames)]
    head.looked()
    return found


def armed(head: HeadRig) -> list[int]:
    """Return for when it was noted that names are to be told."""
    return [item.at_ms for item in head.sent if isinstance(item, SetTimer) and item.key == NamesDue()]


def lines(listing: m.NameList) -> list[str]:
    return [" ".join([host.address, *host.names]) for host in listing.hosts]


def test_many_that_come_at_once_are_told_in_one_message_to_each_child() -> None:
    head = HeadRig(0, fanout=2)
    head.give(NodesJoined((0, 1, 2), ((0, "c0.site"), (1, "c1"))))
    for node, below in ((0, ()), (1, ()), (2, (0,))):
        offer(head, node, below=below)
    assert armed(head) == [COALESCE_MS]
    assert told(head) == []
    head.wait(COALESCE_MS, NamesDue())
    (first, listing), (second, same) = told(head)
    assert (first, second) == ("n[0,2]", "n1")
    assert listing == same
    assert lines(listing) == ["10.0.0.0 c0.site c0 n0", "10.0.0.1 c1 n1", "10.0.0.2 n2"]
    assert (listing.epoch, listing.revision) == (1, 1)


def test_lists_have_a_second_between_them_and_who_comes_late_is_told_the_newest_alone() -> None:
    head = HeadRig(2)
    offer(head, 0)
    head.wait(COALESCE_MS, NamesDue())
    head.looked()
    offer(head, 1)
    assert armed(head) == [COALESCE_MS + INTERVAL_MS]
    head.wait(INTERVAL_MS, NamesDue())
    assert [(nodes, listing.revision) for nodes, listing in told(head)] == [("n0", 2), ("n1", 2)]
    # It has lost its link: nothing is new, and it may not have heard the last word.
    offer(head, 0)
    head.wait(INTERVAL_MS, NamesDue())
    assert [(nodes, listing.revision) for nodes, listing in told(head)] == [("n0", 2)]
    head.wait(INTERVAL_MS, NamesDue())
    assert told(head) == []
    assert armed(head) == []


def test_a_node_that_is_away_keeps_its_line_and_one_that_was_removed_does_not() -> None:
    head = HeadRig(2)
    offer(head, 0)
    offer(head, 1)
    head.wait(COALESCE_MS, NamesDue())
    assert [len(listing.hosts) for _, listing in told(head)] == [2, 2]
    head.close(1)
    offer(head, 0)
    head.wait(INTERVAL_MS, NamesDue())
    assert [(nodes, lines(listing)) for nodes, listing in told(head)] == [("n0", ["10.0.0.0 n0", "10.0.0.1 n1"])]
    head.give(NodesRemoved((1,)))
    head.give(NodesJoined((0,), ()))
    head.wait(INTERVAL_MS, NamesDue())
    assert [(nodes, lines(listing)) for nodes, listing in told(head)] == [("n0", ["10.0.0.0 n0"])]


def test_a_node_of_another_release_or_that_does_not_want_to_know_is_told_nothing() -> None:
    head = HeadRig(2)
    offer(head, 0, hears=False)
    assert armed(head) == []
    offer(head, 1)
    head.wait(COALESCE_MS, NamesDue())
    assert [nodes for nodes, _ in told(head)] == ["n1"]


def test_a_new_head_waits_for_its_nodes_before_it_says_which_there_are() -> None:
    head = HeadRig(2, settle_ms=2_000)
    offer(head, 0)
    head.wait(COALESCE_MS, NamesDue())
    assert armed(head)[1:] == [COALESCE_MS + INTERVAL_MS]
    assert told(head) == []
    offer(head, 1)
    head.wait(INTERVAL_MS, NamesDue())
    assert [len(listing.hosts) for _, listing in told(head)] == [2, 2]


def test_the_head_is_in_the_list_by_the_address_that_nodes_are_told() -> None:
    head = HeadRig(1)
    head.give(HeadsKnown((("h0", "active"),), "etcd", True, 0, None, "", (m.HeadAddress("h0", "10.0.9.9", 7733),)))
    offer(head, 0)
    head.wait(COALESCE_MS, NamesDue())
    assert [lines(listing) for _, listing in told(head)] == [["10.0.9.9 master", "10.0.0.0 n0"]]


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::0:1", "fd00::1"),
        ("", ""),
        ("0.0.0.0", ""),
        ("::", ""),
        ("224.0.0.1", ""),
        ("fe80::1%eth0", ""),
        ("c0", ""),
        ("10.0.0.1 c7\n10.0.0.2", ""),
        ("10.0.0.01", ""),
    ],
)
def test_an_address_that_a_node_claims_is_one_or_is_left_out(word: str, address: str) -> None:
    assert host_address(word) == address
    head = HeadRig(1)
    if word:
        offer(head, 0, word)
        head.wait(COALESCE_MS, NamesDue())
        assert [[host.address for host in listing.hosts] for _, listing in told(head)] == [[address] if address else []]


def test_the_list_of_a_thousand_nodes_is_small() -> None:
    head = HeadRig(1)
    head.give(NodesJoined(tuple(range(1000)), tuple((node, f"node{node:04d}.cluster") for node in range(1000))))
    for node in range(1000):
        head.machine.members.record(node).host = f"10.1.{node // 250}.{node % 250}"
    offer(head, 0, "10.1.0.0")
    head.wait(COALESCE_MS, NamesDue())
    ((_, sealed),) = head.commands(m.TellNames)
    assert len(open_names(verify, sealed, cluster=CLUSTER).hosts) == 1000
    assert len(sealed.listing) < 16_384
