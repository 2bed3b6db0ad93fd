"""A node that has an image from peers: what it asks of whom, and what becomes of it when one is lost."""

from __future__ import annotations

from random import Random

from heorot.core.images.chunks import CHUNK_BYTES
from heorot.core.images.hop import Transfers
from heorot.core.images.manifest import mask_of
from heorot.core.machine import CloseLink, Connect, ConnectFailed, Examined, Instruction, LinkOpened, Send, SendChunks
from heorot.core.node.config import NodeConfig
from heorot.core.node.peers import PING_AFTER_MS, SILENCE_MS, Peers
from heorot.core.wire import tree as m
from tests.core.images.hops import Sample

UP, PARENT = 7, 0
CHUNKS = 6
EVEN, ODD = 0b010101, 0b101010
HELLO = m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, "test", 5, 0, "test")


class Rig:
    """Node 9, which needs an image, has it by a plan from nodes 5 and 6, and is linked to its parent."""

    def __init__(self) -> None:
        self.sample = Sample(Random(1), [CHUNKS * CHUNK_BYTES])
        self.image = self.sample.image
        self.out: list[Instruction] = []
        self.failures: list[str] = []
        config = NodeConfig("test", 9, "test", "host9", 1, ())
        self.peers = Peers(config, self.out.append, lambda peer: HELLO, lambda: self.transfers)
        self.transfers = Transfers(
            self.out.append,
            lambda link, message: self.out.append(Send(link, message)),
            lambda image: self.peers.sources(image, UP, PARENT),
            lambda image: None,
            lambda image, why: self.failures.append(why),
            lambda: UP,
            plan=self.peers.plan_of,
            ended=self.peers.drop,
        )
        self.peers.follow(self.image, b"a plan", [(5, "host5", 1), (6, "host6", 1)])
        self.transfers.need(self.image)
        self.transfers.examined(Examined(self.image, self.sample.encoded, []))
        self.keys = [item.key for item in self.out if isinstance(item, Connect)]
        self.out.clear()

    def connect(self, *links: int, greets: bool = True) -> None:
        for key, link, node in zip(self.keys, links, (5, 6), strict=True):
            self.peers.opened(LinkOpened(link, node, key), 0)
            if greets:
                self.peers.received(link, HELLO, 0)

    def asked(self) -> dict[tuple[int, bool], int]:
        """What was asked of each link, directly or not, since the last time: a mask of chunks."""
        found: dict[tuple[int, bool], int] = {}
        for item in self.out:
            if isinstance(item, Send) and isinstance(item.message, m.Want) and item.message.chunks:
                key = item.link, item.message.direct
                found[key] = found.get(key, 0) | mask_of(item.message.chunks, CHUNKS)
        self.out.clear()
        return found

    def closed(self) -> list[int]:
        return [item.link for item in self.out if isinstance(item, CloseLink)]


def test_each_peer_is_asked_for_every_other_chunk() -> None:
    rig = Rig()
    assert rig.asked() == {}
    rig.connect(1, 2)
    assert rig.asked() == {(1, False): EVEN, (2, False): ODD}


def test_who_cannot_be_reached_is_replaced_by_the_parent_directly() -> None:
    rig = Rig()
    rig.peers.failed(ConnectFailed(rig.keys[0], "refused"))
    assert rig.asked() == {(UP, True): EVEN}


def test_what_a_lost_peer_has_not_sent_is_asked_of_the_parent_directly() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    rig.peers.received(2, m.Piece(rig.image, 1, [rig.sample.chunk(1)]), 0)
    rig.peers.closed(2, "reset")
    assert rig.asked() == {(UP, True): ODD & ~0b10}


def test_a_peer_that_has_nothing_is_left() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    rig.peers.received(1, m.Unavailable(rig.image, "no room"), 0)
    assert rig.closed() == [1]
    assert rig.asked() == {(UP, True): EVEN}


def test_a_silent_peer_is_asked_and_then_left() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    rig.peers.look(PING_AFTER_MS)
    assert rig.out == [Send(1, m.Ping()), Send(2, m.Ping())]
    rig.out.clear()
    rig.peers.received(1, m.Pong(), PING_AFTER_MS)
    rig.peers.look(SILENCE_MS)
    assert rig.closed() == [2]
    assert rig.asked() == {(UP, True): ODD}


