"""Questions that only nodes can answer: each goes down the tree as a `Query`, and every node answers once.

A question ends when all have answered, when those that have not are gone, or at the latest after `query_timeout_ms`.
What becomes of the answers is its own affair: a client is told them, or they become what is shown to who watches.
"""

from __future__ import annotations

from collections import Counter

from heorot.core.errors import ProtocolError, RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.timers import QueryDue
from heorot.core.machine import Log
from heorot.core.quota import MIB, Ledger
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.greeting import WRONG_BELOW
from heorot.core.tree.merged_replies import answered, check_replies
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.replies import decode_table
from heorot.core.wire.rows import ProcessList, ProcessRow

MAX_ROWS_BYTES = 128 * 1024 * 1024
"""Of one node, in all answers that are not complete yet."""
MAX_MATCHED = 1 << 22
"""No node has more processes: so large is the largest PID of Linux. What a node says beyond it is not believed, and the
sum of all can be told to a client."""
ROW_BYTES = 1024
"""What a row takes besides its command line."""


class Question:
    """A question that is on its way. `caller`: the client who asks; None: nobody's quota is charged with it."""

    def __init__(self, caller: Caller | None, query: m.Query, missing: list[int]) -> None:
        self.caller = caller
        self.query = query
        self.waiting = 0
        """Mask of the nodes that have not answered."""
        self.missing = missing
        """Those that do not answer."""
        self.matched = 0
        self.rows: dict[int, list[ProcessRow]] = {}
        """By node, of those that have not been given to anybody."""
        self.rows_bytes: dict[int, int] = {}
        """By node: what they take."""

    def answered(self, nodes: int) -> None:
        """The nodes of this mask have said all."""

    def given_up(self, node: int) -> None:
        """This node is not waited for any more."""

    def over(self) -> None:
        """Nobody is waited for."""


class ClientQuestion(Question):
    """A client's: it is told when all is known."""

    def __init__(self, context: HeadContext, caller: Caller, request: int, query: m.Query, missing: list[int]) -> None:
        super().__init__(caller, query, missing)
        self._context = context
        self._caller = caller
        self._request = request

    def over(self) -> None:
        """See `Question`."""
        context, client = self._context, self._caller.client
        self.missing.sort()
        if not self.query.detail:
            context.to_client(client, c.Signalled(self._request, self.matched, self.missing))
            return
        found = [row for node in sorted(self.rows) for row in sorted(self.rows[node], key=lambda row: row.pid)]
        rows = context.send_rows(client, self._request, found)
        context.answer(client, self._request, ProcessList(rows, self.missing))


