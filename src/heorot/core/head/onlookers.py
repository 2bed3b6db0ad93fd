"""Clients that look at a job's output beside the one that reads it.

The reader decides how fast a job may write; an onlooker never does. What is passed on to the reader is shown to each
onlooker as well, as long as it has taken all but a little of what it was shown before. Otherwise it is left out, and
counted: the onlooker is told how much it has missed. So one that reads no more costs the head `WINDOW_BYTES`, and the
job nothing. Nothing is asked of nodes for it, and they know nothing of it.
"""

from __future__ import annotations

from heorot.core.errors import RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.quota import Ledger
from heorot.core.streams import OUTPUT_CHUNK_BYTES
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

WINDOW_BYTES = 2 * OUTPUT_CHUNK_BYTES
"""So much may be on its way to an onlooker that it has not taken."""


_NOBODY: tuple[None, list[Onlooker]] = None, []


class Onlooker:
    """A client that looks on."""

    __slots__ = ("caller", "missed_bytes", "owed_bytes", "request")

    def __init__(self, caller: Caller, request: int) -> None:
        self.caller = caller
        self.request = request
        self.owed_bytes = 0
        """What it was shown and has not said to have taken."""
        self.missed_bytes = 0
        """What it was not shown, and is still to be told of."""


class Onlookers:
    """All onlookers, by job."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._by_job: dict[str, tuple[HeadJob, list[Onlooker]]] = {}
        self._held = Ledger[int]()
        """How many each user has."""

    def begin(self, caller: Caller, job: HeadJob, request: int) -> None:
        """Show a job's output to a client from now on. Raises RequestError: ``busy``, ``bad-request``."""
        if _is_over(job):
            self._context.answer(caller.client, request, job.details())
            return
        if self._find(caller.client, request) is not None:
            raise RequestError("bad-request", f"request {request} looks on already")
        why = self._context.watches_quota.refusal(caller.uid, self._held.held, name=caller.user)
        if why:
            raise RequestError("busy", why)
        self._held.add(caller.uid, 1)
        self._by_job.setdefault(job.id, (job, []))[1].append(Onlooker(caller, request))
        if not job.attended and job.awaited_until_ms <= self._context.now_ms:
            text = f"nobody reads job {job.id} now: there is nothing to be seen of its output until somebody does"
            self._context.to_client(caller.client, c.Notice(request, text, []))

    def _find(self, client: int, request: int) -> Onlooker | None:
        there = (onlooker for _, onlookers in self._by_job.values() for onlooker in onlookers)
        return next((one for one in there if (one.caller.client, one.request) == (client, request)), None)

    def show(self, job: HeadJob, output: m.Output) -> None:
        """Show what a rank has written, which was just passed on to the reader."""
        _, onlookers = self._by_job.get(job.id, _NOBODY)
        for onlooker in onlookers:
            size_bytes = len(output.data)
            if onlooker.owed_bytes + size_bytes > WINDOW_BYTES:
                onlooker.missed_bytes += size_bytes
                continue
            onlooker.owed_bytes += size_bytes
            self._tell(onlooker, output.rank, output.stream, output.offset, output.data)

    def _tell(self, onlooker: Onlooker, rank: int, stream: int, offset: int, data: bytes | memoryview) -> None:
        missed_bytes, onlooker.missed_bytes = onlooker.missed_bytes, 0
        shown = c.Shown(onlooker.request, rank, stream, offset, data, missed_bytes)
        self._context.to_client(onlooker.caller.client, shown)

    def took(self, client: int, request: int, size_bytes: int) -> None:
        """A client has taken so much more of what it was shown. One that looks at nothing is not listened to."""
        onlooker = self._find(client, request)
        if onlooker is not None:
            onlooker.owed_bytes = max(0, onlooker.owed_bytes - size_bytes)

    def look(self) -> None:
        """Jobs are over, or readers have gone: see whether there is nothing more to be seen of some."""
        for job, _ in [pair for pair in self._by_job.values() if _is_over(pair[0])]:
            self._end(job)

    def _end(self, job: HeadJob) -> None:
        for onlooker in self._by_job.pop(job.id)[1]:
            self._held.add(onlooker.caller.uid, -1)
            if onlooker.missed_bytes:
                self._tell(onlooker, 0, 1, 0, b"")
            self._context.answer(onlooker.caller.client, onlooker.request, job.details())

    def client_gone(self, client: int) -> None:
        """Nobody looks on any more."""
        for job, onlookers in list(self._by_job.values()):
            stay = [onlooker for onlooker in onlookers if onlooker.caller.client != client]
            for onlooker in onlookers:
                if onlooker.caller.client == client:
                    self._held.add(onlooker.caller.uid, -1)
            if stay:
                self._by_job[job.id] = job, stay
            else:
                del self._by_job[job.id]


def _is_over(job: HeadJob) -> bool:
    """Say whether no more of its output will pass: what ranks wrote last may come to the reader after their ends."""
    return job.released or (job.done and not job.attended)
