"""What neighbours in the tree may not bring about: unknown nodes, old placements, wrong or flapping parents."""

from __future__ import annotations

import hashlib

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.machine import HeadConfig, HeadMachine
from heorot.core.head.timers import RebalanceDue
from heorot.core.machine import (
    CloseLink,
    Connect,
    FromSpace,
    Kept,
    LinkClosed,
    LinkOpened,
    NodeInstruction,
    Received,
    Remember,
    Send,
    SetTimer,
    SpaceConnected,
    TimerFired,
)
from heorot.core.node.machine import NodeConfig, NodeMachine
from heorot.core.node.timers import RetryDue
from heorot.core.node.uplink import LONGEST_PAUSE_MS, SHORT_LIFE_MS
from heorot.core.tickets import seal_placement
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire import tree as m


def sign(data: bytes) -> bytes:
    return hashlib.sha256(b"key" + data).digest()


def verify(data: bytes, signature: bytes) -> bool:
    return sign(data) == signature


def hello(node: int, epoch: int = 1) -> m.Hello:
    return m.Hello(m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, "c", node, epoch, "test")


def placement(node: int, epoch: int, serial: int, *path: int) -> bytes:
    hops = [m.Hop(hop, f"host{hop}", 1) for hop in path]
    return seal_placement(sign, m.Placement("c", node, hops, epoch, serial))


def a_head() -> HeadMachine:
    head = HeadMachine(HeadConfig("c", "h0", "test", 1, "head", 1, fanout=2, nodes=(0, 1)), sign, verify)
    head.start(0)
    head.handle(LinkOpened(1, 0), 0)
    head.handle(Received(1, hello(0)), 0)
    return head


def attach(node: int, sealed: bytes = b"") -> Received:
    return Received(1, m.Up(node, m.encode(m.Attach(node, 7, "host", 1, sealed))))


@pytest.mark.parametrize("node", [2, 2 * (1 << 40)])
def test_a_node_cannot_invent_others(node: int) -> None:
    head = a_head()
    for sealed in (b"", placement(3, 1, 1, 0)):
        with pytest.raises(ProtocolError):
            head.handle(attach(node, sealed), 1)
    assert list(head.members.records) == [0, 1]
    head.handle(attach(0), 1)
    head.handle(attach(2, placement(2, 1, 1, 0)), 1)
    assert list(head.members.records) == [0, 1, 2]


class Node:
    """An agent with a space, driven by hand."""

    def __init__(self, sealed: bytes) -> None:
        config = NodeConfig("c", 5, "test", "host5", 1, (("head", 1),), placement=sealed)
        self.machine = NodeMachine(config, verify)
        self.machine.start(0)
        self.machine.handle(SpaceConnected(), 0)
        self.out = self.machine.handle(FromSpace(m.encode(m.Inventory(7, []))), 0)
        self.links = 0

    def connect(self, peer: int, now_ms: int, epoch: int = 1) -> list[NodeInstruction]:
        """The connection that it waits for stands, and whoever is there says hello."""
        [key] = [item.key for item in self.out if isinstance(item, Connect)]
        self.links += 1
        self.out = self.machine.handle(LinkOpened(self.links, peer, key), now_ms)
        if any(isinstance(item, Send) for item in self.out):
            self.out = self.machine.handle(Received(self.links, hello(peer, epoch)), now_ms)
        if self.out and isinstance(self.out[-1], Remember) and self.out[-1].durable:
            self.out = self.machine.handle(Kept("epoch", b"%d" % epoch, ""), now_ms)
        return self.out


def test_an_old_placement_changes_nothing() -> None:
    node = Node(placement(5, 2, 5, 1))
    node.connect(1, 0)

    def place(epoch: int, serial: int) -> list[NodeInstruction]:
        down = m.Down(2, [5, 5], m.encode(m.Place(placement(5, epoch, serial))))
        out = node.machine.handle(Received(1, down), 1)
        if out == [Remember("epoch", b"%d" % epoch, True)]:
            out += node.machine.handle(Kept("epoch", b"%d" % epoch, ""), 1)
        return out

    for epoch, serial in ((1, 9), (2, 4), (2, 5)):
        out = place(epoch, serial)
        assert not any(isinstance(item, Remember) and item.name == "placement" for item in out)
        assert node.machine.uplink.parent == 1
    out = place(2, 6)
    assert any(isinstance(item, Remember) and item.name == "placement" for item in out)
    assert any(isinstance(item, CloseLink) for item in out)


def test_a_parent_must_be_the_one_that_was_named() -> None:
    node = Node(placement(5, 1, 1, 1))
    out = node.connect(3, 0)
    assert isinstance(out[0], CloseLink)
    assert node.machine.uplink.link is None
    # It goes on to the next candidate, and keeps its placement.
    assert [item.host for item in out if isinstance(item, Connect)] == ["head"]
    node.connect(HEAD, 0)
    assert node.machine.uplink.attached
    assert node.machine.uplink.sealed_placement(b"it") == b"it"


def test_a_link_that_is_lost_again_and_again_is_not_replaced_at_once() -> None:
    node = Node(b"")
    now_ms = 0
    pauses: list[int] = []
    for _ in range(10):
        node.connect(HEAD, now_ms)
        assert node.machine.uplink.attached
        out = node.machine.handle(LinkClosed(node.links, "dropped"), now_ms + 1)
        [timer] = [item for item in out if isinstance(item, SetTimer) and item.key == RetryDue()]
        pauses.append(timer.at_ms - now_ms - 1)
        now_ms = timer.at_ms
        node.out = node.machine.handle(TimerFired(timer.key), now_ms)
    assert min(pauses) >= 50
    assert max(pauses) >= LONGEST_PAUSE_MS
    node.connect(HEAD, now_ms)
    out = node.machine.handle(LinkClosed(node.links, "dropped"), now_ms + SHORT_LIFE_MS)
    assert any(isinstance(item, Connect) for item in out)


def test_the_next_head_is_not_blamed_for_the_short_life_of_the_last_one() -> None:
    node = Node(b"")
    for epoch in range(1, 8):
        node.connect(HEAD, 0, epoch)
        out = node.machine.handle(LinkClosed(node.links, "killed"), 1)
        [timer] = [item for item in out if isinstance(item, SetTimer) and item.key == RetryDue()]
        assert timer.at_ms - 1 <= 2 * 50
        node.out = node.machine.handle(TimerFired(timer.key), 1)


def test_a_node_that_cannot_reach_its_parent_is_moved_less_and_less_often() -> None:
    head = a_head()
    for node in (0, 2):
        head.handle(attach(node, placement(node, 1, 1, *[0][:node])), 0)
        head.handle(Received(1, m.Up(node, m.encode(m.Inventory(7, [], after="0.0")))), 0)
    head.members.records[2].parent = HEAD
    placed = 0
    for second in range(1, 121):
        out = head.handle(TimerFired(RebalanceDue()), second * 1000)
        placed += sum(isinstance(item, Send) and isinstance(item.message, m.Down) for item in out)
        assert any(isinstance(item, SetTimer) and item.key == RebalanceDue() for item in out)
    assert 5 <= placed <= 10