def test_peers_are_asked_again_when_this_node_has_slept() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    now_ms = rig.peers.next_look_ms(0) + 60_000
    for _ in range(3):
        rig.out.clear()
        rig.peers.look(now_ms)
        assert rig.out == [Send(1, m.Ping()), Send(2, m.Ping())]
        now_ms = rig.peers.next_look_ms(now_ms)
    rig.peers.received(1, m.Pong(), now_ms)
    rig.peers.look(now_ms)
    rig.peers.look(rig.peers.next_look_ms(now_ms))
    assert rig.closed() == [2]


def test_another_node_at_the_address_is_not_asked() -> None:
    rig = Rig()
    rig.peers.opened(LinkOpened(1, 8, rig.keys[0]), 0)
    assert rig.closed() == [1]
    assert rig.asked() == {(UP, True): EVEN}


def test_who_follows_another_plan_need_not_wait_for_our_peers() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    rig.transfers.want(20, m.Want(rig.image, False, [0, 1], plan=b"a plan"))
    assert rig.asked() == {}
    rig.transfers.want(21, m.Want(rig.image, False, [0, 2], plan=b"another"))
    assert rig.asked() == {(UP, True): 0b11}
    rig.transfers.want(22, m.Want(rig.image, False, [2, 1], direct=True, plan=b"a plan"))
    assert rig.asked() == {(UP, True): 0b100}


def test_nothing_is_left_of_the_links_when_the_image_is_here() -> None:
    rig = Rig()
    rig.connect(1, 2)
    for chunk in range(CHUNKS):
        rig.peers.received(1 + chunk % 2, m.Piece(rig.image, chunk, [rig.sample.chunk(chunk)]), 0)
    rig.out.clear()
    rig.transfers.dismiss(rig.image)
    assert rig.closed() == [1, 2]
    assert (len(rig.peers), rig.peers.links) == (0, 0)


def test_a_peer_that_sends_something_damaged_is_left_and_does_no_harm() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.asked()
    rig.peers.received(1, m.Piece(rig.image, 0, [b"something else"]), 0)
    assert rig.closed() == [1]
    assert rig.asked() == {(UP, True): EVEN}


def test_what_neither_parent_nor_peers_can_have_is_given_up() -> None:
    rig = Rig()
    rig.connect(1, 2)
    rig.peers.closed(1, "reset")
    rig.asked()
    rig.transfers.unavailable(UP, m.Unavailable(rig.image, "nobody has it"))
    assert rig.failures == ["nobody has it"]
    assert not rig.transfers.transfers


def test_all_that_was_asked_for_before_the_manifest_was_here_is_sent() -> None:
    rig = Rig()
    other = Sample(Random(2), [3 * CHUNK_BYTES])
    for chunk in range(3):
        rig.transfers.want(20, m.Want(other.image, False, [chunk, 1]))
    rig.out.clear()
    rig.transfers.examined(Examined(other.image, other.encoded, [0, 3]))
    for _ in range(3):
        rig.transfers.took(20, m.Took(other.image, CHUNK_BYTES))
    sent = [item for item in rig.out if isinstance(item, SendChunks)]
    assert sum(item.count for item in sent) == 3


def test_the_manifest_is_asked_of_the_parent() -> None:
    rig = Rig()
    other = Sample(Random(2), [CHUNK_BYTES])
    rig.peers.follow(other.image, b"a plan", [(5, "host5", 1), (6, "host6", 1)])
    rig.transfers.need(other.image)
    rig.transfers.examined(Examined(other.image, b"", []))
    wants = [item.link for item in rig.out if isinstance(item, Send) and isinstance(item.message, m.Want)]
    assert wants == [UP]


def test_a_former_parent_whose_address_is_unknown_is_not_dialled() -> None:
    rig = Rig()
    rig.out.clear()
    rig.peers.follow(rig.image, b"a plan", [(PARENT, "", 0), (6, "host6", 1)])
    assert rig.peers.sources(rig.image, UP, PARENT)[0].direct is False
    source = rig.peers.sources(rig.image, UP, PARENT + 1)[0]
    assert (source.link, source.direct) == (UP, True)
    assert [item.host for item in rig.out if isinstance(item, Connect)] == ["host6"]
