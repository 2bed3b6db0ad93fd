"""The list of heads: who is told it, when, and what a node makes of it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from heorot.core.head.list_of_heads import head_list_row, head_rows
from heorot.core.head.timers import RivalsDue
from heorot.core.machine import Connect, HeadsKnown, Kept, LinkClosed, Log, Received, SetTimer, TimerFired
from heorot.core.node.known_heads import KEEP_AGAIN_MS, NAME
from heorot.core.node.timers import AnotherDue, KeepHeadsDue
from heorot.core.tickets import seal_heads
from heorot.core.timers import AwakeDue
from heorot.core.wire import tree as m
from heorot.core.wire.rows import ForeignHeadList, HeadEntry, HeadListRow, HeadRow
from tests.core.rigs import CLUSTER, HEAD, LEFT, RIGHT, HeadRig, NodeRig, placement, relay, sign

OLD = m.HeadAddress("h0", "head0", 1)
NEW = m.HeadAddress("h1", "fresh", 2)


def listed(*heads: m.HeadAddress, alive: tuple[str, ...] = ("h0",)) -> HeadsKnown:
    """Return the keeper's word that these are the heads."""
    return HeadsKnown(
        tuple((name, "active" if name == "h0" else "standby") for name in alive), "etcd", True, 0, None, "", heads
    )


def telling(*heads: m.HeadAddress, epoch: int = 1, revision: int = 1, cluster: str = CLUSTER) -> m.TellHeads:
    """Return a list as a head of this epoch signs it."""
    return seal_heads(sign, m.HeadList(cluster, epoch, revision, list(heads)))


# ------------------------------------------------------------------ the head


def told(head: HeadRig) -> list[tuple[str, list[str], int]]:
    """Return who was told of which heads, and the revision; forget it."""
    found = []
    for nodes, command in head.commands(m.TellHeads):
        listing = m.decode_head_list(command.listing)
        found.append((nodes, [one.name for one in listing.heads], listing.revision))
    head.looked()
    return found


def offer(head: HeadRig, node: int, heads: list[m.HeadAddress] | None, below: tuple[int, ...] = ()) -> None:
    """Let a node attach that keeps these heads; None: it is of an older release."""
    head.orders += 1
    top = below[0] if below else node
    link = head.links[top] if top in head.links else head.connect(top)
    placed = placement(node, below, head.machine.config.epoch) if below else b""
    parent = below[-1] if below else HEAD
    attach = m.Attach(node, 7, f"host{node}", 1, placed, parent=parent, order=head.orders, heads=heads)
    head.up(node, attach, link)
    head.up(node, m.Inventory(7, [], after="0.0", age_ms=3_600_000), link)


def test_a_node_that_attaches_is_told_of_heads_that_it_does_not_keep() -> None:
    head = HeadRig(3)
    head.give(listed(OLD, NEW))
    head.looked()
    offer(head, 0, [])
    assert told(head) == [("n0", ["h0", "h1"], 1)]
    offer(head, 1, [OLD])
    assert told(head) == [("n1", ["h0", "h1"], 1)]
    offer(head, 2, [OLD, NEW])
    assert told(head) == []


def test_a_node_that_keeps_an_older_list_which_was_late_is_told_the_newest_again() -> None:
    head = HeadRig(1)
    head.give(listed(OLD))
    offer(head, 0, [OLD])
    head.give(listed(OLD, NEW))
    head.give(listed(OLD))
    # What it was told over the former link is still on its way.
    offer(head, 0, [OLD])
    head.looked()
    head.up(0, m.HeadsKept(1, 2))
    assert told(head) == [("n0", ["h0"], 3)]
    assert head_list_row(head.machine.context).others != []
    head.up(0, m.HeadsKept(1, 2))
    assert told(head) == []
    head.up(0, m.HeadsKept(1, 3))
    assert head_list_row(head.machine.context).others == []
    # Who has only not kept the newest one yet is told nothing twice.
    head.give(listed(OLD, NEW))
    head.looked()
    head.up(0, m.HeadsKept(1, 3))
    assert told(head) == []


