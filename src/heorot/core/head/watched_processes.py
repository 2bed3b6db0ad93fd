"""The processes that somebody watches: nodes are asked for them in rounds, once for all who do.

A round is complete when all of its nodes have answered, or are gone, but for those that are *slow*: such a node has
let `PATIENCE_MS` of a round pass, and is waited for no more until it has answered one. While it owes an answer it is
not asked again: so a node that hangs is asked every `query_timeout_ms`, and keeps nobody waiting more than once, for a
second. Until its time is over, what it has said last is shown.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.head.context import HeadContext
from heorot.core.head.questions import ROW_BYTES, Question, Questions
from heorot.core.head.watched_table import WatchedTable
from heorot.core.quota import MIB
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.rows import ProcessRow

MAX_TABLE_BYTES = 512 * 1024 * 1024
"""Of all processes that are watched. A node has no more of it than is left for others; of one that says more nothing is
shown, and it counts as one that does not answer."""
PATIENCE_MS = 1_000
"""So long a round waits for a node that has answered one before, and ..."""
FIRST_PATIENCE_MS = 3_000
"""... so long for one of which nothing is known yet: there is nothing that could be shown."""


class Round(Question):
    """One question to all nodes whose processes are watched."""

    def __init__(
        self, processes: WatchedProcesses, query: m.Query, wanted: NodeSet, began_ms: int, missing: list[int]
    ) -> None:
        super().__init__(None, query, missing)
        self._processes = processes
        self.wanted = wanted
        """Whose processes were wanted; not all of them may be asked now."""
        self.began_ms = began_ms

    def covers(self, nodes: NodeSet, job: str | None) -> bool:
        """Whether it asks these nodes for at least the processes of this job."""
        return not nodes - self.wanted and self.query.job in (None, job)

    def answered(self, nodes: int) -> None:
        """See `Question`."""
        self._processes.answered(self, nodes)

    def given_up(self, node: int) -> None:
        """See `Question`."""
        self._processes.given_up(self, node)

    def over(self) -> None:
        """See `Question`."""
        self._processes.look(self)


class WatchedProcesses:
    """The table, and the rounds that keep it true. `completed` is called when a round is."""

    def __init__(self, context: HeadContext, questions: Questions, completed: Callable[[], None]) -> None:
        self._context = context
        self._questions = questions
        self._completed = completed
        self.table = WatchedTable[tuple[int, int], ProcessRow]()
        self.missing = 0
        """Mask of the nodes that do not answer, or have too much to say; one is among them until it has answered."""
        self.current: Round | None = None
        """The round that is not complete yet."""
        self.last: Round | None = None
        """The one that was complete last."""
        self._slow = 0
        self._owing = 0
        """Mask of the nodes that have an open question of a round that is complete."""
        self._heard = 0
        """Mask of the nodes that have not been given up since they have answered: what they said is in the table."""
        self._keys: dict[int, list[tuple[int, int]]] = {}
        """By node."""
        self._bytes: dict[int, int] = {}
        """By node: what its rows take."""
        self.size_bytes = 0
        self._too_long = 0
        """Mask of the nodes of which the log tells that they have too much to say."""
        self._beginning = False

    def begin(self, wanted: NodeSet, job: str | None, asker: int) -> None:
        """Ask these nodes; there is no round under way."""
        assert self.current is None
        up = wanted & self._context.members.up
        for node in NodeSet.of(self._keys) - up:
            self._put(node, [])
        self._heard &= up.mask
        absent = wanted - up
        self.missing = absent.mask | (self.missing & up.mask)
        number = self._questions.next_number()
        query = m.Query(number, job, None, None, 0, True, -1, asker)
        self.current = Round(self, query, wanted, self._context.now_ms, list(absent))
        # Who begins it sees for himself whether it is complete at once.
        self._beginning = True
        self._questions.ask(self.current, NodeSet(up.mask & ~self._owing))
        if self.current is not None:
            self.look(self.current)
        self._beginning = False

    def answered(self, of: Round, nodes: int) -> None:
        """Nodes have said all."""
        self._owing &= ~nodes
        self._slow &= ~nodes
        self.missing &= ~nodes
        self._heard |= nodes
        for node in NodeSet(nodes):
            self._put(node, self._questions.taken(of, node))
        self.look(of)

    def given_up(self, of: Round, node: int) -> None:
        """A node is gone, or its time is over."""
        bit = 1 << node
        self._owing &= ~bit
        if self._context.members.up_mask & bit:
            self._slow |= bit
        self.missing |= bit
        self._heard &= ~bit
        self._questions.taken(of, node)
        self._put(node, [])
        self.look(of)

    def wait_no_longer(self) -> None:
        """See whether the round that is under way has lasted for long enough; `completed` is not called."""
        of = self.current
        if of is None:
            return
        unknown = of.waiting & ~self._slow & ~self._heard
        if self._context.now_ms - of.began_ms >= (FIRST_PATIENCE_MS if unknown else PATIENCE_MS):
            self._slow |= of.waiting
            self._complete(of)

    def _complete(self, of: Round) -> None:
        self._owing |= of.waiting
        self.missing |= of.waiting & ~self._heard
        self.current, self.last = None, of

    def look(self, of: Round) -> None:
        """See whether a round is complete."""
        if of is self.current and not of.waiting & ~self._slow:
            self._complete(of)
            if not self._beginning:
                self._completed()

    def _put(self, node: int, rows: list[ProcessRow]) -> None:
        size_bytes = sum(ROW_BYTES + sum(map(len, row.argv)) for row in rows)
        self.size_bytes -= self._bytes.pop(node, 0)
        if 2 * size_bytes > MAX_TABLE_BYTES - self.size_bytes:
            self._leave_out(node, size_bytes)
            rows, size_bytes = [], 0
        self.size_bytes += size_bytes
        found = {(node, row.pid): row for row in rows}
        former = self.table.rows
        is_other = any(key in former and former[key].job != row.job for key, row in found.items())
        self.table.put(found, self._keys.pop(node, ()))
        if is_other:
            # The number of a process that has ended: who watches its job only would not hear that it has gone.
            self.table.tell_all()
        if found:
            self._bytes[node], self._keys[node] = size_bytes, list(found)

    def _leave_out(self, node: int, size_bytes: int) -> None:
        self.missing |= 1 << node
        if not self._too_long >> node & 1:
            self._too_long |= 1 << node
            text = f"n{node} has {size_bytes // MIB} MiB of processes: who watches does not see them, because"
            text += f" {self.size_bytes // MIB} of {MAX_TABLE_BYTES // MIB} MiB for those of all nodes are taken"
            self._context.log("warning", text)

    def close(self) -> None:
        """Nobody watches any more."""
        for question in list(self._questions.queries.values()):
            if isinstance(question, Round):
                self._questions.forget(question)
