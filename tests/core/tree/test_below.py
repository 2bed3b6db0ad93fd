"""Which nodes are reached through which link: one way for each, and a command is split among the ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.machine import Instruction, Send
from heorot.core.routes import Routes, Side
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.nodeset import NodeSet
from heorot.core.tree.states import LinkState
from heorot.core.wire import tree as m

LINKS = (10, 11, 12)
ACTIONS = st.lists(st.tuples(st.sampled_from(("reach", "forget")), st.integers(0, 20), st.sampled_from(LINKS)))


def three() -> tuple[NodesBelow, list[Instruction]]:
    """Return three children, and what is sent to them."""
    sent: list[Instruction] = []
    below = NodesBelow(sent.append)
    for number in LINKS:
        below.by_link[number] = link = LinkBelow(number, number, 0, below.next_event(), b"", Routes("a test", {}))
        link.greet(Side.CHILD)
    return below, sent


@given(ACTIONS)
def test_a_node_is_reached_by_its_newest_way_only(actions: list[tuple[str, int, int]]) -> None:
    below, sent = three()
    ways: dict[int, int] = {}
    for what, node, number in actions:
        if what == "reach":
            below.reach(node, below.by_link[number])
            ways[node] = number
        else:
            below.forget(1 << node)
            ways.pop(node, None)
    assert NodeSet(below.mask).numbers() == sorted(ways)
    for number, link in below.by_link.items():
        assert NodeSet(link.mask).numbers() == sorted(node for node, way in ways.items() if way == number)
        assert (link.state is LinkState.ATTACHED) == bool(link.mask)
    rest = below.send_down(1, (1 << 21) - 1, b"payload")
    assert NodeSet(rest).numbers() == [node for node in range(21) if node not in ways]
    told = {item.link: item.message for item in sent if isinstance(item, Send)}
    assert told == {
        link.link: m.Down(1, NodeSet(link.mask).ranges(), b"payload") for link in below.by_link.values() if link.mask
    }


def test_a_link_that_is_gone_takes_with_it_what_it_reached() -> None:
    below, sent = three()
    link = below.by_link[10]
    below.reach(3, link)
    below.reach(4, below.by_link[11])
    assert below.remove(link) == 0b1000
    assert (below.mask, link.mask, link.state) == (0b10000, 0, LinkState.GONE)
    below.tell_children(m.Reattached(1))
    assert [item.link for item in sent if isinstance(item, Send)] == [11, 12]