def test_all_nodes_are_told_of_a_head_that_is_added_and_of_one_that_is_removed() -> None:
    head = HeadRig(3, fanout=2)
    head.give(listed(OLD))
    for node, below in ((0, ()), (1, ()), (2, (0,))):
        offer(head, node, [OLD], below)
    assert told(head) == []
    head.give(listed(OLD, NEW))
    assert told(head) == [("n[0,2]", ["h0", "h1"], 2), ("n1", ["h0", "h1"], 2)]
    head.give(listed(OLD, NEW, alive=("h0", "h1")))
    assert told(head) == []
    head.give(listed(NEW))
    assert told(head) == [("n[0,2]", ["h1"], 3), ("n1", ["h1"], 3)]


def test_who_is_about_to_keep_a_list_that_was_taken_back_is_told_the_former_one_again() -> None:
    head = HeadRig(1)
    head.give(listed(OLD))
    offer(head, 0, [OLD])
    head.give(listed(OLD, NEW))
    head.looked()
    head.give(listed(OLD))
    assert told(head) == [("n0", ["h0"], 3)]
    assert len(head_list_row(head.machine.context).others) == 1
    # Its disk was full; it keeps the second list now, the third one is on its way.
    head.up(0, m.HeadsKept(1, 2))
    assert len(head_list_row(head.machine.context).others) == 1
    head.up(0, m.HeadsKept(1, 3))
    assert head_list_row(head.machine.context).others == []


def test_a_node_that_is_about_to_keep_another_list_says_that_it_is_sure_of_none() -> None:
    node = NodeRig(0)
    node.attach()
    node.down([0], telling(OLD, revision=1))
    node.disk = "full"
    node.down([0], telling(OLD, NEW, revision=2))
    node.looked()
    node.give(Received(node.uplink, m.Reattached(1)))
    offers = [m.decode_node_payload(up.payload) for up in node.to(node.uplink) if isinstance(up, m.Up)]
    assert [offer.heads for offer in offers if isinstance(offer, m.Attach)] == [[]]


def test_a_node_of_an_older_release_is_told_nothing() -> None:
    head = HeadRig(1)
    head.give(listed(OLD, NEW))
    offer(head, 0, None)
    head.give(listed(OLD))
    assert told(head) == []
    assert head_list_row(head.machine.context).others == [ForeignHeadList([0], None)]


def test_a_keeper_that_does_not_say_which_heads_there_are_changes_nothing() -> None:
    head = HeadRig(1)
    offer(head, 0, [OLD])
    head.give(listed(OLD, NEW))
    assert len(told(head)) == 1
    head.give(listed())
    assert told(head) == []
    assert [one.name for one in head_list_row(head.machine.context).heads] == ["h0", "h1"]


def test_status_says_which_nodes_keep_other_heads_until_they_have_kept_these() -> None:
    head = HeadRig(3)
    head.give(listed(OLD))
    for node in range(3):
        offer(head, node, [OLD])
    assert head_list_row(head.machine.context) == HeadListRow([HeadEntry("h0", "head0:1")], [])
    head.give(listed(OLD, NEW))
    old = [HeadEntry("h0", "head0:1")]
    assert head_list_row(head.machine.context).others == [ForeignHeadList([0, 1, 2], old)]
    head.up(1, m.HeadsKept(1, 2))
    head.up(2, m.HeadsKept(1, 1))
    head.up(0, m.HeadsKept(0, 2))
    assert head_list_row(head.machine.context).others == [ForeignHeadList([0, 2], old)]
    head.up(2, m.HeadsKept(1, 2))
    # One that is away counts, too: it will need a head.
    head.close(0)
    assert head_list_row(head.machine.context).others == [ForeignHeadList([0], old)]


