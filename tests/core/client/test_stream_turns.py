"""Streams that have used their windows have turns: some at a time, one after the other, and nobody waits for ever."""

from __future__ import annotations

import pytest

from heorot.core.client import stream_turns
from heorot.core.client.job import JobState
from heorot.core.client.read_stream import ReadStream
from heorot.core.client.session import NewOutput, Session
from heorot.core.wire import clients as c
from tests.core.client.test_session import SPAWN, hear, said

WINDOW = 1000
SPARE = 8000
TURN = SPARE // 2
RANKS = 6


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few ranks are enough."""
    monkeypatch.setattr(stream_turns, "TURNS_AT_ONCE", 2)


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def job(session: Session) -> JobState:
    """A job of six ranks whose head has something to spare."""
    job = session.spawn(0, **SPAWN)
    said(session)
    hear(session, c.Welcome(1, "0", "h", 7), c.Spawned(job.request, "7.1", [0, RANKS], WINDOW, b"", SPARE))
    return job


def output(rank: int, offset: int, size: int, in_turn: bool = False) -> c.ClientOutput:
    return c.ClientOutput("7.1", rank, 1, offset, b"x" * size, in_turn=in_turn)


def take(session: Session, *messages: c.ClientOutput) -> list[tuple[int, int, int]]:
    """Let output come and be consumed; return of each acknowledgement its rank, offset and limit."""
    for event in hear(session, *messages):
        assert isinstance(event, NewOutput)
        session.consumed(event.job, event.stream, len(event.data))
    return acks(session)


def acks(session: Session) -> list[tuple[int, int, int]]:
    told = said(session)
    assert all(isinstance(message, c.ClientAck) for message in told)
    return [(ack.rank, ack.offset, ack.limit) for ack in told if isinstance(ack, c.ClientAck)]


def stream_of(job: JobState, rank: int) -> ReadStream:
    return job.streams[rank, 1]


def test_who_writes_little_has_no_turn(session: Session, job: JobState) -> None:
    assert take(session, output(0, 0, 499)) == []
    assert take(session, output(0, 499, 400)) == [(0, 899, 0)]
    assert take(session, output(0, 899, 600)) == [(0, 1499, 0)]


def test_two_have_a_turn_and_the_others_wait_in_line(session: Session, job: JobState) -> None:
    windows = [output(rank, 0, WINDOW) for rank in range(RANKS)]
    assert take(session, *windows) == [(0, WINDOW, 2 * WINDOW + TURN), (1, WINDOW, 2 * WINDOW + TURN)]
    assert take(session, output(1, WINDOW, 3000, True)) == [], "a turn is acknowledged at its end"
    assert take(session, output(1, 4000, 2 * WINDOW)) == [(2, WINDOW, 2 * WINDOW + TURN)]
    assert take(session, output(0, WINDOW, 100)) == [(3, WINDOW, 2 * WINDOW + TURN)], "it had no more"


def test_who_has_used_a_whole_turn_stands_in_line_again(session: Session, job: JobState) -> None:
    take(session, output(0, 0, WINDOW), output(1, 0, WINDOW), output(2, 0, WINDOW))
    assert take(session, output(0, WINDOW, WINDOW + TURN)) == [(2, WINDOW, 2 * WINDOW + TURN)]
    assert take(session, output(2, WINDOW, 10)) == [(0, 2 * WINDOW + TURN, 3 * WINDOW + 2 * TURN)]


def test_who_had_no_more_is_acknowledged_and_stands_in_no_line(session: Session, job: JobState) -> None:
    take(session, output(0, 0, WINDOW))
    assert take(session, output(0, WINDOW, 1500, True)) == []
    assert take(session, output(0, WINDOW + 1500, 0)) == [(0, WINDOW + 1500, 0)]


def test_the_end_of_a_rank_ends_its_turn(session: Session, job: JobState) -> None:
    take(session, *[output(rank, 0, WINDOW) for rank in range(RANKS)])
    take(session, output(0, WINDOW, 200, True))
    hear(session, c.Exited("7.1", [0, 0, WINDOW + 200, 0]))
    assert acks(session) == [(2, WINDOW, 2 * WINDOW + TURN)]
    hear(session, c.Exited("7.1", [1, 0, WINDOW + 300, 0]))
    assert acks(session) == [], "bytes of its turn are still to come"
    assert take(session, output(1, WINDOW, 300, True)) == [(3, WINDOW, 2 * WINDOW + TURN)]


def test_a_lost_rank_gives_its_turn_back(session: Session, job: JobState) -> None:
    take(session, *[output(rank, 0, WINDOW) for rank in range(RANKS)])
    hear(session, c.Lost("7.1", [(0, 0, "gone"), (2, 2, "gone")]))
    assert acks(session) == [(3, WINDOW, 2 * WINDOW + TURN)], "and nobody who is lost has one"


def test_a_lost_rank_whose_bytes_are_read_later_gets_no_turn(session: Session, job: JobState) -> None:
    held = hear(session, *(output(rank, 0, WINDOW) for rank in range(RANKS)))
    hear(session, c.Lost("7.1", [(0, 0, "gone"), (1, 0, "gone")]))
    for event in held:
        assert isinstance(event, NewOutput)
        session.consumed(event.job, event.stream, len(event.data))
    assert [ack for ack in acks(session) if ack[2]] == [(rank, WINDOW, 2 * WINDOW + TURN) for rank in (2, 3)]


def test_what_a_reader_holds_keeps_the_others_from_turns_but_not_from_going_on(session: Session, job: JobState) -> None:
    take(session, output(0, 0, WINDOW), output(1, 0, WINDOW))
    held = hear(session, output(0, WINDOW, WINDOW + TURN), output(1, WINDOW, WINDOW + TURN))
    assert take(session, output(2, 0, WINDOW)) == [(2, WINDOW, 0)], "nothing is on its way, and nobody knows how long"
    for event in held:
        assert isinstance(event, NewOutput)
        session.consumed(job, event.stream, len(event.data))
    assert [(rank, bool(limit)) for rank, _, limit in acks(session)] == [(0, True), (1, True)]


def test_all_that_is_on_its_way_or_held_has_a_bound(session: Session, job: JobState) -> None:
    reach = dict.fromkeys(range(RANKS), WINDOW)
    taken = dict.fromkeys(range(RANKS), 0)
    at = dict.fromkeys(range(RANKS), 0)
    for turn in range(400):
        rank = turn * 5 % RANKS
        size = min(700 + turn, reach[rank] - at[rank])
        if size:
            told = take(session, output(rank, at[rank], size, at[rank] + size < reach[rank]))
            at[rank] += size
            taken[rank] += size
            for other, offset, limit in told:
                reach[other] = max(limit, offset + WINDOW)
        beyond = sum(max(0, reach[rank] - taken[rank] - WINDOW) for rank in range(RANKS))
        assert beyond <= SPARE
    assert min(taken.values()) > 5 * TURN, "everybody had turns"


def test_the_next_head_knows_of_no_turn(session: Session, job: JobState) -> None:
    take(session, *[output(rank, 0, WINDOW) for rank in range(RANKS)])
    session.connection_lost()
    session.reconnected()
    said(session)
    resumed = c.Spawned(next(iter(session.unanswered)), "7.1", [0, RANKS], WINDOW, b"", SPARE)
    hear(session, c.Welcome(1, "0", "h", 8), resumed)
    assert sorted(acks(session)) == [(rank, WINDOW, 0) for rank in range(2, RANKS)], "who stood in line goes on"
    told = take(session, output(0, WINDOW, WINDOW), output(1, WINDOW, WINDOW), output(2, WINDOW, WINDOW))
    assert [(rank, bool(limit)) for rank, _, limit in told] == [(0, True), (1, True)]


def test_who_leaves_has_acknowledged_also_what_stood_in_line(session: Session, job: JobState) -> None:
    take(session, *[output(rank, 0, WINDOW) for rank in range(RANKS)])
    session.acknowledge_all(job)
    assert acks(session) == [(rank, WINDOW, 0) for rank in range(2, RANKS)]
    assert not stream_of(job, 2).in_line
    assert take(session, output(0, WINDOW, 10)) == []
