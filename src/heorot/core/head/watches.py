"""Clients that watch nodes, jobs or processes: a question with many answers.

Theory of operation. A watch is told everything first, and then, at its interval at the earliest, what has changed. One
update is on its way at most: until the client says that it has seen it, nothing follows, and what changes meanwhile
becomes one change. So a client that is slow, or reads no more, costs no memory but that of one update.

What changes is found by looking: at the tables of nodes and jobs, and at the nodes' processes in rounds
(`heorot.core.head.watched_processes`), once for all watches, and only while one of them is due. The tables are looked
at every `LOOK_MS` at most, and more seldom the more rows there are; watches are told by turns of their users
(`heorot.core.head.watch_turns`). So the head's work for watches is bounded, whoever watches. What is shown is what the
same question asked once shows (`heorot.core.head.overview`), and what would refuse that one ends the watch.
"""

from __future__ import annotations

from collections import Counter

from heorot.core.errors import RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.overview import Overview
from heorot.core.head.questions import Questions
from heorot.core.head.states import WatchState
from heorot.core.head.timers import WatchDue
from heorot.core.head.watch import ClientWatch
from heorot.core.head.watch_turns import WatchTurns
from heorot.core.head.watched_processes import PATIENCE_MS, WatchedProcesses
from heorot.core.head.watched_table import WatchedTable
from heorot.core.quota import ROOT
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire.node_runs import runs_of
from heorot.core.wire.rows import JobRow, NodeRow, ProcessRow

NODES, JOBS, PROCESSES = TOPICS = ("nodes", "jobs", "processes")
LOOK_MS = 100
"""Between two looks at a table, and between two updates of one watch, at least; and ..."""
ROWS_PER_MS = 20
"""... so many rows more make both longer by a millisecond."""
RANKS_PER_ROW = 16
"""So many ranks of jobs, whose states are counted for a table, cost as much as a row."""
LONGEST_INTERVAL_MS = 86_400_000
MAX_NODE_LIST = 65_536
"""Characters of the node list of a watch, which is kept."""