class Questions:
    """All that are on their way."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self.queries: dict[int, Question] = {}
        """By number."""
        self._next_query = (context.config.epoch << 32) + 1
        self._rows_bytes = Ledger[int]()
        """By node: what its rows take in all answers that are not complete."""

    def require_room(self, caller: Caller) -> None:
        """See that this user may have one more question on its way. Raises RequestError: ``busy``."""
        held = Counter(question.caller.uid for question in self.queries.values() if question.caller is not None)
        why = self._context.questions_quota.refusal(caller.uid, held, name=caller.user)
        if why:
            raise RequestError("busy", why)

    def next_number(self) -> int:
        """Return a number that no other question has."""
        number = self._next_query
        self._next_query += 2
        return number

    def ask(self, question: Question, nodes: NodeSet) -> None:
        """Put a question to these nodes, which are up. One within its grace gets the question when it is back."""
        context, number = self._context, question.query.id
        question.waiting = nodes.mask
        self.queries[number] = question
        context.await_somebody(QueryDue(number), context.config.query_timeout_ms)
        context.send_down(nodes, question.query)
        if not nodes:
            self._end(question)

    # ------------------------------------------------------------------ answers

    def reply(self, node: int, reply: m.Reply) -> None:
        """Take a node's answer."""
        question = self.queries.get(reply.id)
        if question is None or not self._take_rows(question, node, reply.processes):
            return
        self._count(question, reply.matched)
        if not reply.more:
            self._answered(question, 1 << node)

    def replied(self, link: LinkBelow, replies: m.Replies) -> None:
        """Take what a child says that its subtree answers. Raises ProtocolError."""
        mask = link.mask
        check_replies(replies)
        question = self.queries.get(replies.id)
        if question is None:
            return
        for table in replies.tables:
            if mask >> table.node & 1 and question.waiting >> table.node & 1:
                self._take_table(question, link, table)
        all_nodes = 0
        for nodes, matched in answered(replies, mask & question.waiting):
            self._count(question, matched, nodes.bit_count())
            all_nodes |= nodes
        self._answered(question, all_nodes)

    def _count(self, question: Question, matched: int, nodes: int = 1) -> None:
        question.matched += min(matched, MAX_MATCHED) * nodes

    def _answered(self, question: Question, nodes: int) -> None:
        if question.query.id in self.queries:
            question.waiting &= ~nodes
            question.answered(nodes)
            if not question.waiting:
                self._end(question)

    def _take_table(self, question: Question, link: LinkBelow, table: m.NodeTable) -> None:
        try:
            processes = decode_table(table)
        except ProtocolError as error:
            if table.node == link.peer:
                raise
            # Who passes it on does not look into it, and is not to blame.
            self._context.emit(Log("warning", f"n{table.node} says something wrong: {error}", link.link, WRONG_BELOW))
            self._give_up(question, table.node)
            return
        self._take_rows(question, table.node, processes)

    def _take_rows(self, question: Question, node: int, processes: list[m.Process]) -> bool:
        """Take some of a node's processes; return False if nothing of it is waited for, now or any more."""
        if not question.waiting >> node & 1:
            return False
        size_bytes = sum(ROW_BYTES + sum(map(len, process.argv)) for process in processes)
        if self._rows_bytes.held.get(node, 0) + size_bytes > MAX_ROWS_BYTES:
            # One that says without end that more follows is not believed to answer.
            self._context.log("warning", f"n{node} has more than {MAX_ROWS_BYTES // MIB} MiB to say of its processes")
            self._give_up(question, node)
            return False
        self._rows_bytes.add(node, size_bytes)
        question.rows_bytes[node] = question.rows_bytes.get(node, 0) + size_bytes
        if processes:
            question.rows.setdefault(node, []).extend(row_of(node, process) for process in processes)
        return True

    def taken(self, question: Question, node: int) -> list[ProcessRow]:
        """Return what a node has said, which is no part of the question's answer any more."""
        self._rows_bytes.add(node, -question.rows_bytes.pop(node, 0))
        return question.rows.pop(node, [])

    # ------------------------------------------------------------------ who does not answer

    def ask_again(self, node: int) -> None:
        """A node is back: repeat what it has not answered; asking twice acts once."""
        for question in self.queries.values():
            if question.waiting >> node & 1:
                self._context.send_down(NodeSet(1 << node), question.query)

    def node_gone(self, node: int) -> None:
        """Wait for this node no longer."""
        for question in list(self.queries.values()):
            if question.waiting >> node & 1:
                self._give_up(question, node)

    def _give_up(self, question: Question, node: int) -> None:
        question.waiting &= ~(1 << node)
        question.missing.append(node)
        question.given_up(node)
        if not question.waiting:
            self._end(question)

    def timed_out(self, number: int) -> None:
        """Go on with what has come so far."""
        question, context = self.queries.get(number), self._context
        if question is not None and not context.goes_on_waiting(QueryDue(number), context.config.query_timeout_ms):
            for node in NodeSet(question.waiting):
                self._give_up(question, node)

    def _end(self, question: Question) -> None:
        self.forget(question)
        question.over()

    def client_gone(self, client: int) -> None:
        """Nobody waits for these answers any more."""
        for question in list(self.queries.values()):
            if question.caller is not None and question.caller.client == client:
                self.forget(question)

    def forget(self, question: Question) -> None:
        """Wait for no answer to it any more."""
        del self.queries[question.query.id]
        for node, size_bytes in question.rows_bytes.items():
            self._rows_bytes.add(node, -size_bytes)


def row_of(node: int, process: m.Process) -> ProcessRow:
    """Return what is shown of a process of a node."""
    return ProcessRow(
        pid=process.pid,
        node=node,
        job=process.job or None,
        rank=process.rank if process.rank >= 0 else None,
        uid=process.uid,
        user=None,
        state=process.state,
        started_at_ms=process.started_at_ms,
        argv=process.argv,
        leader=process.leader,
        parent_pid=process.parent_pid,
        user_time_ms=process.user_time_ms,
        memory_bytes=process.memory_bytes,
    )
