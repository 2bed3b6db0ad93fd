"""A link from below: what it may say, which nodes it reaches, and what is a mistake of ours."""

from __future__ import annotations

import pytest

from heorot.core.routes import Routes, Side
from heorot.core.states import ImpossibleStep
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.states import LinkState
from heorot.core.wire import tree as m

ROUTES = Routes("a test", {(Side.NEWCOMER, m.Hello): print, (Side.CHILD, m.Up): print, (Side.VISITOR, m.Want): print})


def a_link(side: Side = Side.NEWCOMER) -> LinkBelow:
    """Return a link of n2 whose other end is that."""
    link = LinkBelow(51, 2, 0, 1, b"", ROUTES)
    if side is not Side.NEWCOMER:
        link.greet(side)
    return link


def test_what_it_may_say_changes_when_it_is_greeted() -> None:
    link = a_link()
    assert (link.is_child, list(link.says)) == (False, [m.Hello])
    link.greet(Side.CHILD)
    assert (link.is_child, list(link.says)) == (True, [m.Up])
    visitor = a_link(Side.VISITOR)
    assert (visitor.is_child, list(visitor.says)) == (False, [m.Want])


def test_it_is_detached_when_it_has_lost_the_last_node_and_not_before() -> None:
    link = a_link(Side.CHILD)
    link.reach(0b1)
    assert not link.is_attached
    link.reach(0b100)
    assert link.is_attached
    link.forget(0b1)
    assert link.state is LinkState.ATTACHED
    link.forget(0b1110)
    assert (link.state, link.mask) == (LinkState.DETACHED, 0)
    link.reach(0b100)
    assert link.end() == 0b100
    assert (link.state, link.mask) == (LinkState.GONE, 0)


@pytest.mark.parametrize("side", [Side.NEWCOMER, Side.VISITOR])
def test_who_is_no_child_brings_no_node_and_the_mistake_tells_the_links_story(side: Side) -> None:
    link = a_link(side)
    with pytest.raises(ImpossibleStep, match=r"link 51 of n2 is .*, where reached cannot happen; its last steps: new"):
        link.reach(0b100)
    assert link.mask == 0


def test_nobody_is_greeted_twice_and_nothing_ends_twice() -> None:
    link = a_link(Side.CHILD)
    with pytest.raises(ImpossibleStep, match="new ─greeted▶ greeted"):
        link.greet(Side.VISITOR)
    assert link.is_child
    link.end()
    with pytest.raises(ImpossibleStep, match="greeted ─ended▶ gone"):
        link.end()
