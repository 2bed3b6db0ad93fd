"""How many streams of a job have turns at once: its client gives them, and its head sees that they are not too many.

The client decides whose turn it is, because it alone knows what is consumed (`heorot.core.client.stream_turns`). That a
job has no more on its way than it may have is not left to the client. Here a turn is over when the client is about to
hear so: all that it allows has passed by, its node says that there is no more, or nothing more will come of its rank.
What a former head knew of turns is not known here, and not needed: those that go on are few, too.
"""

from __future__ import annotations

from heorot.core.head.ends import ExitedRank, RankEnd
from heorot.core.head.job import HeadJob
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m

TURNS_AT_ONCE = 4
"""Of one job; as many as a client gives."""


def granted(job: HeadJob, ack: c.ClientAck, spare_bytes: int) -> int:
    """Return up to where a stream may be sent that a client acknowledges, and gives a turn; 0: it has none."""
    key = ack.rank, ack.stream
    if not ack.limit or not spare_bytes:
        return 0
    if key not in job.turns and len(job.turns) >= TURNS_AT_ONCE:
        _forget_whole(job)
        if len(job.turns) >= TURNS_AT_ONCE:
            return 0
    limit = min(ack.limit, ack.offset + job.ticket.window_bytes + spare_bytes // TURNS_AT_ONCE)
    job.turns[key] = limit, ack.offset
    return limit


def passed(job: HeadJob, output: m.Output) -> None:
    """Something of a stream passes by on its way to the client."""
    key, end = (output.rank, output.stream), output.offset + len(output.data)
    turn = job.turns.get(key)
    if turn is None:
        return
    limit, sent = turn
    if output.in_turn and end < limit:
        job.turns[key] = limit, max(sent, end)
    else:
        del job.turns[key]


def _forget_whole(job: HeadJob) -> None:
    """End the turns of streams of which nothing more will come."""
    for (rank, stream), (_limit, sent) in list(job.turns.items()):
        end = job.ends.get(rank)
        if end is None:
            continue
        is_cut_off = not isinstance(end, ExitedRank) or rank in job.unread
        if is_cut_off or sent >= _size(end, stream):
            del job.turns[rank, stream]


def _size(end: RankEnd, stream: int) -> int:
    return (end.stdout_bytes, end.stderr_bytes)[stream - 1] if isinstance(end, ExitedRank) else 0