class Watches:
    """See the module."""

    def __init__(self, context: HeadContext, jobs: Jobs, questions: Questions, overview: Overview) -> None:
        self._context = context
        self._jobs = jobs
        self._questions = questions
        self._overview = overview
        self.watches: dict[tuple[int, int], ClientWatch] = {}
        """By client and request."""
        self._nodes = WatchedTable[int, NodeRow]()
        self._job_rows = WatchedTable[str, JobRow]()
        self._processes: WatchedProcesses | None = None
        self._looks: dict[str, tuple[int, int]] = {}
        """By topic: when its table was looked at last, and for how long it is left alone then."""
        self._lists: dict[str, tuple[list[int], frozenset[int], object]] = {}
        """In this look: the nodes that a list names, and ..."""
        self._sets: dict[tuple[str, str | None], NodeSet] = {}
        """... those that are to be asked for its processes, of a job."""
        self._turns = WatchTurns()
        self._is_behind = False
        """Some of those who are due are still to be looked at."""
        self._armed_ms: int | None = None
        """When the timer fires; None: it is not set."""

    # ------------------------------------------------------------------ what clients say

    def begin(self, caller: Caller, ask: c.Watch) -> None:
        """Watch for a client from now on.

        Raises
        ------
        RequestError
            ``bad-request``, ``busy``, and what the same question asked once is refused with.
        """
        if not ask.topics or len(set(ask.topics)) < len(ask.topics) or not set(ask.topics) <= set(TOPICS):
            raise RequestError("bad-request", f"a watch is of one or more of {', '.join(TOPICS)}, each once")
        if len(ask.nodes) > MAX_NODE_LIST:
            raise RequestError("bad-request", f"a node list of {len(ask.nodes)} characters is too long to be watched")
        if (caller.client, ask.request) in self.watches:
            raise RequestError("bad-request", f"request {ask.request} is a watch already")
        held = Counter(watch.caller.uid for watch in self.watches.values())
        why = self._context.watches_quota.refusal(caller.uid, held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        watch = ClientWatch(caller, ask, self._context.now_ms)
        self._read_anew()
        if watch.has(NODES):
            self._named(watch)
        self._asked(watch)
        self.watches[caller.client, ask.request] = watch
        if watch.has(PROCESSES) and self._processes is None:
            self._processes = WatchedProcesses(self._context, self._questions, self._look)
        # What somebody is told first is as true as the answer to a question, and as one it comes in its user's turn.
        self._refresh([watch], True)
        self._look_at([watch], WatchTurns())
        self._arm()

    def seen(self, client: int, request: int) -> None:
        """A client has seen the last update. One that says so of nothing is not listened to."""
        watch = self.watches.get((client, request))
        if watch is None or watch.state is not WatchState.TOLD:
            return
        watch.seen(self._context.now_ms)
        self._arm()

    def end(self, client: int, request: int) -> bool:
        """A client does not want to know more; return False if it has no such watch."""
        if (client, request) not in self.watches:
            return False
        self._drop([(client, request)])
        self._context.answer(client, request, None)
        return True

    def client_gone(self, client: int) -> None:
        """Nobody is to be told any more."""
        self._drop([key for key in self.watches if key[0] == client])

    def _drop(self, keys: list[tuple[int, int]]) -> None:
        for key in keys:
            del self.watches[key]
        watched = {topic for other in self.watches.values() for topic in other.ask.topics}
        for topic in set(TOPICS) - watched:
            self._looks.pop(topic, None)
        if NODES not in watched:
            self._nodes = WatchedTable()
        if JOBS not in watched:
            self._job_rows = WatchedTable()
        if PROCESSES not in watched and self._processes is not None:
            self._processes.close()
            self._processes = None

    def _refuse(self, watch: ClientWatch, error: RequestError) -> None:
        self._drop([(watch.caller.client, watch.ask.request)])
        self._context.refuse(watch.caller.client, watch.ask.request, error.code, error.message)

    # ------------------------------------------------------------------ when to look

    def due(self) -> None:
        """The timer has fired."""
        self._armed_ms = None
        self._look()

    def _look(self) -> None:
        """Look at those who are due, as far as it is their turn."""
        now_ms = self._context.now_ms
        if self._processes is not None:
            self._processes.wait_no_longer()
        due = [
            watch for watch in self.watches.values() if watch.state is not WatchState.TOLD and watch.due_ms <= now_ms
        ]
        self._is_behind = bool(due)
        if due and now_ms >= self._turns.free_ms:
            self._read_anew()
            self._refresh(due, False)
            self._is_behind = self._look_at(due, self._turns) < len(due)
        self._arm()

    def _look_at(self, due: list[ClientWatch], turns: WatchTurns) -> int:
        """Tell them what is new, and ask nodes if somebody has to know what they would say; return how many had their
        turn.
        """
        looked_at: list[ClientWatch] = []
        for watch in turns.in_turn(due, self._context.now_ms):
            rows, entries = watch.looked_at_rows, self._overview.entries_read
            self._tell_if_ready(watch)
            turns.spend(1 + watch.looked_at_rows - rows, self._overview.entries_read - entries)
            looked_at.append(watch)
        waiting = [watch for watch in looked_at if watch.waits]
        if waiting and self._processes is not None and self._processes.current is None:
            self._ask_nodes(waiting)
            if self._processes.current is None:
                for watch in waiting:
                    self._tell_if_ready(watch)
        return len(looked_at)

    def _tell_if_ready(self, watch: ClientWatch) -> None:
        now_ms = self._context.now_ms
        try:
            watch.waits = watch.has(PROCESSES) and not self._is_fresh(watch)
            if watch.waits:
                return
            is_told = self._tell(watch)
        except RequestError as error:
            watch.waits = False
            self._refuse(watch, error)
            return
        # All watches in step: whoever is due a moment later is told what the same look has found.
        due_ms = (now_ms + self._pause_ms(watch) + LOOK_MS - 1) // LOOK_MS * LOOK_MS
        watch.looked(now_ms, due_ms, is_told)

    def _pause_ms(self, watch: ClientWatch) -> int:
        """Return for how long a watch is told nothing now."""
        asked_ms = min(watch.ask.interval_ms, LONGEST_INTERVAL_MS)
        return max(asked_ms, *(self._table_pause_ms(topic) for topic in watch.ask.topics))

    def _table_pause_ms(self, topic: str) -> int:
        """Return how long a table is left alone after it was looked at."""
        if topic == PROCESSES and self._processes is not None:
            return LOOK_MS + len(self._processes.table.rows) // ROWS_PER_MS
        return self._looks.get(topic, (0, LOOK_MS))[1]

    def _rest_ms(self, topic: str) -> int:
        """Return the same of a table that is about to be looked at."""
        jobs = self._jobs.jobs.values()
        if topic == NODES:
            rows = self._context.members.known_mask.bit_count()
            ranks = sum(len(job.nodes) for job in jobs if not job.done)
        else:
            rows, ranks = len(jobs), sum(len(job.ends) for job in jobs)
        return LOOK_MS + (rows + ranks // RANKS_PER_ROW) // ROWS_PER_MS

    def _arm(self) -> None:
        """Set the timer for the first who is due, if anybody may be told anything."""
        now_ms = self._context.now_ms
        times = [self._next_ms(watch) for watch in self.watches.values() if watch.state is not WatchState.TOLD]
        if self._is_behind:
            times.append(max(self._turns.free_ms, now_ms + 1))
        if times and (self._armed_ms is None or min(times) < self._armed_ms):
            self._armed_ms = min(times)
            self._context.set_timer(WatchDue(), self._armed_ms - now_ms)

    def _next_ms(self, watch: ClientWatch) -> int:
        now_ms = self._context.now_ms
        if watch.waits:
            return max(watch.due_ms + PATIENCE_MS, now_ms + LOOK_MS)
        return max(watch.due_ms, self._turns.free_ms, now_ms + 1)

    # ------------------------------------------------------------------ what there is

    def _read_anew(self) -> None:
        """Nodes may have other states than at the last look: read the lists anew."""
        self._lists.clear()
        self._sets.clear()

    def _refresh(self, due: list[ClientWatch], at_once: bool) -> None:
        """Look at the tables of nodes and jobs, if somebody who is due watches them, and it is time."""
        if self._may_look(NODES, due, at_once):
            numbers = self._context.members.known.numbers()
            rows = {row.id: row for row in self._overview.node_rows(numbers)}
            self._nodes.put(rows, list(self._nodes.rows))
        if self._may_look(JOBS, due, at_once):
            jobs = {row.job: row for row in self._overview.job_rows()}
            self._job_rows.put(jobs, list(self._job_rows.rows))

    def _may_look(self, topic: str, due: list[ClientWatch], at_once: bool) -> bool:
        now_ms, last = self._context.now_ms, self._looks.get(topic)
        is_time = at_once or last is None or now_ms - last[0] >= last[1]
        if not is_time or not any(watch.has(topic) for watch in due):
            return False
        self._looks[topic] = now_ms, self._rest_ms(topic)
        return True

    def _is_fresh(self, watch: ClientWatch) -> bool:
        """Whether a round is complete that tells this watch what it wants to know. Raises RequestError."""
        nodes = self._asked(watch)
        last = self._processes.last if self._processes is not None else None
        return last is not None and last.began_ms >= watch.news_from_ms and last.covers(nodes, watch.ask.job)

    def _named(self, watch: ClientWatch) -> tuple[list[int], frozenset[int], object]:
        """Return the nodes that a watch is of, as a list, as a set, and what tells this list from others.

        Raises
        ------
        RequestError
            If there is no such list any more.
        """
        text = watch.ask.nodes
        if text not in self._lists:
            chosen = self._overview.nodes_named(text)
            # Not the list itself, which may be long.
            self._lists[text] = chosen, frozenset(chosen), hash(tuple(chosen)) if text else None
        return self._lists[text]

    def _asked(self, watch: ClientWatch) -> NodeSet:
        """Return the nodes that are to be asked for what a watch is of. Raises RequestError."""
        of = watch.ask.nodes, watch.ask.job
        if of not in self._sets:
            self._sets[of] = self._overview.nodes_of_processes(*of)
        watch.asked = self._sets[of]
        return watch.asked

    def _ask_nodes(self, waiting: list[ClientWatch]) -> None:
        """Ask the nodes that anybody watches, as far as he was looked at last."""
        assert self._processes is not None
        watches = [watch for watch in self.watches.values() if watch.has(PROCESSES)]
        wanted, jobs = NodeSet(), {watch.ask.job for watch in watches}
        for watch in watches:
            wanted |= watch.asked
        uids = [watch.caller.uid for watch in waiting]
        asker = ROOT if ROOT in uids else uids[0]
        self._processes.begin(wanted, jobs.pop() if len(jobs) == 1 else None, asker)

    # ------------------------------------------------------------------ what is told

    def _tell(self, watch: ClientWatch) -> bool:
        """Tell what is new; return False if nothing is. Raises RequestError if there is nothing to watch any more."""
        parts: list[c.Changed] = []
        for topic in watch.ask.topics:
            if topic == NODES:
                parts += self._nodes_told(watch)
            elif topic == JOBS:
                parts += self._jobs_told(watch)
            else:
                parts += self._processes_told(watch)
        if not parts:
            return False
        client, request = watch.caller.client, watch.ask.request
        if any(part.topic == NODES for part in parts):
            self._overview.tell_doubts(client, request)
        last = parts.pop()
        for part in parts:
            self._context.to_client(client, part)
        self._context.to_client(
            client, c.Changed(request, last.topic, last.full, last.rows, last.gone, False, last.missing, last.named)
        )
        return True

    def _nodes_told(self, watch: ClientWatch) -> list[c.Changed]:
        table, (chosen, among, shown) = self._nodes, self._named(watch)
        if watch.knows(NODES, table, shown):
            return watch.news(NODES, table, lambda row: row.id in among)
        rows = [table.rows[node] for node in dict.fromkeys(chosen) if node in table.rows]
        return watch.everything(NODES, table, rows, named=runs_of(chosen) if watch.ask.nodes else [])

    def _jobs_told(self, watch: ClientWatch) -> list[c.Changed]:
        job, table = watch.ask.job, self._job_rows
        if watch.knows(JOBS, table, job):
            return watch.news(JOBS, table, lambda row: job in (None, row.job))
        return watch.everything(JOBS, table, [row for row in table.rows.values() if job in (None, row.job)])

    def _processes_told(self, watch: ClientWatch) -> list[c.Changed]:
        processes = self._processes
        assert processes is not None
        mask, job, table = self._asked(watch).mask, watch.ask.job, processes.table

        def is_wanted(row: ProcessRow) -> bool:
            return bool(mask >> row.node & 1) and job in (None, row.job)

        missing = NodeSet(processes.missing & mask)
        if watch.knows(PROCESSES, table, mask):
            return watch.news(PROCESSES, table, is_wanted, missing)
        rows = sorted(filter(is_wanted, table.rows.values()), key=lambda row: (row.node, row.pid))
        return watch.everything(PROCESSES, table, rows, missing)
