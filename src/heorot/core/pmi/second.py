"""What ranks that speak PMI-2 are answered: it is another way to say what PMI-1 says, over the same dictionary and
barriers, so that ranks of both can be in one job.

More than in PMI-1 there is what the ranks of one node tell each other alone (``info-putnodeattr``), for which one may
wait; and a rank may have several threads that ask at a time, whose names stand in the answers (``thrid``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heorot.core.errors import ProtocolError
from heorot.core.pmi import messages as w
from heorot.core.pmi.dictionary import Dictionary
from heorot.core.pmi.lines import MAX_KEY_BYTES, number_of
from heorot.core.pmi.rank import PmiRank
from heorot.core.pmi.states import LEFT, PMI_RANK, SILENT, PmiChange

MAX_LOOKS = 64
"""So many threads of a rank may wait for what other ranks of its node tell."""
MAX_ECHO_BYTES = 64
MAPPING, UNIVERSE = b"PMI_process_mapping", b"universeSize"
_OUTSIDE = (SILENT, LEFT)


class Desk(Protocol):
    """The job, as these ranks need it."""

    ranks: dict[int, PmiRank]
    dictionary: Dictionary
    name: bytes
    size: int
    mapping: bytes

    def say(self, rank: PmiRank, said: bytes) -> None:
        """Tell a rank something."""

    def put(self, rank: PmiRank, key: bytes, value: bytes) -> str:
        """Put a value for all, behind the next barrier; return why not, for people."""

    def enter(self, rank: PmiRank, group: bytes = b"") -> None:
        """Enter a barrier. Raises ProtocolError."""

    def leave(self, rank: PmiRank) -> None:
        """Take the last word of a rank. Raises ProtocolError."""

    def end_with(self, rank: PmiRank, status: int) -> None:
        """End the job with this status."""


def serve(desk: Desk, rank: PmiRank, body: bytes) -> None:
    """Answer a message. Raises ProtocolError."""
    fields = w.message_fields(body)
    command, thread = fields[b"cmd"][:MAX_ECHO_BYTES], fields.get(b"thrid", b"")[:MAX_ECHO_BYTES]
    act = _SERVED.get(command)
    if act is None:
        problem = f"{command.decode('latin-1')} is not served by Heorot"
        desk.say(rank, w.answer_message(command, thread, problem))
    elif rank.state in _OUTSIDE and command not in (w.FULLINIT, w.ABORT):
        raise ProtocolError(f"{command.decode()} before {w.FULLINIT.decode()}")
    else:
        act(desk, rank, fields, thread)


def barrier_out(rank: PmiRank) -> bytes:
    """Return what a rank is told when its barrier opens."""
    return w.answer_message(w.FENCE, rank.thread)


Fields = dict[bytes, bytes]


def _fullinit(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    if rank.state not in _OUTSIDE:
        raise ProtocolError(f"fullinit of a rank that is {rank.state}")
    PMI_RANK.step(rank, PmiChange.INIT)
    told: dict[str, bytes | int] = {
        "pmi_version": w.VERSION,
        "pmi_subversion": w.SUBVERSION,
        "rank": rank.number,
        "size": desk.size,
        "appnum": 0,
        "debugged": w.FALSE,
        "pmiverbose": w.FALSE,
    }
    desk.say(rank, w.answer_message(w.FULLINIT, thread, "", **told))


def _finalize(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    desk.leave(rank)
    rank.looks.clear()
    # It may begin anew, as any rank does: with a line.
    rank.second = False
    desk.say(rank, w.answer_message(w.FINALIZE, thread))


def _abort(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    desk.end_with(rank, number_of(fields, b"exitcode", 1) & 0xFF)


def _job_id(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    desk.say(rank, w.answer_message(w.JOB_ID, thread, jobid=desk.name))


def _put(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    desk.say(rank, w.answer_message(w.PUT, thread, desk.put(rank, fields.get(b"key", b""), fields.get(b"value", b""))))


def _get(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    if fields.get(b"jobid", b"") not in (b"", desk.name):
        desk.say(rank, w.answer_message(w.GET, thread, "there is no such job"))
    else:
        desk.say(rank, _found(w.GET, thread, desk.dictionary.find(fields.get(b"key", b""))))


def _fence(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    rank.thread = thread
    desk.enter(rank)


def _get_of_job(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    values = {MAPPING: desk.mapping or None, UNIVERSE: b"%d" % desk.size}
    desk.say(rank, _found(w.GET_OF_JOB, thread, values.get(fields.get(b"key", b""))))


def _put_here(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    key, value = fields.get(b"key", b""), fields.get(b"value", b"")
    problem = desk.dictionary.put_here(key, value)
    desk.say(rank, w.answer_message(w.PUT_HERE, thread, problem))
    if problem:
        return
    for other in desk.ranks.values():
        for wanted, its_thread in [look for look in other.looks if look[0] == key]:
            other.looks.remove((wanted, its_thread))
            desk.say(other, _found(w.GET_HERE, its_thread, value))


def _get_here(desk: Desk, rank: PmiRank, fields: Fields, thread: bytes) -> None:
    key = fields.get(b"key", b"")
    value = desk.dictionary.here.get(key)
    if value is not None or fields.get(b"wait") != w.TRUE:
        desk.say(rank, _found(w.GET_HERE, thread, value))
    elif len(rank.looks) >= MAX_LOOKS or len(key) > MAX_KEY_BYTES:
        problem = f"at most {MAX_LOOKS} threads of a rank may wait, for keys of up to {MAX_KEY_BYTES} bytes"
        desk.say(rank, w.answer_message(w.GET_HERE, thread, problem))
    else:
        rank.looks.append((key, thread))


def _found(command: bytes, thread: bytes, value: bytes | None) -> bytes:
    if value is None:
        return w.answer_message(command, thread, found=w.FALSE)
    return w.answer_message(command, thread, found=w.TRUE, value=value)


_SERVED: dict[bytes, Callable[[Desk, PmiRank, Fields, bytes], None]] = {
    w.FULLINIT: _fullinit,
    w.FINALIZE: _finalize,
    w.ABORT: _abort,
    w.JOB_ID: _job_id,
    w.PUT: _put,
    w.GET: _get,
    w.FENCE: _fence,
    w.PUT_HERE: _put_here,
    w.GET_HERE: _get_here,
    w.GET_OF_JOB: _get_of_job,
}
