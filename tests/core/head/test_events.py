"""What has happened: told a second at a time, folded, bounded, and kept for the heads to come."""

from __future__ import annotations

from heorot.core.head.events import KEEP_EVERY_MS, MAX_KINDS
from heorot.core.head.timers import EventsDue
from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.events import MAX_EVENTS, ClusterEvent, KeepEvents
from tests.core.head.test_wishes import answer, drain
from tests.core.rigs import HeadRig


def told(head: HeadRig, after: tuple[int, int] = (0, 0)) -> list[tuple[str, str, str, str]]:
    """Return what a client is told: what, nodes, by whom, text."""
    head.ask(c.ListEvents(9, list(after)))
    return [(event.what, event.nodes, event.by, event.text) for event in answer(head).value]


def kept(head: HeadRig) -> list[KeepEvents]:
    return [item for item in head.sent if isinstance(item, KeepEvents)]


def test_what_happens_within_a_second_to_many_nodes_is_one_event() -> None:
    head = HeadRig(3)
    head.client()
    for node in range(3):
        head.attach(node)
    assert told(head) == []
    head.wait(1_000, EventsDue())
    assert told(head) == [("led", "", "h0", ""), ("up", "n[0-2]", "", "")]
    drain(head, "n[0-1]", "fan")
    head.up(2, m.SpaceGone(7))
    head.give(NodesJoined((0, 1, 2, 3)))
    head.give(NodesRemoved((1,)))
    head.wait(1_000, EventsDue())
    assert told(head, (1, 2)) == [
        ("set", "n[0-1]", "root", "state drain: fan"),
        ("down", "n[1-2]", "", ""),
        ("joined", "n3", "", ""),
        ("removed", "n1", "", "n1 was removed from the cluster"),
    ]


def test_the_store_is_asked_every_ten_seconds_at_most_and_the_next_head_goes_on_with_them() -> None:
    head = HeadRig(1)
    head.client()
    head.wait(1_000, EventsDue())
    assert [len(item.events) for item in kept(head)] == [1]
    head.looked()
    head.attach(0)
    head.wait(1_000, EventsDue())
    assert kept(head) == []
    head.wait(KEEP_EVERY_MS, EventsDue())
    (item,) = kept(head)
    later = HeadRig(1, epoch=2, events=item.events)
    later.client()
    later.wait(1_000, EventsDue())
    assert told(later) == [("up", "n0", "", ""), ("led", "", "h0", "")]
    assert told(later, (1, 2)) == [("led", "", "h0", "")]


def test_there_are_never_more_than_may_be() -> None:
    events = tuple(ClusterEvent(1, number, 0, "up") for number in range(1, MAX_EVENTS + 100))
    head = HeadRig(1, epoch=2, events=events)
    head.client()
    for number in range(MAX_KINDS + 50):
        head.machine.events.note("set", 1, text=f"{number}" * 1000)
    head.wait(1_000, EventsDue())
    assert len(told(head)) == MAX_EVENTS
    assert len(told(head, (2, 0))) == MAX_KINDS
    assert max(len(text) for *_, text in told(head)) == 300
