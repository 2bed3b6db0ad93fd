"""Programs of detached jobs: who keeps them beside the head, and how the next head has them from there."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.images import SILENT_LOOKS
from heorot.core.head.safekeeping import LOOK_MS, PATIENCE_MS
from heorot.core.head.timers import SafekeepingDue, SeekDue
from heorot.core.machine import (
    CacheFailed,
    ChunksGone,
    Examine,
    Examined,
    Forget,
    KeepManifest,
    LinkClosed,
    Received,
    Send,
    SendChunks,
    SendManifest,
    TimerFired,
)
from heorot.core.node.images import KEEP_MS
from heorot.core.node.timers import ClaimsDue
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import images as i
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import LEFT, HeadRig, NodeRig, placement, relay, sign, ticket
from tests.images.samples import Sample

SAMPLE = Sample({b"/bin/program": b"x" * 150_000})
IMAGE = SAMPLE.image
ALL = [0, SAMPLE.layout.chunks]


def spawn(request: int, nodes: int, program_id: bytes) -> c.Spawn:
    """Return a request for a detached job of a sent program on so many nodes; without an id it is always sent."""
    listed = ",".join(map(str, range(nodes)))
    names: dict[str, Any] = {"image": IMAGE, "program": b"/bin/program", "program_id": program_id}
    return spawn_of(request, listed, detached=True, **names)


def launched(nodes: int = 3, *, always_sent: bool = False) -> HeadRig:
    """Return a head that was asked for a detached job of a sent program on all nodes, of which the last has it."""
    rig = HeadRig(nodes)
    for node in range(nodes):
        rig.attach(node)
    rig.client()
    rig.ask(spawn(1, nodes, b"" if always_sent else SAMPLE.layout.id_of(0)))
    rig.confirm()
    return rig


def to(rig: HeadRig | NodeRig, kind: type[Any]) -> list[tuple[int, Any]]:
    """Return what of a kind was sent, with its links, since it was looked at last."""
    found = [(item.link, item.message) for item in rig.sent if isinstance(item, Send) and type(item.message) is kind]
    rig.looked()
    return found


def acknowledged(rig: HeadRig) -> bool:
    return c.Spawned in rig.kinds()


def test_a_detached_job_is_acknowledged_when_a_node_keeps_its_program() -> None:
    rig = launched()
    assert not acknowledged(rig), "a node has the launch, and only the head the program"
    rig.looked()
    rig.give(Received(rig.links[2], i.Want(IMAGE, manifest=True, chunks=[])))
    assert to(rig, i.KeepImage) == [(rig.links[0], i.KeepImage(IMAGE)), (rig.links[1], i.KeepImage(IMAGE))]
    rig.give(Received(rig.links[2], i.ImageKept(IMAGE)))
    assert not acknowledged(rig), "it was not asked"
    rig.give(Received(rig.links[0], i.ImageKept(IMAGE)))
    assert acknowledged(rig)


def test_what_every_node_has_is_kept_by_nobody() -> None:
    rig = launched(2)
    rig.report(0, "1.1", started=[0, 10])
    assert not acknowledged(rig)
    rig.report(1, "1.1", started=[1, 11])
    assert acknowledged(rig)
    rig.wait(PATIENCE_MS, SafekeepingDue())
    assert to(rig, i.KeepImage) == []


def test_what_has_to_travel_is_kept_at_once() -> None:
    rig = launched(2, always_sent=True)
    assert [link for link, _ in to(rig, i.KeepImage)] == [rig.links[0], rig.links[1]]
    rig.give(Received(rig.links[1], i.ImageKept(IMAGE)))
    assert acknowledged(rig)


def test_what_a_node_has_lacked_before_is_kept_at_once() -> None:
    rig = launched(2)
    rig.give(Received(rig.links[1], i.Want(IMAGE, manifest=True, chunks=[])))
    for node in range(2):
        rig.report(node, "1.1", started=[node, 10 + node])
    rig.wait(LOOK_MS, SafekeepingDue())
    assert to(rig, i.KeepImage)[-1] == (rig.links[1], i.KeepImage(IMAGE, keep=False))
    rig.ask(spawn(2, 2, program_id=SAMPLE.layout.id_of(0)))
    assert [link for link, _ in to(rig, i.KeepImage)] == [rig.links[0], rig.links[1]]


def test_a_rank_that_is_not_heard_of_has_the_program_kept_after_a_while() -> None:
    rig = launched(2)
    rig.report(0, "1.1", started=[0, 10])
    rig.looked()
    rig.wait(PATIENCE_MS, SafekeepingDue())
    assert [link for link, _ in to(rig, i.KeepImage)] == [rig.links[0], rig.links[1]]


def test_a_rank_that_is_given_up_needs_no_program() -> None:
    rig = launched(2)
    rig.report(0, "1.1", started=[0, 10])
    rig.up(1, m.SpaceGone(7))
    assert acknowledged(rig)


def test_a_node_that_has_gone_proves_nothing() -> None:
    rig = launched(2)
    rig.up(1, m.SpaceGone(7))
    rig.looked()
    rig.give(Received(rig.links[0], i.Want(IMAGE, manifest=True, chunks=[])))
    rig.give(Received(rig.links[0], i.ImageKept(IMAGE)))
    assert not acknowledged(rig), "the only node that had the launch is gone"
    rig.up(0, m.LaunchCopy("1.1", b"ticket", b"signature"))
    assert acknowledged(rig)


def test_a_keeper_that_refuses_or_is_lost_is_replaced_and_all_are_let_go_in_the_end() -> None:
    rig = launched(4)
    rig.looked()
    rig.wait(PATIENCE_MS, SafekeepingDue())
    assert [link for link, _ in to(rig, i.KeepImage)] == [rig.links[0], rig.links[1]]
    rig.give(Received(rig.links[0], i.ImageKept(IMAGE, "its cache is full")))
    gone = rig.links[1]
    rig.close(1)
    rig.looked()
    rig.wait(LOOK_MS, SafekeepingDue())
    assert [link for link, _ in to(rig, i.KeepImage)] == [rig.links[2], rig.links[3]]
    assert gone not in rig.links.values()
    for node in (0, 2, 3):
        rig.report(node, "1.1", started=[node, 10 + node])
    rig.attach(1)
    rig.report(1, "1.1", started=[1, 11])
    rig.looked()
    rig.wait(LOOK_MS, SafekeepingDue())
    assert to(rig, i.KeepImage) == [(rig.links[node], i.KeepImage(IMAGE, keep=False)) for node in (2, 3)]


# ---------------------------------------------------------------------- the next head


def successor(nodes: int = 3) -> HeadRig:
    """Return a head that has taken over a detached job of an earlier one; the last node asks it for the program."""
    rig = HeadRig(nodes, epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, nodes], attended=False, image=IMAGE))
    for node in range(nodes - 1):
        rig.attach(node, [m.JobInventory("1.1", [], [], [], 0)])
    rig.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    rig.attach(nodes - 1, [m.JobInventory("1.1", [], [], [], 0)])
    rig.looked()
    rig.give(Received(rig.links[nodes - 1], i.Want(IMAGE, manifest=True, chunks=[])))
    rig.give(Examined(IMAGE, b"", []))
    return rig


def asked(rig: HeadRig) -> list[tuple[int, bool, list[int]]]:
    return [(link, want.manifest, want.chunks) for link, want in to(rig, i.Want)]


def test_the_next_head_has_the_program_from_the_first_child_that_has_it() -> None:
    rig = successor()
    assert asked(rig) == [(rig.links[0], True, [])]
    rig.give(Received(rig.links[0], i.Unavailable(IMAGE, "it is not all here")))
    assert asked(rig) == [(rig.links[1], True, [])]
    rig.give(Received(rig.links[1], i.ImageManifest(IMAGE, SAMPLE.encoded)))
    assert any(isinstance(item, KeepManifest) for item in rig.sent)
    rig.give(Received(rig.links[2], i.Want(IMAGE, manifest=False, chunks=ALL)))
    rig.looked()
    rig.give(Examined(IMAGE, SAMPLE.encoded, []))
    assert asked(rig) == [(rig.links[1], False, ALL)]
    chunks = [SAMPLE.chunk(number) for number in range(SAMPLE.layout.chunks)]
    rig.give(Received(rig.links[1], i.Piece(IMAGE, 0, chunks)))
    assert [item.link for item in rig.sent if isinstance(item, SendChunks)][:1] == [rig.links[2]]
    assert to(rig, i.Took) == [(rig.links[1], i.Took(IMAGE, 150_000))]


def test_a_child_that_sends_what_is_wrong_is_left_and_one_that_was_not_asked_is_not_heard() -> None:
    rig = successor()
    rig.give(Received(rig.links[0], i.ImageManifest(IMAGE, SAMPLE.encoded)))
    rig.give(Received(rig.links[2], i.Want(IMAGE, manifest=False, chunks=ALL)))
    rig.give(Examined(IMAGE, SAMPLE.encoded, []))
    rig.looked()
    for _ in range(20):
        rig.give(Received(rig.links[1], i.Piece(IMAGE, 0, [b"wrong"])))
    assert rig.sent == [Send(rig.links[1], i.Took(IMAGE, 5))] * 20
    rig.looked()
    rig.give(Received(rig.links[0], i.Piece(IMAGE, 0, [b"wrong"])))
    assert asked(rig)[-1] == (rig.links[1], False, ALL)


def test_a_child_that_is_lost_or_says_nothing_does_not_hold_up_the_others() -> None:
    rig = successor()
    rig.looked()
    rig.close(0)
    assert asked(rig) == [(rig.links[1], True, [])]
    for _ in range(SILENT_LOOKS + 1):
        rig.wait(LOOK_MS, SeekDue())
    assert asked(rig) == [(rig.links[2], True, [])]


def test_the_program_is_given_up_when_nobody_has_it_and_no_node_is_on_its_way() -> None:
    rig = successor()
    for node in range(3):
        rig.give(Received(rig.links[node], i.Unavailable(IMAGE, "it is not all here")))
    ((link, answer),) = to(rig, i.Unavailable)
    assert link == rig.links[2]
    assert answer.text.endswith(": launch it again on these nodes")


def test_a_node_that_is_still_on_its_way_is_waited_for_and_asked() -> None:
    rig = HeadRig(3, epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, 3], attended=False, image=IMAGE))
    for node in range(2):
        rig.attach(node, [m.JobInventory("1.1", [], [], [], 0)])
    rig.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    rig.give(Received(rig.links[1], i.Want(IMAGE, manifest=True, chunks=[])))
    rig.give(Examined(IMAGE, b"", []))
    for node in range(2):
        rig.give(Received(rig.links[node], i.Unavailable(IMAGE, "it is not all here")))
    assert to(rig, i.Unavailable) == []
    rig.attach(2, [m.JobInventory("1.1", [], [], [], 0)])
    rig.looked()
    rig.wait(LOOK_MS, SeekDue())
    assert asked(rig) == [(rig.links[2], True, [])]


# ---------------------------------------------------------------------- a keeper


def keeper(chunks: list[int]) -> NodeRig:
    """Return a node below a head, in whose cache these chunks of the image are, and which was asked to keep it."""
    node = NodeRig(0)
    node.attach()
    node.give(Received(node.uplink, i.KeepImage(IMAGE)))
    node.give(Examined(IMAGE, SAMPLE.encoded if chunks else b"", chunks))
    return node


def sent_up(node: NodeRig, kind: type[Any]) -> list[Any]:
    return [message for link, message in to(node, kind) if link == node.uplink]


def test_a_keeper_fetches_what_it_lacks_says_so_and_keeps_it_until_it_is_let_go() -> None:
    node = keeper([])
    assert sent_up(node, i.Want) == [i.Want(IMAGE, True, [], swarms=True)]
    node.give(Received(node.uplink, i.ImageManifest(IMAGE, SAMPLE.encoded)))
    node.give(Examined(IMAGE, SAMPLE.encoded, []))
    node.looked()
    chunks = [SAMPLE.chunk(number) for number in range(SAMPLE.layout.chunks)]
    node.give(Received(node.uplink, i.Piece(IMAGE, 0, chunks)))
    assert sent_up(node, i.ImageKept) == [i.ImageKept(IMAGE)]
    node.give(Received(node.uplink, i.KeepImage(IMAGE, keep=False)))
    assert [item for item in node.sent if isinstance(item, Forget)] == [Forget(IMAGE)]


def test_a_keeper_that_cannot_have_it_says_why() -> None:
    node = keeper([])
    node.give(CacheFailed(IMAGE, "the cache is full"))
    assert sent_up(node, i.ImageKept) == [i.ImageKept(IMAGE, "the cache is full")]
    assert not node.machine.images.transfers.transfers


def test_a_keeper_waits_for_the_next_head_to_ask_for_it_but_not_for_ever() -> None:
    node = keeper(ALL)

    def lets_go_after(ms: int) -> bool:
        node.now += ms
        return Forget(IMAGE) in node.give(TimerFired(ClaimsDue()))

    for _ in range(2):
        assert not lets_go_after(2 * KEEP_MS), "its head is there"
        node.give(LinkClosed(node.uplink, "lost"))
        assert not lets_go_after(2 * KEEP_MS), "there is no head"
        node.attach()
        node.give(Received(node.uplink, i.KeepImage(IMAGE)))
    assert not lets_go_after(2 * KEEP_MS)
    node.give(LinkClosed(node.uplink, "lost"))
    node.attach()
    assert not lets_go_after(KEEP_MS - 1)
    assert lets_go_after(1)


def test_a_head_is_sent_what_is_whole() -> None:
    node = keeper(ALL)
    node.give(Received(node.uplink, i.Want(IMAGE, manifest=True, chunks=[], swarms=True)))
    node.give(Received(node.uplink, i.Want(IMAGE, manifest=False, chunks=ALL)))
    assert [item.link for item in node.sent if isinstance(item, SendManifest)] == [node.uplink]
    assert {item.link for item in node.sent if isinstance(item, SendChunks)} == {node.uplink}


def test_a_head_is_refused_what_is_not_whole_and_nobody_is_asked_for_it() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.give(Received(node.uplink, i.Want(IMAGE, manifest=True, chunks=[])))
    assert [type(item) for item in node.sent] == [Examine]
    node.looked()
    node.give(Examined(IMAGE, SAMPLE.encoded, [0, 1]))
    assert sent_up(node, m.Message) == []
    node.give(Received(node.uplink, i.Want(IMAGE, manifest=True, chunks=[])))
    node.give(Examined(IMAGE, b"", []))
    assert sent_up(node, i.Unavailable) == [i.Unavailable(IMAGE, "it is not all here")]
    assert not node.machine.images.transfers.transfers


def test_a_head_does_not_wait_for_a_cache_that_has_rotted() -> None:
    node = keeper(ALL)
    node.give(Received(node.uplink, i.Want(IMAGE, manifest=False, chunks=ALL)))
    (send, *_) = [item for item in node.sent if isinstance(item, SendChunks)]
    node.looked()
    node.give(ChunksGone(IMAGE, node.uplink, send.first, send.count, ALL))
    ups = [item.message for item in node.sent if isinstance(item, Send) and item.link == node.uplink]
    assert [type(message) for message in ups] == [i.Unavailable, i.Want]
    assert isinstance(ups[1], i.Want)
    assert ups[1].chunks == ALL


@pytest.mark.parametrize("message", [i.KeepImage(IMAGE), i.Want(IMAGE, True, []), i.Took(IMAGE, 1)])
def test_only_a_head_may_ask_a_node_for_images(message: m.LinkMessage) -> None:
    node = NodeRig(6, placement=placement(6, [2]))
    node.attach(2)
    with pytest.raises(ProtocolError, match=f"a parent may not say {type(message).__name__} to a node"):
        node.give(Received(node.uplink, message))


def test_only_a_head_is_told_what_is_kept() -> None:
    with pytest.raises(ProtocolError, match="a child may not say ImageKept to a node"):
        relay().from_child(LEFT, i.ImageKept(IMAGE))
