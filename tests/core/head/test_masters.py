"""Nodes on the hosts of heads: which one ``master`` is, and what leaves them out."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.head.masters import Masters
from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.core.tickets import seal_ticket
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.head.test_list_of_heads import NEW, OLD, listed
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import KEY, answers, hand_over, new_head, refusals

JOINED = NodesJoined((0, 1, 2), ((0, "c0"), (1, "c1"), (2, "c2")), ((1, "h0"), (2, "h1")))


def site(**config: Any) -> HeadRig:
    """Return a head h0 of three nodes, of which n1 is on its host and n2 on that of h1."""
    head = HeadRig(0, **config)
    head.give(NodesRemoved(()))
    head.give(JOINED)
    for node in range(3):
        head.attach(node)
    head.client()
    return head


def test_of_two_nodes_that_joined_from_one_host_the_later_is_its_node() -> None:
    masters = Masters("h0", ((4, "h0"), (2, "h0"), (7, "h1")))
    assert (masters.leading, masters.nodes) == (2, NodeSet.of([2, 4, 7]))
    masters.know(((4, "h0"), (7, "h1")))
    assert (masters.leading, masters.head_of(4), masters.head_of(2)) == (4, "h0", "")
    masters.know(())
    assert (masters.leading, bool(masters.nodes)) == (HEAD, False)


def test_a_head_that_is_taken_off_the_list_has_no_host_any_more() -> None:
    masters = Masters("h0", ((1, "h0"), (2, "h1")))
    masters.listed([OLD, NEW])
    assert masters.nodes == NodeSet.of([1, 2])
    masters.listed([OLD])
    assert (masters.nodes, masters.head_of(2)) == (NodeSet.of([1]), "")
    masters.listed([m.HeadAddress("", "elsewhere", 1)])
    assert masters.nodes == NodeSet.of([1, 2]), "who that is nobody has said"


@pytest.mark.parametrize(
    ("nodes", "select", "found"),
    [
        ("master", "list", [1]),
        ("master,n0", "list", [1, 0]),
        ("all", "list", [0]),
        ("all,n2", "list", [0, 2]),
        ("", "up", [0]),
        ("", "notdown", [0]),
    ],
)
def test_a_head_means_the_node_on_its_own_host(nodes: str, select: str, found: list[int]) -> None:
    head = site()
    head.looked()
    head.ask(c.Resolve(1, nodes, select))
    assert head.told()[-1].value == found


def test_all_tables_have_them_and_say_of_which_head_each_is() -> None:
    head = site()
    head.looked()
    head.ask(c.ListNodes(1, ""))
    assert [(row.id, row.head) for row in head.told()[-1].value] == [(0, ""), (1, "h0"), (2, "h1")]
    head.give(listed(OLD))
    head.looked()
    head.ask(c.ListNodes(2, ""))
    assert [row.head for row in head.told()[-1].value] == ["", "h0", ""]


def test_a_head_whose_host_is_no_node_says_what_makes_it_one() -> None:
    head = site()
    head.give(NodesJoined((0, 1, 2), (), ((2, "h1"),)))
    head.looked()
    head.ask(spawn_of(1, "n0,master"))
    head.ask(c.SetNodes(2, "master", "drain"))
    said = [message for message in head.told() if isinstance(message, c.Error)]
    assert {(message.code, message.message) for message in said} == {
        (
            "bad-nodes",
            "'master' is the host of the head that leads, h0, and that host is no node: 'heorot node join' there, as"
            " root, makes it one; or name nodes, for example n0",
        )
    }
    assert len(said) == 2


def test_a_removed_node_is_no_master() -> None:
    head = site()
    head.give(NodesRemoved((1,)))
    head.looked()
    head.ask(spawn_of(1, "master"))
    assert refusals(head) == ["bad-nodes"]


def test_a_launch_on_master_is_not_started_again_while_the_former_one_may_have_it() -> None:
    head = new_head(0, name="h1")
    head.give(NodesRemoved(()))
    head.give(JOINED)
    head.ask(spawn_of(1, "master", key=KEY, again=True))
    head.attach(2)
    assert not head.commands(m.Launch), "n1, which was master under h0, may run it"
    launch = seal_ticket(sign, ticket("1.1", [1, 1], key=KEY, uid=0))
    head.attach(1, [held("1.1", running=[0, 100])])
    hand_over(head, 1, launch)
    spawned = answers(head)[0]
    assert (spawned.job, spawned.runs) == ("1.1", [1, 1])
    assert not head.commands(m.Launch)


def test_a_launch_on_master_that_nobody_has_goes_to_the_present_one() -> None:
    head = new_head(0, name="h1")
    head.give(NodesRemoved(()))
    head.give(JOINED)
    head.ask(spawn_of(1, "master", key=KEY, again=True))
    head.attach(2)
    head.attach(1)
    assert [(where, launch.job) for where, launch in head.commands(m.Launch)] == [("n2", "2.1")]
