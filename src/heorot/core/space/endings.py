"""The end of a rank: its process was reaped, nothing that it started is left, and its streams are at their end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heorot.core.space import events as e
from heorot.core.space.input import InputSide
from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.pmi import PmiSide
from heorot.core.space.states import ON_DRAINED, ON_EXITED, ON_SWEPT, OVER, SWEPT
from heorot.core.space.turn import Turn
from heorot.core.wire import tree as m

EXIT_DELAY_MS = 2
"""Exits wait this long for others while more ranks of the job run here."""
STRAY_PIPE_MS = 2000
"""How long a pipe may stay open after everything that the rank started is gone (somebody outside holds it)."""

TIMED_OUT = 124 << 8
"""The status of a rank whose time was over, whatever it has made of the signal that told it so, as of timeout(1): only
one that had to be killed is said to be killed."""
SIGKILL = 9
NOT_EXECUTED = 127 << 8
"""The status of a process that has found no program to become."""
UNSEEN = (
    "a start that took long was not waited for: a file system did not answer, or the process was stopped meanwhile; if"
    " it ended with 127 because there was no program, nobody saw why"
)


class Endings:
    """Brings the ranks of a space to their end.

    Parameters
    ----------
    node:
        The node's number.
    slots:
        The machine's ranks of which the shell still holds something; those that are over leave it here.
    tell:
        Called with a job that has something to report, and when.
    reaped:
        Called with a rank whose process was reaped.
    """

    def __init__(
        self,
        node: int,
        turn: Turn,
        slots: dict[int, Rank],
        stdin: InputSide,
        pmi: PmiSide,
        tell: Callable[[SpaceJob, int], None],
        reaped: Callable[[Rank], None],
    ) -> None:
        self._node = node
        self._turn = turn
        self._slots = slots
        self._input = stdin
        self._pmi = pmi
        self._tell = tell
        self._reaped = reaped
        self._closing: deque[tuple[int, Rank]] = deque()
        """Ranks with a pipe that somebody outside may hold open, and when it is cut off."""
        self.due_ms: int | None = None
        """When `tick` is wanted: for the first of these."""

    def exited(self, event: e.ProcessExited) -> None:
        """The process of a rank was reaped."""
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.state = ON_EXITED[rank.state]
            self._reaped(rank)
            rank.status = event.status
            if rank.out_of_time and event.status & 0x7F != SIGKILL:
                rank.status = TIMED_OUT
            rank.used = event.used
            self._input.leave(rank)
            self._pmi.exited(rank)
        if event.clean:
            self._is_swept(event.slot, rank, 0)
        else:
            self._turn.out.append(e.Sweep(event.slot, rank is not None and rank.job is not None and rank.job.linger))

    def swept(self, event: e.Swept) -> None:
        """Nothing is left of what a rank has started."""
        self._is_swept(event.slot, self._slots.get(event.slot), event.killed)

    def _is_swept(self, slot: int, rank: Rank | None, killed: int) -> None:
        if rank is None:
            self._turn.out += (e.CloseOutputs(slot), e.ForgetSlots([slot]))
            return
        rank.state = ON_SWEPT[rank.state]
        rank.killed = killed
        if all(rank.output_ended):
            self._is_drained(rank)
        elif rank.job is None:
            self._turn.out.append(e.CloseOutputs(slot))
        else:
            # Nobody is left to write. A paused pipe is emptied, past its limit by what a pipe holds; the end of any
            # other follows at once, unless somebody outside the space holds it open: then it is cut off after a while.
            if any(rank.paused):
                self._turn.out.append(e.CloseOutputs(rank.slot))
            else:
                self._closing.append((self._turn.now + STRAY_PIPE_MS, rank))
                self.due_ms = self._closing[0][0]

    def write_ended(self, event: e.WriteEnded) -> None:
        """A stream of a rank is at its end."""
        rank = self._slots.get(event.slot)
        if rank is not None:
            rank.output_ended[event.stream - 1] = True
            if rank.state is SWEPT and all(rank.output_ended):
                self._is_drained(rank)

    def _is_drained(self, rank: Rank) -> None:
        rank.state = ON_DRAINED[rank.state]
        del self._slots[rank.slot]
        self._turn.out.append(e.ForgetSlots([rank.slot]))
        job = rank.job
        if job is None:
            return
        job.live -= 1
        if job.caveat and rank.status > 0xFF and not rank.status & 0x7F:
            # It has exited with something else than 0: now it matters.
            job.note(m.Failure(self._node, rank.number, 0, job.caveat))
            job.caveat = ""
        if rank.unseen and rank.status == NOT_EXECUTED:
            job.note(m.Failure(self._node, rank.number, 0, UNSEEN))
        job.ended(self._node, rank)
        self._tell(job, self._turn.now if job.live == 0 else self._turn.now + EXIT_DELAY_MS)

    def tick(self) -> None:
        """Cut off what is due."""
        while self._closing and (self._closing[0][0] <= self._turn.now or self._closing[0][1].state is OVER):
            _, rank = self._closing.popleft()
            if rank.state is SWEPT:
                self._turn.out.append(e.CloseOutputs(rank.slot))
        self.due_ms = self._closing[0][0] if self._closing else None
