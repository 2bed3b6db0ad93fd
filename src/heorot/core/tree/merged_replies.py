"""Answers of nodes to one question, merged on their way up; and which part of them somebody may say."""

from __future__ import annotations

from collections.abc import Iterator

from heorot.core.errors import ProtocolError
from heorot.core.tree.accumulator import Merged
from heorot.core.tree.nodeset import MAX_NODES, NodeSet
from heorot.core.wire.replies import NodeTable, OpaqueReply, Replies
from heorot.core.wire.tree import HeadCommand, Query

ROW_BYTES = 32
"""What a node takes at most, besides its processes."""
NO_PROCESSES = b"\x90"


class MergedReplies(Merged[Replies]):
    """What nodes have answered to one question. Milestone: a node has said all."""

    __slots__ = ("_matched", "_nodes", "_tables")
    max_subjects = 1_024

    def __init__(self, question: int) -> None:
        super().__init__(question)
        self._nodes = 0
        self._matched: list[tuple[int, int]] = []
        self._tables: list[NodeTable] = []

    @staticmethod
    def called_for_by(command: HeadCommand) -> int:
        """See `Merged`: a question."""
        assert isinstance(command, Query)
        return command.id

    @staticmethod
    def subject_of(word: Replies) -> int:
        """See `Merged`."""
        return word.id

    @staticmethod
    def weigh(word: Replies) -> int:
        """See `Merged`."""
        nodes = sum(word.matched[1::3]) + len(word.tables)
        return ROW_BYTES * nodes + sum(len(table.processes) for table in word.tables)

    def add(self, word: Replies) -> None:
        """See `Merged`."""
        for first, count, matched in _runs(word):
            self._nodes |= ((1 << count) - 1) << first
            self._matched += [(node, matched) for node in range(first, first + count)]
        self._tables += word.tables

    def take(self) -> Replies:
        """See `Merged`."""
        assert isinstance(self.subject, int)
        flat: list[int] = []
        for node, matched in sorted(self._matched):
            if flat and flat[-3] + flat[-2] == node and flat[-1] == matched:
                flat[-2] += 1
            else:
                flat += (node, 1, matched)
        replies = Replies(self.subject, flat, self._tables)
        self._matched, self._tables = [], []
        return replies

    @property
    def empty(self) -> bool:
        """See `Merged`."""
        return not self._matched and not self._tables

    @property
    def entries(self) -> int:
        """See `Merged`."""
        return len(self._matched)

    @property
    def milestones(self) -> tuple[int, ...]:
        """See `Merged`."""
        return (self._nodes.bit_count(),)


def replies_of(node: int, reply: OpaqueReply) -> Replies:
    """Return the answer of one node, which has said all, as that of a subtree."""
    table = bytes(reply.processes)
    tables = [] if table == NO_PROCESSES else [NodeTable(node, table)]
    return Replies(reply.id, [node, 1, reply.matched], tables)


def _runs(replies: Replies) -> Iterator[tuple[int, int, int]]:
    flat = replies.matched
    yield from zip(flat[0::3], flat[1::3], flat[2::3], strict=True)


def check_replies(replies: Replies) -> None:
    """See that the answers may be those of nodes.

    Raises
    ------
    ProtocolError
        If a record is incomplete, or there are more nodes than a cluster can have.
    """
    flat = replies.matched
    if len(flat) % 3:
        raise ProtocolError("replies with an incomplete record")
    if any(
        count < 1 or first < 0 or first + count > MAX_NODES or matched < 0 for first, count, matched in _runs(replies)
    ):
        raise ProtocolError("replies of nodes, or of so many, as there cannot be")
    if sum(flat[1::3]) > MAX_NODES:
        raise ProtocolError(f"replies of {sum(flat[1::3])} nodes; no cluster has more than {MAX_NODES}")


def answered(replies: Replies, mask: int) -> list[tuple[int, int]]:
    """Return who of these nodes has answered in checked replies: a mask of nodes, and how much each has matched."""
    found = []
    for first, count, matched in _runs(replies):
        nodes = mask >> first & ((1 << count) - 1)
        if nodes:
            found.append((nodes << first, matched))
    return found


def replies_for(mask: int, replies: Replies) -> Replies | None:
    """Return the part of checked replies that is of these nodes, None if there is none.

    A node that has just moved may still be spoken of on its former way: it is asked again, and answers, on the new one.
    """
    flat = [
        value for nodes, matched in answered(replies, mask) for node in NodeSet(nodes) for value in (node, 1, matched)
    ]
    tables = [table for table in replies.tables if mask >> table.node & 1]
    return Replies(replies.id, flat, tables) if flat or tables else None
