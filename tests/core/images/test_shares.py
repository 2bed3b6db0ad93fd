"""Who gets what there is of images on their way when somebody asks for more than there are."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.head.offers import MUTE_LOOKS
from heorot.core.head.safekeeping import LOOK_MS
from heorot.core.head.timers import SeekDue
from heorot.core.images.manifest import MAX_CHUNKS, Entry, Manifest, encode_manifest, image_id
from heorot.core.images.shares import name_of_origin, origin_of, origin_to_tell, peer_origin
from heorot.core.machine import Examined, LinkOpened, Received, Send
from heorot.core.wire import clients as c
from heorot.core.wire import images as i
from tests.core.head.test_quotas import ALICE, BOB, OWNER, enter
from tests.core.launches import spawn_of
from tests.core.rigs import LEFT, RIGHT, HeadRig, hello, relay

PEER = 61
TOO_MANY = 4_500
MANIFEST = encode_manifest(Manifest([Entry(b"/bin/program", 0, 0o755, 0, b"")], b"/bin/program"))


def name(number: int, kind: int = 0) -> bytes:
    """Return the name of an image that nobody has."""
    return kind.to_bytes(4, "big") + number.to_bytes(28, "big")


def refused(rig: Any, link: int) -> list[bytes]:
    """Return the images that this neighbour is told it cannot have."""
    return [message.image for message in sent(rig, link) if isinstance(message, i.Unavailable)]


def sent(rig: Any, link: int) -> list[Any]:
    return [item.message for item in rig.sent if isinstance(item, Send) and item.link == link]


# ---------------------------------------------------------------------- what nodes ask for


def test_a_node_that_asks_for_whatever_it_likes_leaves_room_for_others() -> None:
    node = relay()
    for number in range(TOO_MANY):
        node.from_child(LEFT, i.Want(name(number), True, []))
    flood = refused(node, LEFT)
    for number in range(1_024):
        node.from_child(RIGHT, i.Want(name(number, 1), True, []))
    assert refused(node, RIGHT) == []
    assert len(node.machine.images.transfers) == 2_048
    assert len(refused(node, LEFT)) == len(flood) + 1_024


def test_a_hop_says_for_whom_it_asks_so_that_its_own_needs_are_not_counted_for_another() -> None:
    head = HeadRig(3, fanout=2)
    head.attach(0)
    head.attach(2, below=[0])
    for number in range(TOO_MANY):
        head.give(Received(head.links[0], i.Want(name(number), True, [], origin=2)))
    head.looked()
    for number in range(1_000):
        head.give(Received(head.links[0], i.Want(name(number, 1), True, [])))
    gone = refused(head, head.links[0])
    assert len(gone) == 1_000
    assert not [image for image in gone if image >= name(0, 1)]


def test_a_relay_tells_its_parent_for_whom_it_asks() -> None:
    node = relay()
    for link, origin, number in ((LEFT, -1, 1), (LEFT, 6, 2), (RIGHT, 6, 3), (RIGHT, 3, 4)):
        node.from_child(link, i.Want(name(number), True, [], origin=origin))
        node.give(Examined(name(number), b"", []))
    asked = [message for message in sent(node, node.uplink) if isinstance(message, i.Want)]
    assert [want.origin for want in asked] == [2, 6, 3, 3], "n3 asks in the name of one that is not below it"


def test_a_peer_takes_nothing_from_those_whose_peer_it_is() -> None:
    node = relay()
    node.give(LinkOpened(PEER, 4))
    node.give(Received(PEER, replace(hello(4), peer=True)))
    node.from_child(PEER, i.Want(name(1), True, []))
    node.give(Examined(name(1), b"", []))
    (want,) = (message for message in sent(node, node.uplink) if isinstance(message, i.Want))
    head = HeadRig(3, fanout=2)
    head.attach(0)
    for number in range(TOO_MANY):
        head.give(Received(head.links[0], i.Want(name(number), True, [], origin=want.origin)))
    head.looked()
    for number in range(1_000):
        head.give(Received(head.links[0], i.Want(name(number, 1), True, [])))
    gone = refused(head, head.links[0])
    assert len(gone) == 1_000
    assert not [image for image in gone if image >= name(0, 1)]


def test_what_is_counted_has_a_name() -> None:
    above = origin_to_tell(peer_origin(4), 2)
    assert [name_of_origin(origin) for origin in (3, peer_origin(4), above)] == ["n3", "n4", "the peers of n2"]
    assert origin_of(above, 0, 0b101) == above
    assert origin_of(above, 0, 0b001) == 0
    assert origin_of(peer_origin(2), 0, 0b101) == 0


def test_what_others_ask_for_too_is_not_given_up_with_the_rest() -> None:
    node = relay()
    node.from_child(LEFT, i.Want(name(0, 1), True, []))
    node.from_child(RIGHT, i.Want(name(0, 1), True, []))
    for number in range(TOO_MANY):
        node.from_child(LEFT, i.Want(name(number), True, []))
    for number in range(1_000):
        node.from_child(RIGHT, i.Want(name(number, 2), True, []))
    assert name(0, 1) not in refused(node, LEFT) + refused(node, RIGHT)


def test_two_who_ask_for_the_same_share_it_with_a_third() -> None:
    node = relay()
    for number in range(2_048):
        node.from_child(LEFT, i.Want(name(number), True, []))
        node.from_child(RIGHT, i.Want(name(number), True, []))
    node.from_child(LEFT, i.Want(name(0, 1), True, [], origin=6))
    assert name(0, 1) not in refused(node, LEFT)
    assert len(node.machine.images.transfers) == 2_048


def test_who_is_gone_has_nothing_under_way() -> None:
    node = relay()
    for number in range(TOO_MANY):
        node.from_child(LEFT, i.Want(name(number), True, []))
    for number in range(2_048):
        node.give(Examined(name(number), b"", []))
    node.machine.images.link_lost(LEFT)
    assert len(node.machine.images.transfers) == 0
    for number in range(2_048):
        node.from_child(RIGHT, i.Want(name(number), True, []))
    assert refused(node, RIGHT) == []


# ---------------------------------------------------------------------- what users launch


def launch(head: HeadRig, client: int, image: bytes, request: int = 1) -> str:
    """Launch a job with a program; return its id, or the code of the refusal."""
    head.looked()
    names: dict[str, Any] = {"image": image, "program": b"/bin/program"}
    head.ask(spawn_of(request, "n0", **names), client)
    answer = next(message for message in head.told(client) if isinstance(message, c.Spawned | c.Error))
    return answer.job if isinstance(answer, c.Spawned) else answer.code


@pytest.mark.parametrize("uid", [BOB, 0, OWNER])
def test_one_user_does_not_have_all_programs_that_may_be_on_their_way(uid: int) -> None:
    head = HeadRig(1, owner=OWNER, max_programs=32)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, uid)
    assert [launch(head, 1, name(number), number) for number in range(16)][-2:] == ["1.15", "busy"]
    assert "of at most 32 programs that are on their way to nodes, u1000 has 15" in head.told(1)[0].message
    assert launch(head, 1, name(0)) == "1.16", "one of those that are counted already"
    assert [launch(head, 2, name(number, 1), number) for number in range(7)][-1] == "1.23"


def test_a_program_is_counted_until_all_ranks_that_need_it_are_started() -> None:
    head = HeadRig(1, max_programs=32)
    head.attach(0)
    enter(head, 1, ALICE)
    jobs = [launch(head, 1, name(number // 2), number) for number in range(31)]
    assert jobs[-1] == "busy"
    head.report(0, jobs[0], [0, 5])
    assert launch(head, 1, name(99)) == "busy", "another job needs it"
    head.report(0, jobs[1], [0, 6])
    assert launch(head, 1, name(99)) == "1.31"


# ---------------------------------------------------------------------- what clients do not send


def test_an_image_of_which_no_client_sends_anything_is_given_up() -> None:
    head = HeadRig(1)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, ALICE)
    for client in (1, 2):
        launch(head, client, name(1))
    want(head, name(1))
    for _ in range(MUTE_LOOKS - 1):
        head.wait(LOOK_MS, SeekDue())
    assert not refused(head, head.links[0])
    head.wait(LOOK_MS, SeekDue())
    assert refused(head, head.links[0]) == [name(1)]
    assert not len(head.machine.images.transfers)


def test_an_image_of_which_something_has_come_is_waited_for() -> None:
    head = HeadRig(1)
    head.attach(0)
    enter(head, 1, ALICE)
    launch(head, 1, image_id(MANIFEST))
    want(head, image_id(MANIFEST))
    head.ask(c.OfferedManifest(image_id(MANIFEST), MANIFEST), 1)
    for _ in range(2 * MUTE_LOOKS):
        head.wait(LOOK_MS, SeekDue())
    assert not refused(head, head.links[0])


def want(head: HeadRig, image: bytes) -> None:
    """Let a node ask the head for an image that is not in its cache."""
    head.give(Received(head.links[0], i.Want(image, manifest=True, chunks=[])))
    head.give(Examined(image, b"", []))


def test_what_a_node_asks_for_before_the_manifest_is_known_takes_a_bit_for_each_chunk() -> None:
    node = relay()
    every_other = [value for chunk in range(0, MAX_CHUNKS, 2) for value in (chunk, 1)]
    for _ in range(4):
        node.from_child(LEFT, i.Want(name(1), False, every_other))
    (requester,) = node.machine.images.transfers.transfers[name(1)].requesters.values()
    assert requester.pending.bit_length() < MAX_CHUNKS
    with pytest.raises(ProtocolError, match="chunk"):
        node.from_child(LEFT, i.Want(name(1), False, [MAX_CHUNKS, 1]))
