"""The ranks' input on its way from the sender into their pipes."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.jobs import Input, Rank, SpaceJob
from heorot.core.space.states import ALIVE, QUEUED
from heorot.core.space.turn import Turn
from heorot.core.wire.tree import Stdin, StdinAck


class InputSide:
    """All input streams of a space; see `heorot.core.space.jobs.Input`."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def take(self, job: SpaceJob, command: Stdin) -> None:
        """Take input for all ranks of the job or for some of them."""
        if command.ranks is None:
            if job.broadcast is None:
                job.broadcast = Input(-1, self._readers(job, list(job.ranks.values())))
            self._take(job, job.broadcast, command)
            return
        for number in command.ranks:
            rank = job.ranks.get(number)
            if rank is None:
                continue
            if rank.input is None:
                self._take(job, Input(number, self._readers(job, [rank])), command)
            elif rank.input.rank_number == number:
                self._take(job, rank.input, command)

    def feed(self, rank: Rank) -> None:
        """Give a rank the next of its input, or the end of it."""
        source = rank.input
        if source is None or rank.feeding or rank.state not in ALIVE:
            return
        stream = source.stream
        if rank.position < stream.end:
            data = stream.peek(rank.position)
            rank.feeding = len(data)
            self._turn.out.append(e.Feed(rank.slot, data))
        elif stream.ended and not rank.end_fed:
            rank.end_fed = True
            self._turn.out.append(e.FeedEnd(rank.slot))

    def fed(self, rank: Rank) -> None:
        """What was fed is in the rank's pipe."""
        if rank.input is None or rank.job is None:
            return
        old = rank.position
        rank.position += rank.feeding
        rank.feeding = 0
        rank.input.moved(old)
        if rank.input.untold():
            self._tell(rank.job, rank.input)
        self.feed(rank)

    def leave(self, rank: Rank) -> None:
        """The rank takes no more input."""
        source, job = rank.input, rank.job
        rank.feeding = 0
        if source is None or job is None:
            return
        source.leave(rank)
        # That a rank which is over reads no more goes without saying: its exit says it, and saves a message per node.
        # But not if others go on that never read.
        others = job.some_read and job.live > 1
        if (source.readers or rank.state in ALIVE or others) and source.untold():
            self._tell(job, source)

    def _readers(self, job: SpaceJob, ranks: list[Rank]) -> list[Rank]:
        if not job.takes_input:
            return []
        free = [rank for rank in ranks if rank.state in (QUEUED, *ALIVE) and rank.input is None and not rank.end_fed]
        return [rank for rank in free if job.reads(rank.number)] if job.some_read else free

    def _take(self, job: SpaceJob, source: Input, command: Stdin) -> None:
        stream = source.stream
        if not source.readers:
            numbers = job.ranks if source.rank_number < 0 else (source.rank_number,)
            if command.data or any(job.ranks[number].state in (QUEUED, *ALIVE) for number in numbers):
                self._tell(job, source)
            # Else it is the end of an input that was empty, and the ranks are over, as their exits have said already:
            # so end most launches, and on each node the answer would be one message more.
            return
        before, had_ended = stream.end, stream.ended
        if not stream.take(command.offset, command.data, command.end):
            held = f"{stream.start} to {stream.end}"
            self._turn.log("warning", f"input of job {job.id} at {command.offset} does not fit: {held} is held")
        if stream.end == before and stream.ended == had_ended:
            # Nothing new: the sender has not heard how far we are.
            self._tell(job, source)
            return
        for rank in list(source.readers.values()):
            self.feed(rank)

    def _tell(self, job: SpaceJob, source: Input) -> None:
        source.stream.told = source.offset
        self._turn.send_for(job, StdinAck(job.id, source.offset, source.rank_number))
