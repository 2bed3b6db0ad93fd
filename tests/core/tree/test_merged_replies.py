"""Answers of many nodes become one: who has answered, how much each has matched, and the processes of each."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.tree.accumulator import Accumulator
from heorot.core.tree.merged_replies import MergedReplies, answered, check_replies, replies_for, replies_of
from heorot.core.wire.replies import NodeTable, Process, Replies, Reply, decode_opaque, decode_table
from heorot.core.wire.tree import decode_link, encode

PROCESS = Process(7, "1.1", 0, 0, "S", 0, [b"prog"], True)


def said(node: int, matched: int, *processes: Process) -> Replies:
    """Return what a node answers."""
    return replies_of(node, decode_opaque(encode(Reply(3, matched, list(processes)))))


def test_nodes_that_have_matched_alike_are_one_record() -> None:
    merged = Accumulator(MergedReplies(3), 0b11111, 50)
    assert [merged.add(said(node, 1 if node < 3 else 0)) for node in (1, 0, 4, 2)] == [False] * 4
    assert merged.add(said(3, 0))
    assert merged.take() == Replies(3, [0, 3, 1, 3, 2, 0], [])
    assert merged.finished


def test_processes_of_nodes_stay_apart_and_as_they_were() -> None:
    merged = Accumulator(MergedReplies(3), 0b111, 50)
    merged.add(said(0, 1, PROCESS))
    merged.add(said(1, 0))
    assert merged.add(said(2, 2, PROCESS, PROCESS))
    replies = decode_link(encode(merged.take()))
    assert isinstance(replies, Replies)
    assert replies.matched == [0, 1, 1, 1, 1, 0, 2, 1, 2]
    assert [(table.node, decode_table(table)) for table in replies.tables] == [(0, [PROCESS]), (2, [PROCESS] * 2)]


def test_a_node_that_answers_again_does_not_stand_for_another() -> None:
    merged = Accumulator(MergedReplies(3), 0b11, 50)
    assert not merged.add(said(0, 1))
    assert not merged.add(said(0, 1))
    assert merged.add(said(1, 1))


def test_what_waits_is_weighed_with_its_processes() -> None:
    merged = Accumulator(MergedReplies(3), 0b11, 50)
    large = Process(7, "1.1", 0, 0, "S", 0, [b"x" * 1_500_000], True)
    assert merged.has_room_for(said(0, 1, large))
    merged.add(said(0, 1, large))
    assert not merged.has_room_for(said(1, 1, large))
    merged.take()
    assert merged.has_room_for(said(1, 1, large))


def test_only_what_is_of_certain_nodes_is_left() -> None:
    replies = Replies(3, [0, 4, 1, 6, 1, 2], [said(node, 1, PROCESS).tables[0] for node in (2, 6)])
    part = replies_for(0b0110, replies)
    assert part is not None
    assert (part.matched, [table.node for table in part.tables]) == ([1, 1, 1, 2, 1, 1], [2])
    assert replies_for(0b10000, replies) is None
    assert answered(replies, 0b1000110) == [(0b110, 1), (0b1000000, 2)]


@pytest.mark.parametrize(
    "matched",
    [[0, 1], [0, 0, 1], [0, -1, 1], [-1, 1, 1], [0, 1, -1], [1 << 20, 1, 0], [0, 1 << 21, 0], [0, 1 << 19, 0] * 3],
)
def test_what_cannot_be_an_answer_is_a_breach_of_the_protocol(matched: list[int]) -> None:
    with pytest.raises(ProtocolError):
        check_replies(Replies(3, matched, []))


def test_a_table_that_is_none_is_a_breach_of_the_protocol() -> None:
    with pytest.raises(ProtocolError):
        decode_table(NodeTable(0, b"\x91\x07"))
