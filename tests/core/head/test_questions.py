"""Questions to nodes: who has answered, who does not, and what is kept of answers until they are told."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from heorot.core.errors import ProtocolError
from heorot.core.head.questions import MAX_MATCHED
from heorot.core.machine import Received
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.head.test_requests import head_of
from tests.core.rigs import HeadRig, process


def test_a_node_that_says_without_end_that_more_follows_is_missing_from_the_answer() -> None:
    head = head_of(2)
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    head.up(1, m.Reply(query.id, 1, [process(7)]))
    rows = [process(pid) for pid in range(1, 10_001)]
    for _ in range(100):
        head.up(0, m.Reply(query.id, len(rows), rows, more=True))
    (result,) = [message for message in head.told(2) if isinstance(message, c.Result)]
    assert result.value.missing == [0]
    assert head.machine.requests.questions._rows_bytes.held == {}


def told_by_relay(head: HeadRig, replies: m.Replies, link: int = 0) -> None:
    """Let a child say what its subtree answers."""
    head.give(Received(head.links[link], replies))


def test_what_a_subtree_answers_in_one_message_is_the_answer_of_each_of_its_nodes() -> None:
    head = head_of(2)
    head.attach(2, below=[0])
    head.looked()
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    table = m.NodeTable(2, msgpack.encode([process(7)]))
    told_by_relay(head, m.Replies(query.id, [0, 1, 0, 1, 1, 5, 2, 1, 1], [table, m.NodeTable(1, table.processes)]))
    assert head.told(2) == [], "n1 speaks for itself"
    head.up(1, m.Reply(query.id, 0, []))
    (result,) = head.told(2)
    assert [(row.node, row.pid) for row in result.value.processes] == [(2, 7)]
    assert result.value.missing == []
    assert head.machine.requests.questions._rows_bytes.held == {}


def test_what_a_subtree_has_matched_is_counted_once_for_each_node() -> None:
    head = head_of(1)
    for node in (1, 2):
        head.attach(node, below=[0])
    head.looked()
    head.ask(c.Signal(1, None, None, [7], 15, ""), 2)
    query = head.commands(m.Query)[0][1]
    for _ in range(2):
        told_by_relay(head, m.Replies(query.id, [0, 2, 3], []))
    told_by_relay(head, m.Replies(query.id, [1, 2, 3], []))
    assert head.told(2) == [c.Signalled(1, 9, [])]


def test_what_nodes_say_to_a_client_that_leaves_is_not_counted_any_more() -> None:
    head = head_of(2)
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    head.up(1, m.Reply(query.id, 1, [process(7)]))
    assert sorted(head.machine.requests.questions._rows_bytes.held) == [1]
    head.leave(2)
    assert head.machine.requests.questions._rows_bytes.held == {}


def relay_with_two_below() -> HeadRig:
    """Return a head with the relay n0, and below it n1 and n2; client 2 is root's."""
    head = head_of(1)
    for node in (1, 2):
        head.attach(node, below=[0])
    head.looked()
    return head


def test_a_table_that_nobody_can_read_is_missing_and_its_relay_goes_on() -> None:
    head = relay_with_two_below()
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    table = msgpack.encode([process(7)])
    tables = [m.NodeTable(0, table), m.NodeTable(1, b"\xc1"), m.NodeTable(2, table)]
    told_by_relay(head, m.Replies(query.id, [0, 3, 1], tables))
    (result,) = [message for message in head.told(2) if isinstance(message, c.Result)]
    assert [(row.node, row.pid) for row in result.value.processes] == [(0, 7), (2, 7)]
    assert result.value.missing == [1]
    assert head.machine.requests.questions._rows_bytes.held == {}


def test_a_table_of_its_own_that_nobody_can_read_ends_the_relays_link() -> None:
    head = relay_with_two_below()
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    with pytest.raises(ProtocolError):
        told_by_relay(head, m.Replies(query.id, [0, 1, 1], [m.NodeTable(0, b"\xc1")]))


def test_what_is_said_for_nodes_that_are_not_below_is_left_out() -> None:
    head = head_of(3)
    head.ask(c.ListProcesses(1, "", None), 2)
    query = head.commands(m.Query)[0][1]
    forged = [m.NodeTable(node, msgpack.encode([process(666)])) for node in (1, 2, 77, 1 << 30)]
    told_by_relay(head, m.Replies(query.id, [0, 3, 1], forged))
    for node in (1, 2):
        head.up(node, m.Reply(query.id, 1, [process(7)]))
    (result,) = [message for message in head.told(2) if isinstance(message, c.Result)]
    assert [(row.node, row.pid) for row in result.value.processes] == [(1, 7), (2, 7)]


def test_a_node_cannot_make_a_count_that_no_client_can_be_told() -> None:
    head = relay_with_two_below()
    head.ask(c.Signal(1, None, None, [7], 15, ""), 2)
    query = head.commands(m.Query)[0][1]
    most = (1 << 64) - 1
    for _ in range(3):
        head.up(0, m.Reply(query.id, most, [], more=True))
    told_by_relay(head, m.Replies(query.id, [0, 3, most], []))
    (signalled,) = head.told(2)
    assert signalled == c.Signalled(1, 6 * MAX_MATCHED, [])
    assert m.encode(signalled)
