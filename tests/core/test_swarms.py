"""When nodes have an image from each other, and what they are told of it."""

from __future__ import annotations

import pytest

from heorot.core import image_messages as i
from heorot.core.errors import ProtocolError
from heorot.core.nodeset import NodeSet
from heorot.core.swarms import ENOUGH_BYTES, KEPT_MS, MAX_SWARMS, Pace, Swarms

IMAGE = bytes(32)
MB = 1_000_000


def make_swarms(hosts: dict[int, str], kilobytes_per_ms: int = 0) -> Swarms:
    swarms = Swarms(lambda node: (hosts[node], 7734) if node in hosts else None)
    if kilobytes_per_ms:
        swarms.pace.sent(10 * MB, 0)
        swarms.pace.took(10 * MB, 10_000 // kilobytes_per_ms)
    return swarms


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


def test_a_swarm_is_worth_it_on_slow_links_only() -> None:
    hosts = many_hosts(range(4))
    assert make_swarms(hosts, 1).is_worth_it(MB, [0, 1, 2, 3])
    assert not make_swarms(hosts, 1_000).is_worth_it(MB, [0, 1, 2, 3])
    assert not make_swarms(hosts, 1).is_worth_it(1_000, [0, 1, 2, 3])
    assert not make_swarms(hosts, 1).is_worth_it(MB, [0])
    assert not make_swarms(hosts).is_worth_it(MB, [0, 1, 2, 3]), "the pace is not known"


def test_neighbours_on_one_host_gain_nothing() -> None:
    assert not make_swarms(dict.fromkeys(range(4), "127.0.0.1"), 1).is_worth_it(MB, [0, 1, 2, 3])


def test_each_hop_adds_the_addresses_that_it_knows() -> None:
    head = make_swarms(many_hosts(range(20)))
    members = NodeSet.of(range(20)).mask
    swarm = head.begin(IMAGE, members, (0, 1), 0)
    below_zero = NodeSet.of([0, 4, 5, 6, 7]).mask
    message = head.message_for(swarm, below_zero)
    # Node 0 knows those below it, and is told where the others are that send to any of them.
    hop = make_swarms(many_hosts(range(4, 8)))
    taken = hop.take(message, 0)
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
        make_swarms({}).take(i.Swarm(IMAGE, [0, 4], tops, []), 0)


def test_a_swarm_is_remembered_for_a_while() -> None:
    swarms = make_swarms({})
    swarm = swarms.begin(IMAGE, 0b111, (0, 1), 0)
    swarms.ended(IMAGE, 1_000)
    assert swarms.get(IMAGE, 1_000 + KEPT_MS) is swarm
    assert swarms.get(IMAGE, 1_001 + KEPT_MS) is None


def test_no_more_swarms_are_remembered_than_the_limit() -> None:
    swarms = make_swarms({})
    for number in range(MAX_SWARMS + 3):
        swarms.begin(number.to_bytes(32, "big"), 0b111, (0, 1), 0)
        swarms.ended(number.to_bytes(32, "big"), 0)
    assert len(swarms.by_image) == MAX_SWARMS + 1
    assert swarms.get((1).to_bytes(32, "big"), 0) is None
