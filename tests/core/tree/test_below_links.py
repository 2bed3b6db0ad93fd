"""Who is let in from below, and when a link is over: at the head and at a relay alike."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

from heorot.core.machine import CloseLink, LinkClosed, LinkOpened, Log, Received, Send
from heorot.core.tree.below_links import MAX_LINKS_BELOW
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, NodeRig, hello, placement

Rig: TypeAlias = HeadRig | NodeRig


def a_head() -> Rig:
    """Return a head that knows some nodes."""
    return HeadRig(9)


def a_relay() -> Rig:
    """Return n0, which has a way up."""
    node = NodeRig(0)
    node.attach()
    node.looked()
    return node


both = pytest.mark.parametrize("make", [a_head, a_relay])


def said(rig: Rig, link: int) -> list[Any]:
    """Return what was sent on a link."""
    return [item.message for item in rig.sent if isinstance(item, Send) and item.link == link]


def closed(rig: Rig, link: int) -> list[str]:
    """Return the reasons for which a link was closed."""
    return [item.reason for item in rig.sent if isinstance(item, CloseLink) and item.link == link]


def comes(rig: Rig, link: int, node: int, peer: bool = False) -> None:
    """Let a node connect and greet."""
    rig.give(LinkOpened(link, node))
    rig.give(Received(link, hello(node, peer=peer)))


def attaches(rig: Rig, link: int, node: int, path: tuple[int, ...] = (0,), order: int = 1) -> None:
    """Let a node attach through a link."""
    attach = m.Attach(node, 7, f"host{node}", 1, placement(node, path), parent=path[-1], order=order)
    rig.give(Received(link, m.Up(node, m.encode(attach))))


@both
def test_who_speaks_for_another_cluster_or_as_another_node_is_refused(make: Any) -> None:
    rig = make()
    rig.give(LinkOpened(61, 2))
    rig.give(Received(61, m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, "other", 2, 0, "test")))
    rig.give(LinkOpened(62, 2))
    rig.give(Received(62, hello(3)))
    assert [message.code for link in (61, 62) for message in said(rig, link)] == ["other-cluster", "wrong-node"]
    assert closed(rig, 61)
    assert closed(rig, 62) == ["the certificate says n2, the greeting n3"]
    # What comes on such a link meanwhile is nobody's.
    rig.give(Received(62, m.Ping(1)))
    assert len(said(rig, 62)) == 1


@both
def test_a_head_has_no_place_below(make: Any) -> None:
    rig = make()
    rig.give(LinkOpened(61, HEAD))
    assert [message.code for message in said(rig, 61)] == ["not-a-node"]
    assert closed(rig, 61)


@both
def test_there_are_no_more_links_than_the_bound(make: Any) -> None:
    rig = make()
    for link in range(1_000, 1_000 + MAX_LINKS_BELOW):
        rig.give(LinkOpened(link, 2))
    rig.looked()
    rig.give(LinkOpened(61, 3))
    assert [message.code for message in said(rig, 61)] == ["too-many-children"]
    rig.give(LinkClosed(1_000, "gone"))
    comes(rig, 62, 3)
    assert [type(message) for message in said(rig, 62)] == [m.Hello]


@both
def test_a_newer_link_of_a_child_takes_the_place_of_the_older_one(make: Any) -> None:
    rig = make()
    comes(rig, 61, 2)
    attaches(rig, 61, 2)
    comes(rig, 62, 2)
    assert closed(rig, 61) == ["replaced by a newer link"]
    assert not closed(rig, 62)
    assert "the link to n2 is gone (replaced by a newer link): n2 detached" in [
        item.text for item in rig.sent if isinstance(item, Log)
    ]


@both
def test_a_link_that_has_not_greeted_is_nobodys_yet(make: Any) -> None:
    # The end of the older one was not noticed, and its greeting comes late.
    rig = make()
    rig.give(LinkOpened(61, 2))
    rig.give(LinkOpened(62, 2))
    rig.give(Received(61, hello(2)))
    assert not closed(rig, 62)
    rig.give(Received(62, hello(2)))
    assert closed(rig, 61)
    assert not closed(rig, 62)


def test_a_visitor_has_nothing_of_a_head_and_does_not_take_the_place_of_a_child() -> None:
    rig = a_head()
    comes(rig, 61, 2)
    comes(rig, 62, 2, peer=True)
    assert [message.code for message in said(rig, 62)] == ["no-visitors"]
    assert not closed(rig, 61)


@both
def test_who_refuses_is_let_go_with_all_that_it_reached(make: Any) -> None:
    rig = make()
    comes(rig, 61, 2)
    attaches(rig, 61, 2)
    assert rig.machine.context.below.mask == 0b100
    rig.give(Received(61, m.Refused("old-epoch", "it has seen a newer one")))
    assert closed(rig, 61) == ["refused"]
    assert rig.machine.context.below.mask == 0


@both
def test_a_child_that_says_twice_that_it_reaches_others_attaches_again_and_that_is_all(make: Any) -> None:
    rig = make()
    comes(rig, 61, 2)
    attaches(rig, 61, 2)
    rig.looked()
    for nodes in (1, 4, 1, 4, 4, 4):
        rig.give(Received(61, m.Ping(nodes)))
    assert [type(message) for message in said(rig, 61)] == [m.Pong] * 5 + [m.Reattached, m.Pong]


@both
def test_a_child_cannot_say_of_itself_that_it_is_out_of_reach(make: Any) -> None:
    rig = make()
    comes(rig, 61, 2)
    attaches(rig, 61, 2)
    attaches(rig, 61, 6, (0, 2))
    rig.give(Received(61, m.Detached([2, 8])))
    assert rig.machine.context.below.mask == 0b100
