"""A node that has joined is known from then on, whether it ever comes up or not."""

from __future__ import annotations

from typing import Any

from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig


def rows(head: HeadRig, nodes: str = "") -> dict[str, tuple[Any, ...]]:
    """Return state, address and whether it was seen, of each node that the head lists."""
    head.looked()
    head.ask(c.ListNodes(1, nodes))
    (answer,) = (message for message in head.told() if isinstance(message, c.Result))
    return {row.name: (row.state, row.address, row.seen) for row in answer.value}


def test_a_node_that_joins_and_never_comes_up_is_down_and_was_not_seen() -> None:
    head = HeadRig(1, node_grace_ms=0)
    head.attach(0)
    head.client()
    head.give(NodesJoined((0, 2, 1)))
    assert rows(head) == {"n0": ("up", "host0:1", True), "n1": ("down", "", False), "n2": ("down", "", False)}
    assert list(rows(head, "down")) == ["n1", "n2"]
    head.looked()
    head.ask(spawn_of(1, "n2"))
    (refusal,) = head.told()
    assert (refusal.code, refusal.message) == ("node-down", "n2 is down, not up")


def test_what_is_known_of_a_node_stays_when_it_is_said_again_that_it_has_joined() -> None:
    head = HeadRig(0, node_grace_ms=0)
    head.client()
    head.attach(3)
    head.give(NodesJoined((3,)))
    assert rows(head) == {"n3": ("up", "host3:1", True)}
    head.up(3, m.SpaceGone(7))
    assert rows(head) == {"n3": ("down", "host3:1", True)}


def test_a_removed_node_is_not_known_and_is_again_when_its_number_was_given_anew() -> None:
    head = HeadRig(1, node_grace_ms=0)
    head.client()
    head.give(NodesJoined((0, 4)))
    head.give(NodesRemoved((4,)))
    head.give(NodesJoined((0,)))
    assert list(rows(head)) == ["n0"]
    head.give(NodesRemoved(()))
    head.give(NodesJoined((0, 4)))
    assert list(rows(head)) == ["n0", "n4"]
