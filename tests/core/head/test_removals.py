"""A node that is removed while a head leads: gone at once, refused from then on, and nobody lost with it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.machine import (
    CloseLink,
    ConnectFailed,
    LinkClosed,
    LinkOpened,
    Log,
    NodesRemoved,
    Received,
    Send,
    TimerFired,
)
from heorot.core.node.timers import RetryDue
from heorot.core.tickets import seal_placement
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import CLUSTER, HEAD, LEFT, RIGHT, HeadRig, NodeRig, hello, placement, relay, sign


def remove(head: HeadRig, *nodes: int) -> None:
    """Let the registry say that these are removed."""
    head.looked()
    head.give(NodesRemoved(nodes))


def refusals(head: HeadRig, link: int) -> list[str]:
    """Return the codes with which this link was refused."""
    return [
        i.message.code for i in head.sent if isinstance(i, Send) and i.link == link and isinstance(i.message, m.Refused)
    ]


def attached(head: HeadRig, node: int, below: list[int], told: bool = True) -> None:
    """Attach a node that understands what it is told of others."""
    top = below[0] if below else node
    link = head.links[top] if top in head.links else head.connect(top)
    head.orders += 1
    placed = placement(node, below) if below else b""
    parent = below[-1] if below else -1
    offer = m.Attach(node, 7, f"host{node}", 1, placed, parent=parent, order=head.orders, heads=[] if told else None)
    head.up(node, offer, link)
    head.up(node, m.Inventory(7, [], after="0.0", age_ms=3_600_000), link)


def tree() -> HeadRig:
    """Return a head with n0 and n1, n2 and n3 below n0, and n6 below n2."""
    head = HeadRig(8, fanout=2)
    for node, below in ((0, []), (1, []), (2, [0]), (3, [0]), (6, [0, 2])):
        attached(head, node, below)
    head.client()
    return head


def test_its_ranks_end_with_a_word_and_the_others_go_on() -> None:
    head = tree()
    job = head.spawn("n1,n3")
    remove(head, 1)
    assert [message for message in head.told() if isinstance(message, c.Lost)] == [
        c.Lost(job, [(0, 1, "n1 was removed from the cluster")])
    ]
    assert head.machine.jobs.jobs[job].live_ranks_on(3) == [1]
    # What may still run there is ended, before the link is.
    assert head.commands(m.Release) == [("n1", m.Release(job))]


def test_its_link_is_closed_and_no_new_one_is_taken() -> None:
    head = tree()
    link = head.links[1]
    remove(head, 1)
    assert refusals(head, link) == ["removed"]
    assert any(isinstance(item, CloseLink) and item.link == link for item in head.sent)
    head.looked()
    head.give(LinkOpened(900, 1))
    head.give(Received(900, hello(1)))
    assert refusals(head, 900) == ["removed"]
    # It comes again and again; the log hears of it once.
    head.give(LinkOpened(901, 1))
    head.give(Received(901, hello(1)))
    assert refusals(head, 901) == ["removed"]
    assert [item.level for item in head.sent if isinstance(item, Log)] == ["warning", "debug"]


def test_it_is_named_to_nobody_any_more() -> None:
    head = tree()
    remove(head, 1)
    head.ask(c.ListNodes(5, ""))
    rows = head.told()[-1].value
    assert [row.id for row in rows] == [0, 2, 3, 4, 5, 6, 7]
    head.ask(spawn_of(6, "n1", detached=True))
    assert head.told()[-1].code == "bad-nodes"


def test_every_relay_is_told_and_so_is_whoever_attaches_later() -> None:
    head = tree()
    remove(head, 3)
    told = NodeSet()
    for nodes, barred in head.commands(m.Barred):
        assert barred == m.Barred([3, 3])
        told = NodeSet(told.mask | sum(1 << int(name) for name in _numbers(nodes)))
    assert told == NodeSet.of([0, 1, 2, 6])
    head.looked()
    attached(head, 4, [1])
    assert head.commands(m.Barred) == [("n4", m.Barred([3, 3]))]
    head.looked()
    attached(head, 5, [1], told=False)
    assert head.commands(m.Barred) == []


def _numbers(text: str) -> list[int]:
    from heorot.core.tree.nodelist import NodeView, parse

    return parse(text, NodeView(NodeSet.of(range(8)), {}))


def test_through_a_relay_it_is_refused_too_and_the_relay_is_told_again() -> None:
    head = tree()
    remove(head, 3)
    head.looked()
    attached(head, 3, [0])
    assert not head.machine.context.below.mask >> 3 & 1
    assert ("n[0,2,6]", m.Barred([3, 3])) in head.commands(m.Barred)
    # The relay itself has done nothing wrong.
    assert head.links[0] in head.machine.context.below.by_link


def test_what_stands_below_it_is_placed_elsewhere_while_the_way_is_there() -> None:
    head = tree()
    link = head.links[0]
    remove(head, 0)
    places = [nodes for nodes, _ in head.commands(m.Place)]
    assert places == ["n2", "n3", "n6"]
    downs = [isinstance(item, CloseLink) for item in head.sent if getattr(item, "link", 0) == link]
    assert downs.index(True) == len(downs) - 1
    for _, place in head.commands(m.Place):
        path = m.decode_placement(m.decode_signed_placement(place.placement).placement).path
        assert 0 not in [hop.node for hop in path]


def test_a_number_that_is_given_anew_is_welcome() -> None:
    head = tree()
    remove(head, 1)
    remove(head)
    attached_again = HeadRig.connect(head, 1)
    assert refusals(head, attached_again) == []
    attached(head, 1, [])
    assert head.machine.members.up_mask >> 1 & 1


def test_a_new_head_refuses_it_from_the_start_and_ends_its_ranks() -> None:
    head = HeadRig(3, fanout=2, epoch=2)
    remove(head, 1)
    head.client()
    from heorot.core.tickets import seal_ticket
    from tests.core.rigs import held, sign, ticket

    attached(head, 0, [])
    launch = seal_ticket(sign, ticket("1.1", [0, 1, 1, 1], attended=False))
    head.up(0, m.Inventory(7, [held("1.1", [0, 100])], after="0.0", age_ms=1))
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    job = head.machine.jobs.jobs["1.1"]
    assert job.live_ranks_on(1) == []
    assert job.live_ranks_on(0) == [0]


def test_a_relay_closes_the_link_of_a_node_that_it_is_told_of() -> None:
    node = relay()
    node.down([0], m.Barred([2, 2]))
    assert [message.code for message in node.to(LEFT) if isinstance(message, m.Refused)] == ["removed"]
    assert node.closed(LEFT)
    assert not node.closed(RIGHT)
    gone = [message for message in node.to(node.uplink) if isinstance(message, m.Detached)]
    assert gone == [m.Detached([2, 2, 6, 6])]
    # Nor does it come again, as a child or for images.
    node.looked()
    node.child(2, 60)
    assert [message.code for message in node.to(60) if isinstance(message, m.Refused)] == ["removed"]


def test_a_relay_lets_it_through_no_child() -> None:
    node = relay()
    node.down([0], m.Barred([6, 6]))
    assert not node.closed(LEFT)
    assert [message for message in node.to(node.uplink) if isinstance(message, m.Detached)] == [m.Detached([6, 6])]
    node.looked()
    node.admit(LEFT, 6, [0, 2], order=9, parent=2)
    assert node.to(node.uplink) == []


def test_what_one_parent_has_said_does_not_outlast_it() -> None:
    node = relay()
    node.down([0], m.Barred([3, 3]))
    node.give(Received(node.uplink, m.Reattached(1)))
    node.looked()
    node.child(3, 61)
    assert not [message for message in node.to(61) if isinstance(message, m.Refused)]


def test_a_node_is_told_whom_not_to_let_in_by_nobody_below() -> None:
    rig = NodeRig(0)
    rig.attach()
    rig.down([0], m.Barred([4, 5]))
    assert rig.machine.context.outcasts.removed == NodeSet.of([4, 5]).mask


K1, K2 = b"1" * 16, b"2" * 16


def give_anew(head: HeadRig, node: int = 1) -> None:
    """Let the registry say that another host has this number now."""
    head.looked()
    head.give(NodesRemoved((), ((node, K2),), ((node, K1),)))


def greet(head: HeadRig, link: int, node: int, holder: bytes) -> list[str]:
    """Let a node with this certificate connect; return the codes with which it is refused."""
    head.give(LinkOpened(link, node, "", holder))
    head.give(Received(link, hello(node)))
    return refusals(head, link)


def test_who_had_a_number_before_stays_out_and_who_has_it_now_comes_in() -> None:
    head = HeadRig(3, fanout=2)
    give_anew(head)
    assert greet(head, 901, 1, K1) == ["removed"]
    assert greet(head, 902, 1, K2) == []
    # The registry knows no key of this one: it joined with an earlier release.
    assert greet(head, 903, 2, K1) == []


def test_a_number_that_is_given_anew_takes_out_who_is_there_under_it() -> None:
    head = HeadRig(3, fanout=2)
    head.give(NodesRemoved((), ((1, K1),)))
    assert greet(head, 901, 1, K1) == []
    head.links[1] = 901
    attached(head, 1, [])
    head.client()
    job = head.spawn("n1")
    give_anew(head)
    assert refusals(head, 901) == ["removed"]
    (lost,) = [message for message in head.told() if isinstance(message, c.Lost)]
    assert lost == c.Lost(job, [(0, 1, "n1 was removed from the cluster, and its number was given to another host")])
    assert greet(head, 902, 1, K2) == []
    head.links[1] = 902
    attached(head, 1, [])
    assert head.machine.members.up_mask >> 1 & 1


def test_a_relay_that_knows_nothing_lets_no_former_holder_in_for_the_head() -> None:
    head = HeadRig(8, fanout=2)
    attached(head, 0, [])
    give_anew(head, 3)
    assert head.commands(m.Barred) == [("n0", m.Barred([], [(3, K1)]))]

    def offer(holder: bytes) -> bool:
        hops = [m.Hop(0, "host0", 1)]
        placed = seal_placement(sign, m.Placement(CLUSTER, 3, hops, 1, 1, holder))
        head.orders += 1
        head.up(3, m.Attach(3, 7, "host3", 1, placed, parent=0, order=head.orders, heads=[]), head.links[0])
        return bool(head.machine.context.below.mask >> 3 & 1)

    # The place of the former holder, or one that an earlier release has signed.
    assert not offer(K1)
    assert not offer(b"")
    assert offer(K2)


def test_a_place_is_signed_for_the_holder_of_the_number() -> None:
    head = HeadRig(8, fanout=2)
    give_anew(head, 2)
    attached(head, 0, [])
    attached(head, 2, [])
    (placed,) = [place for nodes, place in head.commands(m.Place) if nodes == "n2"]
    assert m.decode_placement(m.decode_signed_placement(placed.placement).placement).holder == K2


def test_a_relay_lets_no_former_holder_of_a_number_in() -> None:
    node = relay()
    node.give(LinkOpened(60, 3, "", K1))
    node.give(Received(60, hello(3)))
    node.admit(60, 3, [0], order=2)
    node.looked()
    node.down([0], m.Barred([], [(3, K1)]))
    assert [message.code for message in node.to(60) if isinstance(message, m.Refused)] == ["removed"]
    assert node.closed(60)
    node.give(LinkOpened(61, 3, "", K1))
    node.give(Received(61, hello(3)))
    assert [message.code for message in node.to(61) if isinstance(message, m.Refused)] == ["removed"]
    node.give(LinkOpened(62, 3, "", K2))
    node.give(Received(62, hello(3)))
    assert not node.closed(62)


def test_a_node_goes_below_no_former_holder_of_a_number() -> None:
    node = NodeRig(6, placement=placement(6, [0, 2]), heads=1)
    node.attach(parent=2)
    node.down([6], m.Barred([], [(2, K1)]))
    node.give(LinkClosed(node.uplink, "cut"))
    wanted = node.wanted()
    assert wanted.host == "host2"
    node.give(LinkOpened(70, 2, wanted.key, K1))
    assert node.closed(70)
    assert node.machine.uplink.link is None


@pytest.mark.parametrize("parent", [HEAD, 0])
def test_a_node_that_was_removed_sends_away_who_stands_below_it(parent: int) -> None:
    # Whoever says so: a relay that refuses it leaves it without a way to a head, too.
    node = NodeRig(2, placement=placement(2, [0] if parent == 0 else []))
    node.attach(parent)
    node.child(6, LEFT)
    node.admit(LEFT, 6, [0, 2], parent=2)
    node.looked()
    node.give(Received(node.uplink, m.Refused("removed", "n2 was removed from the cluster")))
    assert [message.code for message in node.to(LEFT) if isinstance(message, m.Refused)] == ["relay-removed"]
    assert node.closed(LEFT)
    # So is whoever comes with an old place.
    node.give(LinkOpened(60, 6))
    assert [message.code for message in node.to(60) if isinstance(message, m.Refused)] == ["relay-removed"]
    # If it belongs to the cluster again, so do they.
    if parent == HEAD:
        node.give(TimerFired(RetryDue()))
    node.attach(HEAD)
    node.child(6, 61)
    assert not node.closed(61)


def test_who_is_sent_away_by_a_removed_node_goes_where_its_place_leads_besides() -> None:
    node = NodeRig(6, placement=placement(6, [0, 2]))
    link = node.attach(parent=2)
    node.looked()
    node.give(Received(link, m.Refused("relay-removed", "n2 was removed from the cluster")))
    assert node.closed(link)
    assert node.wanted().host == "host0"
    node.attach(parent=0)
    (attach,) = [m.decode_node_payload(up.payload) for up in node.to(node.uplink) if isinstance(up, m.Up)][:1]
    assert isinstance(attach, m.Attach)
    assert attach.placement == placement(6, [0, 2])
    # It asks the removed one no more, until a head places it there again.
    node.looked()
    node.now += 10_000
    node.give(LinkClosed(node.uplink, "cut"))
    asked = []
    for _ in range(2):
        asked.append(node.wanted().host)
        node.give(ConnectFailed(node.wanted().key, "refused"))
    assert asked == ["host0", "head0"]
    node.give(TimerFired(RetryDue()))
    assert node.wanted().host == "host0"
    node.attach(parent=0)
    node.down([6], m.Place(placement(6, [0, 2], serial=2)))
    assert node.wanted().host == "host2"


def test_a_job_that_its_client_hands_over_has_no_rank_on_a_node_that_was_removed() -> None:
    former = HeadRig(2)
    for node in (0, 1):
        attached(former, node, [])
    former.client()
    ask = spawn_of(1, "n[0-1]", key=b"k" * 16)
    former.ask(ask)
    (spawned,) = [message for message in former.told() if isinstance(message, c.Spawned)]
    head = HeadRig(2, epoch=2)
    remove(head, 1)
    attached(head, 0, [])
    head.client()
    head.ask(replace(ask, again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
    assert head.machine.jobs.jobs[spawned.job].live_ranks_on(1) == []
