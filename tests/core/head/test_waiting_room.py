"""What waits for a new head costs nobody else their turn, and closes nobody else's connection."""

from __future__ import annotations

import pytest

from heorot.core.head.timers import SettleDue
from heorot.core.machine import CloseClient, CloseLink, HeadsKnown, SetTimer
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from tests.core.head.test_quotas import enter
from tests.core.head.test_requests import calls_of
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import UNREADY, acknowledged, hand_over

ALICE, BOB = 1000, 1001
MANY = 1_800
CALLS = 60_000
"""Of one event; before what waits had lines and turns there were millions."""


def crowded(nodes: int = 4, **config: int) -> HeadRig:
    """Return a head of which one user asks for very many jobs of the former one, while its nodes are silent."""
    head = HeadRig(nodes, epoch=2, **UNREADY, **config)
    enter(head, 1, ALICE)
    enter(head, 2, BOB)
    head.attach(0)
    for request in range(1, MANY + 1):
        head.ask(c.ShowJob(request, f"1.{request}"), 1)
    return head


def answered(head: HeadRig, client: int) -> int:
    """Return how many questions of a client were answered, or refused."""
    return sum(isinstance(message, c.Result | c.Error) for message in head.told(client))


def test_what_waits_is_looked_at_in_parts() -> None:
    head = crowded()
    assert answered(head, 1) == 0
    assert calls_of(lambda: head.attach(1)) < CALLS
    assert calls_of(lambda: head.wait(100, SettleDue())) < CALLS
    head.attach(2)
    assert calls_of(lambda: head.attach(3)) < CALLS
    assert 0 < answered(head, 1) < MANY, "the others are looked at soon after"
    for _ in range(MANY):
        if not head.machine.settling.waits:
            break
        assert calls_of(lambda: head.wait(10, SettleDue())) < CALLS
    assert answered(head, 1) == MANY


def test_who_asks_for_one_thing_is_answered_before_the_rest_of_who_asks_for_many() -> None:
    head = crowded()
    head.ask(c.ShowJob(1, "1.1"), 2)
    for node in (1, 2, 3):
        head.attach(node)
    assert answered(head, 2) == 1
    assert answered(head, 1) < MANY


def test_long_node_lists_that_wait_are_not_tried_for_each_piece_of_news() -> None:
    head = HeadRig(40, epoch=2, **UNREADY)
    enter(head, 1, ALICE)
    for request in range(1, 51):
        nodes = ",".join(["n39"] * 1_000)
        head.ask(spawn_of(request, nodes, argv=[b"a"], stdin=None), 1)
    head.attach(0)
    assert calls_of(lambda: head.attach(1)) < CALLS
    assert calls_of(lambda: head.wait(100, SettleDue())) < CALLS


def test_more_parts_follow_soon_and_what_only_time_decides_later() -> None:
    head = crowded()
    head.looked()
    head.attach(1)
    due = [item.at_ms for item in head.sent if isinstance(item, SetTimer) and item.key == SettleDue()]
    assert due == [head.now + 10]


def lease(head: HeadRig, until_ms: int) -> None:
    """Let the keeper say until when it is certain that this head leads; there is another one."""
    head.give(HeadsKnown((("h0", "active"), ("h1", "standby")), "etcd", True, 0, until_ms))


@pytest.mark.parametrize("how", ["news", "timer"])
def test_a_client_that_breaks_the_protocol_with_what_waited_is_closed_alone(how: str) -> None:
    head = HeadRig(2, epoch=2, **UNREADY)
    head.client(1)
    enter(head, 2, BOB)
    again, _ = acknowledged(1)
    if how == "news":
        head.ask(c.AttachJob(1, "1.1", False, True, [0]))
    else:
        # It waits for nothing but time: until it is certain again which head leads.
        lease(head, 0)
        head.attach(0)
        head.ask(again)
        head.ask(c.ClientStdin("1.1", 99, 0, b"x", False))
    head.ask(c.ListNodes(1, ""), 2)
    head.looked()
    if how == "news":
        head.attach(0, [held("1.1", running=[0, 100])])
        hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 1], uid=0)))
    else:
        lease(head, 1_000)
        head.wait(100, SettleDue())
    assert [item.client for item in head.sent if isinstance(item, CloseClient)] == [1]
    assert [message.code for message in head.told(1) if isinstance(message, c.Error)] == ["protocol"]
    assert not [item for item in head.sent if isinstance(item, CloseLink)]
    head.attach(1)
    assert answered(head, 2) == 1
