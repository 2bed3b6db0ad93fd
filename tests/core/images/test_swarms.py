"""When nodes have an image from each other, and what they are told of it."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.images.swarms import (
    ENOUGH_BYTES,
    ENOUGH_MS,
    FIRST_BYTES,
    KEPT_MS,
    LARGEST_PIECE_BYTES,
    MAX_SWARMS,
    PATIENCE_MS,
    PIECE_MS,
    SMALLEST_PIECE_BYTES,
    Below,
    Pace,
    SwarmHere,
    Swarms,
)
from heorot.core.machine import Instruction, Send
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import images as i

IMAGE = bytes(32)
MB = 1_000_000


class Hop:
    """A hop whose children are the nodes 0 to 3; the link to each has the node's number and ten more."""

    def __init__(self, hosts: dict[int, str], kilobytes_per_ms: int = 0, wanted: int = 0) -> None:
        self.out: list[Instruction] = []
        self.redirected: list[int] = []
        self.swarms = Swarms(
            self.out.append,
            lambda image, link: self.redirected.append(link),
            lambda node: (hosts[node], 7734) if node in hosts else None,
            lambda: {10 + node: Below(node, 1 << node) for node in range(4)},
            lambda image: wanted,
        )
        if kilobytes_per_ms:
            self.swarms.pace.sent(10 * MB, 0)
            self.swarms.pace.took(10 * MB, 10_000 // kilobytes_per_ms)

    def consider(self, size: int, links: list[int], *, can_begin: bool = True) -> list[int]:
        """Return the links that were told."""
        self.out.clear()
        self.swarms.consider(IMAGE, size, links, 0, can_begin=can_begin)
        return [item.link for item in self.out if isinstance(item, Send)]


ALL = [10, 11, 12, 13]


def many_hosts(nodes: range) -> dict[int, str]:
    return {node: f"host{node}" for node in nodes}


def test_the_pace_counts_only_the_time_in_which_something_is_on_its_way() -> None:
    pace = Pace()
    pace.sent(ENOUGH_BYTES // 2, 0)
    assert not pace.known
    pace.took(ENOUGH_BYTES // 2, 10)
    pace.sent(ENOUGH_BYTES // 2, 100_000)
    pace.took(ENOUGH_BYTES // 2, 100_010)
    assert pace.known
    assert pace.ms_for(ENOUGH_BYTES) == 20
    assert pace.outstanding_bytes == 0


def test_a_slow_pace_is_known_after_a_while() -> None:
    pace = Pace()
    pace.sent(2000, 0)
    pace.took(1000, 60)
    assert pace.known
    pace.lost(1000)
    assert pace.outstanding_bytes == 0


def test_little_is_sent_ahead_at_first_and_much_as_soon_as_it_is_taken() -> None:
    pace = Pace()
    assert pace.room_bytes == FIRST_BYTES
    pace.sent(FIRST_BYTES, 0)
    assert pace.room_bytes == 0
    pace.took(FIRST_BYTES, 40)
    assert not pace.known
    assert pace.room_bytes == ENOUGH_BYTES
    pace.sent(ENOUGH_BYTES, 41)
    pace.took(ENOUGH_BYTES, 43)
    assert pace.known
    assert pace.ms_for(ENOUGH_BYTES) == 2, "what one chunk took tells nothing about many"


def test_one_chunk_is_enough_to_know_that_a_link_is_slow() -> None:
    pace = Pace()
    pace.sent(FIRST_BYTES, 0)
    pace.took(FIRST_BYTES, ENOUGH_MS)
    assert pace.known
    assert pace.ms_for(FIRST_BYTES) == ENOUGH_MS


def test_one_who_takes_nothing_does_not_hold_up_the_others_for_long() -> None:
    pace = Pace()
    pace.sent(FIRST_BYTES, 0)
    pace.waited()
    assert pace.room_bytes == FIRST_BYTES
    pace.sent(FIRST_BYTES, 0)
    pace.lost(FIRST_BYTES)
    assert pace.room_bytes == FIRST_BYTES


def test_when_those_who_took_nothing_are_gone_the_next_are_begun_with_as_carefully() -> None:
    pace = Pace()
    for _ in range(6):
        pace.sent(pace.room_bytes, 0)
        pace.waited()
    assert pace.room_bytes > 16 * FIRST_BYTES
    pace.lost(pace.outstanding_bytes)
    assert pace.room_bytes == FIRST_BYTES


def test_it_is_no_wonder_that_nobody_takes_what_was_not_sent_long_ago() -> None:
    pace = Pace()
    pace.sent(FIRST_BYTES, 1_000)
    assert pace.quiet_until_ms() == 1_000 + PATIENCE_MS
    pace.took(FIRST_BYTES // 2, 1_020)
    assert pace.quiet_until_ms() == 1_020 + PATIENCE_MS


def test_pieces_are_as_large_as_the_pace_allows() -> None:
    def piece_bytes(kilobytes_per_ms: int) -> int:
        return Hop({}, kilobytes_per_ms).swarms.pace.piece_bytes

    assert piece_bytes(1) == SMALLEST_PIECE_BYTES
    assert SMALLEST_PIECE_BYTES < piece_bytes(10) == 10_000 * PIECE_MS < LARGEST_PIECE_BYTES
    assert piece_bytes(1_000) == LARGEST_PIECE_BYTES


def test_a_swarm_is_worth_it_on_slow_links_only() -> None:
    hosts = many_hosts(range(4))
    assert Hop(hosts, 1).consider(MB, ALL) == ALL
    assert Hop(hosts, 1_000).consider(MB, ALL) == []
    assert Hop(hosts, 1).consider(1_000, ALL) == []
    assert Hop(hosts, 1).consider(MB, [10]) == []
    assert Hop(hosts).consider(MB, ALL) == [], "the pace is not known"
    assert Hop(hosts, 1).consider(MB, ALL, can_begin=False) == []


def test_neighbours_on_one_host_gain_nothing() -> None:
    assert Hop(dict.fromkeys(range(4), "127.0.0.1"), 1).consider(MB, ALL) == []


def test_the_first_who_asks_is_redirected_when_others_are_known_to_need_it_too() -> None:
    hop = Hop(many_hosts(range(4)), 1, wanted=0b1111)
    assert hop.consider(MB, [12]) == [12]
    assert hop.swarms.by_image[IMAGE].members == 0b1111
    assert hop.redirected == [12]


def test_who_is_no_member_and_reaches_none_goes_on_as_before() -> None:
    hop = Hop(many_hosts(range(4)), 1, wanted=0b0011)
    assert hop.consider(MB, [10, 11]) == [10, 11]
    assert hop.consider(MB, [13]) == []
    assert hop.redirected == [10, 11]


def test_each_hop_adds_the_addresses_that_it_knows() -> None:
    swarm = SwarmHere(IMAGE, NodeSet.of(range(20)).mask, (0, 1), {})
    below_zero = NodeSet.of([0, 4, 5, 6, 7]).mask
    message = Hop(many_hosts(range(20))).swarms.message_for(swarm, below_zero)
    # Node 0 knows those below it, and is told where the others are that send to any of them.
    hop = Hop(many_hosts(range(4, 8))).swarms
    taken = hop.take(message, 0)
    assert taken.plan == swarm.plan
    for node in NodeSet(below_zero):
        assert taken.senders_of(node) == swarm.senders_of(node)
        for sender in taken.senders_of(node):
            assert sender in (None, 0) or hop.address(taken, sender or 0) == (f"host{sender}", 7734)
    assert not {address.node for address in message.addresses} & set(range(4, 8))
    leaf = hop.message_for(taken, 1 << 5)
    assert {address.node for address in leaf.addresses} == {n for n in swarm.senders_of(5) if n not in (None, 0)}


@pytest.mark.parametrize("tops", [[], [1], [1, 1], [1, 9], [-1, 1], [1, 2, 3]])
def test_a_swarm_that_contradicts_itself_is_refused(tops: list[int]) -> None:
    with pytest.raises(ProtocolError, match="first members"):
        Hop({}).swarms.take(i.Swarm(IMAGE, [0, 4], tops, []), 0)


def take(swarms: Swarms, image: bytes) -> SwarmHere:
    return swarms.take(i.Swarm(image, [0, 4], [0, 1], []), 0)


def test_a_swarm_is_remembered_for_a_while() -> None:
    swarms = Hop({}).swarms
    swarm = take(swarms, IMAGE)
    swarms.ended(IMAGE, 1_000)
    assert swarms.use(IMAGE, 1_000 + KEPT_MS) is swarm
    # It is in use again, and does not grow old.
    assert swarms.use(IMAGE, 1_000 + 3 * KEPT_MS) is swarm
    swarms.ended(IMAGE, 90_000)
    assert swarms.use(IMAGE, 90_001 + KEPT_MS) is None


def test_no_more_swarms_are_remembered_than_the_limit() -> None:
    swarms = Hop({}).swarms
    for number in range(MAX_SWARMS + 3):
        take(swarms, number.to_bytes(32, "big"))
        swarms.ended(number.to_bytes(32, "big"), 0)
    assert len(swarms.by_image) == MAX_SWARMS + 1
    assert swarms.use((1).to_bytes(32, "big"), 0) is None
