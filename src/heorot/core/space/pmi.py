"""The process space's part in PMI-1: what ranks say comes here, and what their job makes of it goes out.

What the ranks of a job have come to is in `heorot.core.pmi.job`; here it becomes answers, words to the head, and the
end of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heorot.core.pmi.dictionary import Dictionary
from heorot.core.pmi.job import PmiJob
from heorot.core.pmi.mapping import process_mapping
from heorot.core.quota import MIB, Ledger, Quota
from heorot.core.space import events as e
from heorot.core.space.jobs import Rank, SpaceJob
from heorot.core.space.states import HELD, QUEUED
from heorot.core.space.turn import Turn
from heorot.core.wire.tree import Failure, Gathered, Scattered, Ticket, ranks_of, ranks_on

OWN_BYTES = 4 * MIB
"""What the ranks of this node have put since the barrier before the last one, of all jobs: its inventory holds that."""
KNOWN_BYTES = 512 * MIB
"""What all ranks have told each other, of all jobs that are here."""


class PmiSide:
    """The jobs of a space whose ranks have a connection to PMI.

    Parameters
    ----------
    node
        The node's number.
    slots
        The machine's.
    tell
        Called with a job that has something to report, and when.
    """

    def __init__(self, node: int, turn: Turn, slots: dict[int, Rank], tell: Callable[[SpaceJob, int], None]) -> None:
        self._node = node
        self._turn = turn
        self._slots = slots
        self._tell = tell
        self._jobs: dict[str, SpaceJob] = {}
        self._own = Ledger[int](), Quota("MiB that MPI ranks of a node put between barriers", OWN_BYTES, unit=MIB)
        self._known = Ledger[int](), Quota("MiB that MPI ranks have told each other", KNOWN_BYTES, unit=MIB)

    @property
    def held_bytes(self) -> int:
        """How much memory takes what ranks have put, and what they have told each other."""
        return sum(self._own[0].held.values()) + sum(self._known[0].held.values())

    def begin(self, job: SpaceJob, ticket: Ticket) -> None:
        """The ranks of a job are about to be started."""
        if not ticket.spec.pmi:
            return
        own, known = partial(_take, *self._own, ticket.uid), partial(_take, *self._known, ticket.uid)
        job.pmi = PmiJob(
            b"heorot_" + ticket.job.encode(),
            ranks_of(ticket),
            ranks_on(ticket, self._node),
            f"n{self._node}",
            process_mapping(ticket.runs, ranks_of(ticket)),
            Dictionary(own, known),
        )
        self._jobs[job.id] = job

    def forget(self, job: SpaceJob) -> None:
        """Nobody wants to hear of this job any more."""
        if self._jobs.pop(job.id, None) is not None and job.pmi is not None:
            job.pmi.dictionary.close()

    # ------------------------------------------------------------------ what happens

    def said(self, event: e.PmiSaid) -> None:
        """A rank says something."""
        rank = self._slots.get(event.slot)
        if rank is not None and rank.job is not None and rank.job.pmi is not None:
            rank.job.pmi.hear(rank.number, event.data)
            self._carry_out(rank.job, rank.job.pmi)

    def answer_aside(self, slot: int, line: bytes) -> bytes:
        """Return what a rank is to be told at once, without an event, as what it says changes nothing; or nothing.

        Then `PmiSaid` has to be told.
        """
        rank = self._slots.get(slot)
        job = rank.job if rank is not None else None
        if rank is None or job is None or job.pmi is None:
            return b""
        return job.pmi.answer_aside(rank.number, line)

    def ended(self, rank: Rank, how: str, status: int) -> None:
        """The process of a rank has ended so, or was never there."""
        job = rank.job
        if job is not None and job.pmi is not None:
            job.pmi.gone(rank.number, how, status)
            self._carry_out(job, job.pmi)

    def exited(self, rank: Rank) -> None:
        """The process of a rank was reaped."""
        signal = rank.status & 0x7F
        if signal:
            self.ended(rank, f"was killed by signal {signal}", 128 + signal)
        else:
            self.ended(rank, f"ended with status {rank.status >> 8}", rank.status >> 8)

    def scattered(self, command: Scattered) -> None:
        """All ranks of a job wait in a barrier."""
        job = self._jobs.get(command.job)
        if job is not None and job.pmi is not None:
            job.pmi.scattered(command.generation, command.part, command.parts, command.entries)
            self._carry_out(job, job.pmi)

    def repeat(self, job: SpaceJob) -> None:
        """Say again that the ranks of a job wait in a barrier, if they do."""
        if job.pmi is not None and job.pmi.waits:
            self._contribute(job, job.pmi, job.pmi.contribution())

    # ------------------------------------------------------------------ what follows

    def _carry_out(self, job: SpaceJob, pmi: PmiJob) -> None:
        out = self._turn.out
        for number, data in pmi.take_answers():
            out.append(e.PmiAnswer(job.ranks[number].slot, data))
        for number in pmi.take_cut():
            self._turn.log("warning", f"job {job.id}: rank {number} says what is not PMI; its connection is closed")
            out.append(e.PmiClose(job.ranks[number].slot))
        entries = pmi.take_contribution()
        if entries is not None:
            self._contribute(job, pmi, entries)
        if pmi.abort is not None and job.abort is None:
            rank, status, text = pmi.abort
            job.abort = Failure(self._node, rank, status, text)
            job.abort_told = False
            self._turn.log("info", f"job {job.id} ends: {job.abort.text}")
            self._tell(job, self._turn.now)
            out.append(e.Destroy([each.slot for each in job.ranks.values() if each.state in HELD]))
            for each in job.ranks.values():
                if each.state is QUEUED:
                    each.pending_signals.append(9)

    def _contribute(self, job: SpaceJob, pmi: PmiJob, entries: list[bytes]) -> None:
        node = self._node
        self._turn.send_for(job, Gathered(job.id, pmi.generation, [node, node], entries))


def _take(ledger: Ledger[int], quota: Quota, uid: int, size_bytes: int) -> str:
    """Account for so many bytes more of a user's, or give them back; return why not, for people."""
    if size_bytes > 0:
        refusal = quota.refusal(uid, ledger.held, size_bytes)
        if refusal:
            return refusal
    ledger.add(uid, size_bytes)
    return ""
