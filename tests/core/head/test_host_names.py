"""Whose a host name is: of who has joined under it first, whatever others say later."""

from __future__ import annotations

from typing import Any

from heorot.core.head.host_names import HostNames
from heorot.core.machine import Log, NodesJoined, NodesRemoved
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

SITE = ((0, "c0"), (1, "C1.example.org."), (3, "c3"))


def test_a_node_is_known_by_the_name_that_it_joined_with_and_by_that_without_its_domain() -> None:
    hosts = HostNames(SITE)
    assert hosts.nodes == {"c0": 0, "c1.example.org": 1, "c1": 1, "c3": 3}
    assert [hosts.name_of(node) for node in range(4)] == ["c0", "c1.example.org", "", "c3"]
    assert [hosts.problem_of(node) for node in range(4)] == [""] * 4


def test_of_several_with_one_name_the_first_to_join_has_it() -> None:
    hosts = HostNames()
    news = hosts.know(((5, "c0"), (1, "c0"), (2, "c0.example.org")))
    assert news == ["n1 has joined as 'c0', by which node lists do not know it: it is n5's"]
    # A whole name goes before one without its domain, whoever joined first.
    assert HostNames(((2, "c0.example.org"), (5, "c0"))).nodes == {"c0": 5, "c0.example.org": 2}
    assert hosts.nodes == {"c0": 5, "c0.example.org": 2}
    assert hosts.know(((5, "c0"), (1, "c0"))) == [], "said once"
    assert hosts.know(((1, "c0"),)) == []
    assert hosts.nodes == {"c0": 1}, "n5 was removed"
    assert len(hosts.know(((1, "c0"), (5, "c0")))) == 1


def test_a_name_that_means_something_else_is_nobodys() -> None:
    hosts = HostNames()
    news = hosts.know(((0, "up"), (1, "n7"), (2, "all"), (3, "a\nb"), (4, ""), (5, "n5"), (6, "x" * 300)))
    assert hosts.nodes == {}
    assert [text.partition(",")[0] for text in news] == [
        "n0 has joined as 'up'",
        "n1 has joined as 'n7'",
        "n2 has joined as 'all'",
        "n3 has joined as 'a\\nb'",
        "n4 has joined as a host without a name",
        f"n6 has joined as '{'x' * 64}'",
    ]
    # Its own number is no claim to anything.
    assert (hosts.name_of(5), hosts.problem_of(5)) == ("n5", "")


def test_what_a_node_calls_itself_later_is_told_and_changes_nothing() -> None:
    hosts = HostNames(SITE)
    (text,) = hosts.claimed(3, "c0")
    assert text.startswith("n3 calls itself 'c0' and has joined as 'c3': for another name let it join again")
    assert hosts.claimed(3, "c0") == []
    assert hosts.nodes["c0"] == 0
    assert hosts.problem_of(3) == text
    assert hosts.claimed(3, "C3") == []
    assert hosts.problem_of(3) == ""
    assert hosts.claimed(3, "") == []
    assert hosts.claimed(9, "c9") == [], "no registry knows it"
    # It has joined again, under the new name.
    hosts.claimed(3, "d3")
    hosts.know((*SITE[:2], (3, "d3")))
    assert (hosts.nodes["d3"], hosts.problem_of(3)) == (3, "")


def answer(head: HeadRig, ask: c.ClientMessage) -> Any:
    """Return what the head says to this request of root's."""
    head.looked()
    head.ask(ask)
    return head.told()[-1]


def test_a_head_finds_nodes_by_name_and_says_what_is_wrong_with_names() -> None:
    head = HeadRig(0)
    head.give(NodesRemoved(()))
    head.give(NodesJoined((0, 1, 3), SITE))
    head.attach(0)
    head.attach(3)
    head.up(3, m.Attach(3, 7, "host3", 1, b"", order=99, host_name="c0"), head.links[3])
    warnings = [item.text for item in head.sent if isinstance(item, Log) and item.level == "warning"]
    assert [text.partition(":")[0] for text in warnings] == ["n3 calls itself 'c0' and has joined as 'c3'"]
    head.client()
    assert answer(head, c.Resolve(1, "c3,c0,c[0-1]", "list")).value == [3, 0, 0, 1]
    (row,) = answer(head, c.ListNodes(2, "c3")).value
    assert (row.host_name, row.name_problem) == ("c3", warnings[0])
    head.give(NodesRemoved((3,)))
    head.give(NodesJoined((0, 1), SITE[:2]))
    assert answer(head, c.Resolve(3, "c3", "list")).code == "bad-nodes"