def test_status_names_heads_that_are_listed_and_not_there() -> None:
    head = HeadRig(0, pid=5)
    head.give(listed(OLD, NEW, m.HeadAddress("", "nameless", 3), alive=("h0", "h7")))
    assert head_rows(head.machine.context) == [
        HeadRow("h0", "active", 5, "head0:1"),
        HeadRow("h1", "absent", address="fresh:2"),
        HeadRow("h7", "standby"),
    ]


def test_a_head_that_is_added_is_told_the_epoch_and_takes_certainty_away() -> None:
    head = HeadRig(0, epoch=5)
    head.give(HeadsKnown((("h0", "active"),), "etcd", True, 0, 0, "", (OLD,)))
    head.now = 10
    assert head.machine.context.tenure.is_certain(head.now)
    assert [item for item in head.sent if isinstance(item, Connect)] == []
    head.give(HeadsKnown((("h0", "active"),), "etcd", False, 0, 0, "", (OLD, NEW)))
    assert not head.machine.context.tenure.is_certain(head.now)
    (asked,) = [item for item in head.sent if isinstance(item, Connect)]
    assert (asked.host, asked.port) == ("fresh", 2)
    head.looked()
    head.give(HeadsKnown((("h0", "active"),), "etcd", False, 0, 0, "", (OLD,)))
    head.wait(1_000, RivalsDue())
    assert [item for item in head.sent if isinstance(item, Connect)] == []
    assert [item.key for item in head.sent if isinstance(item, SetTimer)] == [AwakeDue()]


# ------------------------------------------------------------------ the node


def cut(node: NodeRig) -> list[str]:
    """Cut the way up; return which hosts are tried in the round that follows."""
    node.now += 10_000
    node.looked()
    node.give(LinkClosed(node.uplink, "cut"))
    found: list[str] = []
    for _ in range(8):
        found += [item.host for item in node.sent if isinstance(item, Connect)]
        node.looked()
        node.now += 1_000
        node.give(TimerFired(AnotherDue()))
    return found


def answers(node: NodeRig) -> list[Any]:
    """Return what the node has told the head of lists that it keeps."""
    payloads = [m.decode_node_payload(up.payload) for up in node.to(node.uplink) if isinstance(up, m.Up)]
    return [payload for payload in payloads if isinstance(payload, m.HeadsKept)]


def test_a_node_tries_the_heads_that_it_was_told_of_before_those_of_its_configuration() -> None:
    node = NodeRig(0, heads=1)
    node.attach()
    node.down([0], telling(OLD, NEW, revision=3))
    assert answers(node) == [m.HeadsKept(1, 3)]
    assert cut(node) == ["head0", "fresh"]
    node = NodeRig(0, heads=2)
    node.attach()
    node.down([0], telling(NEW))
    assert cut(node) == ["fresh", "head0", "head1"]


def test_what_was_kept_is_known_after_a_restart_and_said_when_attaching() -> None:
    node = NodeRig(0)
    node.attach()
    node.down([0], telling(OLD, NEW))
    kept = node.remembered(NAME)
    assert kept is not None
    again = NodeRig(0, head_list=kept)
    again.attach()
    offers = [m.decode_node_payload(up.payload) for up in again.to(again.uplink) if isinstance(up, m.Up)]
    assert [offer.heads for offer in offers if isinstance(offer, m.Attach)] == [[OLD, NEW]]
    assert cut(again) == ["head0", "fresh"]


def test_a_list_that_is_damaged_on_the_disk_is_said_and_the_configuration_counts() -> None:
    for damaged in (b"\x00", m.encode(replace(telling(NEW), signature=b"no")), m.encode(telling(NEW, cluster="x"))):
        node = NodeRig(0, head_list=damaged)
        node.attach()
        assert cut(node) == ["head0"]


