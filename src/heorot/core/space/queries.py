"""Questions about the processes of a space, and signals to them: each is acted on once, however often it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from heorot.core.space import events as e
from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.states import QUEUED
from heorot.core.space.turn import Turn
from heorot.core.wire import tree as m

MAX_REMEMBERED_QUERIES = 1024
MAX_PENDING_SIGNALS = 16
HARMLESS_SIGNALS = frozenset({0, 17, 18, 19, 20, 21, 22, 23, 28})
"""Those that end no process that does not ask for it: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH."""


class Queries:
    """Questions that were answered, and those that the shell is to answer.

    Parameters
    ----------
    jobs:
        The machine's jobs.
    end_queued:
        A signal ends those of the ranks of a job that wait for their program; returns how many.
    """

    def __init__(
        self, turn: Turn, jobs: dict[str, SpaceJob], end_queued: Callable[[SpaceJob, list[Rank], int], int]
    ) -> None:
        self._turn = turn
        self._jobs = jobs
        self._end_queued = end_queued
        self._replies: OrderedDict[int, m.Reply] = OrderedDict()

    def ask(self, command: m.Query) -> None:
        """Answer a question, or do what it says; one that comes again is not acted on again."""
        known = self._replies.get(command.id)
        if known is not None:
            self._turn.send(known)
            return
        slots: list[int] | None = None
        if command.job is not None:
            job = self._jobs.get(command.job)
            if job is None:
                self._turn.send(m.Reply(command.id, 0, []))
                return
            wanted = job.ranks if command.ranks is None else {n: job.ranks[n] for n in command.ranks if n in job.ranks}
            if command.ranks is not None:
                slots = [rank.slot for rank in wanted.values()]
            if job.waiting and command.pids is None and command.signal not in HARMLESS_SIGNALS:
                if command.uid in (-1, job.uid):
                    ended = self._end_queued(job, list(wanted.values()), command.signal)
                    self._remember(m.Reply(command.id, ended, []))
                self._turn.send(self._replies.get(command.id, m.Reply(command.id, 0, [])))
                return
            if command.signal and command.pids is None:
                for rank in wanted.values():
                    if rank.state is QUEUED and len(rank.pending_signals) < MAX_PENDING_SIGNALS:
                        rank.pending_signals.append(command.signal)
        if command.signal:
            # Remembered before it is done: whatever happens, it is not done twice.
            self._remember(m.Reply(command.id, 0, []))
        self._turn.out.append(
            e.Select(command.id, command.job or "", slots, command.pids, command.signal, command.detail, command.uid),
        )

    def _remember(self, reply: m.Reply) -> None:
        self._replies[reply.id] = reply
        while len(self._replies) > MAX_REMEMBERED_QUERIES:
            self._replies.popitem(last=False)

    def selected(self, event: e.Selected) -> None:
        """The shell has looked at its processes."""
        reply = m.Reply(event.query, event.matched, event.processes)
        if event.query in self._replies:
            # The rows of a repeated answer are left out: a thousand remembered tables would not be small.
            self._replies[event.query] = m.Reply(event.query, event.matched, [])
        self._turn.send(reply)
