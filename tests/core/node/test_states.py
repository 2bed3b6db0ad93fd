"""The states of a way up: which there are on the way, and what its story says."""

from __future__ import annotations

import pytest

from heorot.core.machine import LinkClosed, LinkOpened, Received, TimerFired
from heorot.core.node.states import UPLINK, UplinkState
from heorot.core.node.timers import RetryDue
from heorot.core.states import ImpossibleStep
from heorot.core.wire import tree as m
from tests.core.rigs import HEAD, NodeRig, hello


def stands(node: NodeRig) -> tuple[UplinkState, int | None]:
    """Return where the way up stands, and its link."""
    return node.machine.uplink.state, node.machine.uplink.link


def test_an_agent_finds_its_way_up_loses_it_and_finds_it_again() -> None:
    node = NodeRig(0)
    assert stands(node) == (UplinkState.SEARCHING, None)
    node.give(LinkOpened(1, HEAD, node.wanted().key))
    assert stands(node) == (UplinkState.GREETING, 1)
    node.give(Received(1, hello(HEAD, 1)))
    assert stands(node) == (UplinkState.ATTACHED, 1)
    node.give(LinkClosed(1, "cut"))
    # It was lost right after the greeting.
    assert stands(node) == (UplinkState.RESTING, None)
    node.give(TimerFired(RetryDue()))
    node.give(LinkOpened(2, HEAD, node.wanted().key))
    node.give(Received(2, m.Refused("old-epoch", "no")))
    assert stands(node) == (UplinkState.RESTING, None)
    assert UPLINK.story_of(node.machine.uplink) == (
        "waiting ─search▶ searching ─opened▶ greeting ─greeted▶ attached ─lost soon▶ resting ─search▶ searching"
        " ─opened▶ greeting ─refused▶ searching ─all tried▶ resting"
    )


def test_a_greeting_without_a_link_is_a_mistake_that_names_the_node_and_what_came_before() -> None:
    node = NodeRig(0)
    with pytest.raises(
        ImpossibleStep, match=r"n0 is searching, where greeted cannot happen; .* waiting ─search▶ searching"
    ):
        node.machine.uplink.greeted(0, 1, 0)
    assert not node.machine.uplink.attached