def test_an_older_list_does_not_replace_a_newer_one() -> None:
    node = NodeRig(0)
    node.attach(epoch=2)
    node.down([0], telling(OLD, NEW, epoch=2, revision=5), epoch=2)
    node.looked()
    # A relay may repeat in a command of the present epoch what a head has said before.
    node.down([0], telling(OLD, epoch=2, revision=4), epoch=2)
    node.down([0], telling(OLD, epoch=1, revision=9), epoch=2)
    assert (answers(node), node.remembered(NAME)) == ([], None)
    assert cut(node) == ["head0", "fresh"]


def test_a_list_that_no_head_has_signed_is_refused() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    forged = replace(telling(NEW), signature=b"made up")
    foreign = telling(NEW, cluster="another")
    placed = m.decode_signed_placement(placement(0, [1]))
    for bad in (forged, foreign, m.TellHeads(placed.placement, placed.signature)):
        node.down([0], bad)
    said = [item.text for item in node.sent if isinstance(item, Log) and item.level == "error"]
    assert len(said) == 3
    assert (answers(node), node.remembered(NAME)) == ([], None)
    assert cut(node) == ["head0"]


def test_a_list_of_a_higher_epoch_raises_the_epoch_first_as_it_is_signed() -> None:
    node = NodeRig(2, placement=placement(2, [0]))
    node.attach(parent=0)
    node.down([2], telling(OLD, epoch=4), epoch=4)
    assert node.machine.epoch == 4
    assert (node.remembered("epoch"), answers(node)) == (b"4", [m.HeadsKept(4, 1)])


def test_a_list_is_used_at_once_and_told_when_it_is_on_the_disk() -> None:
    node = NodeRig(0)
    node.attach()
    node.disk = "full"
    node.down([0], telling(OLD, NEW))
    assert answers(node) == []
    assert SetTimer(KeepHeadsDue(), node.now + KEEP_AGAIN_MS) in node.sent
    assert node.machine.uplink.heads == (("head0", 1), ("fresh", 2))
    node.disk = "quick"
    node.now += KEEP_AGAIN_MS
    node.give(TimerFired(KeepHeadsDue()))
    assert answers(node) == [m.HeadsKept(1, 1)]
    node.looked()
    node.give(TimerFired(KeepHeadsDue()))
    assert node.remembered(NAME) is None


def test_of_lists_that_come_while_one_is_being_written_the_newest_is_written_next() -> None:
    node = NodeRig(0)
    node.attach()
    node.disk = "slow"
    first, newest = telling(OLD, revision=1), telling(NEW, revision=3)
    for told in (first, telling(OLD, NEW, revision=2), newest):
        node.down([0], told)
    assert node.remembered(NAME) == m.encode(first)
    node.looked()
    node.give(Kept(NAME, m.encode(first), ""))
    assert (answers(node), node.remembered(NAME)) == ([m.HeadsKept(1, 1)], m.encode(newest))
    node.looked()
    node.give(Kept(NAME, m.encode(newest), ""))
    assert (answers(node), node.remembered(NAME)) == ([m.HeadsKept(1, 3)], None)


def test_an_answer_that_was_lost_is_given_again() -> None:
    node = NodeRig(0)
    node.attach()
    for _ in range(2):
        node.down([0], telling(OLD))
    assert answers(node) == [m.HeadsKept(1, 1)] * 2
    assert sum(getattr(item, "name", "") == NAME for item in node.sent) == 1


def test_a_relay_passes_the_list_on_to_those_below_it_whom_it_is_for() -> None:
    node = relay()
    node.down([0, 3, 6], telling(OLD, NEW))
    assert answers(node) == [m.HeadsKept(1, 1)]
    assert [(message.nodes, m.tag_of(message.payload)) for message in node.to(LEFT)] == [([6, 6], 36)]
    assert [(message.nodes, m.tag_of(message.payload)) for message in node.to(RIGHT)] == [([3, 3], 36)]
