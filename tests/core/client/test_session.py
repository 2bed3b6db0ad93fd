"""The conversation with a head, without a head: bytes in, state and bytes out."""

from __future__ import annotations

import pytest

from heorot.core.client import messages as wire
from heorot.core.client.job import JobState
from heorot.core.client.session import NewOutput, RanksEnded, Session
from heorot.core.errors import ConnectionLost, ProtocolError, RequestError
from heorot.core.wire import clients as c
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.tree import Message, encode

WINDOW_BYTES = 1000
SPAWN = {
    "nodes": "0-1", "select": "list", "argv": [b"x"], "environment": [], "directory": b"/", "umask": 0, "limits": [],
    "stdin": b"", "stdout": b"", "stderr": b"", "terminal": [], "detached": False, "max_processes": 0,
}  # fmt: skip


def said(session: Session) -> list[Message]:
    """Return, and take, what the session wants to send."""
    frames = FrameDecoder().feed(bytes(session.outgoing))
    session.outgoing.clear()
    return [c.decode_client(frame) for frame in frames]


def hear(session: Session, *messages: Message, now_ms: int = 0) -> list[NewOutput | RanksEnded]:
    return session.receive(b"".join(encode_frame(encode(message)) for message in messages), now_ms)


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def job(session: Session) -> JobState:
    """A job of two ranks, on n4 and n5, that the head has acknowledged."""
    job = session.spawn(0, **SPAWN)
    said(session)
    hear(session, c.Welcome(1, "0", "h", 7), c.Spawned(job.request, "7.1", [4, 2], WINDOW_BYTES))
    return job


def test_the_greeting_and_the_first_request_go_together(session: Session) -> None:
    job = session.spawn(0, **SPAWN)
    hello, spawn = said(session)
    assert isinstance(hello, c.ClientHello)
    assert isinstance(spawn, c.Spawn)
    assert (spawn.request, job.id) == (job.request, "")


def test_an_acknowledged_job_has_an_id_and_nodes(session: Session, job: JobState) -> None:
    assert (job.id, job.nodes) == ("7.1", [4, 5])
    assert (session.head, session.epoch) == ("h", 7)


def test_output_is_given_on_and_acknowledged_after_half_a_window(session: Session, job: JobState) -> None:
    (event,) = hear(session, c.ClientOutput("7.1", 1, 1, 0, b"x" * 600))
    assert isinstance(event, NewOutput)
    assert (event.job, event.stream.rank, event.data) == (job, 1, b"x" * 600)
    session.consumed(job, event.stream, 499)
    assert said(session) == []
    session.consumed(job, event.stream, 101)
    assert said(session) == [c.ClientAck("7.1", 1, 1, 600)]


def test_bytes_held_elsewhere_are_acknowledged_once(session: Session, job: JobState) -> None:
    (event,) = hear(session, c.ClientOutput("7.1", 0, 1, 0, b"x" * 600))
    assert isinstance(event, NewOutput)
    session.consumed_ahead(job, event.stream, 600)
    assert said(session) == [c.ClientAck("7.1", 0, 1, 600)]
    session.consumed(job, event.stream, 600)
    assert said(session) == []
    assert (event.stream.consumed, event.stream.prepaid) == (600, 0)


def test_what_arrives_twice_is_given_once(session: Session, job: JobState) -> None:
    first = c.ClientOutput("7.1", 0, 2, 0, b"abcdef")
    events = hear(session, first, first, c.ClientOutput("7.1", 0, 2, 3, b"defgh"), c.ClientOutput("7.1", 0, 2, 1, b"b"))
    assert [event.data for event in events if isinstance(event, NewOutput)] == [b"abcdef", b"gh"]


def test_what_comes_after_a_gap_is_waited_for_once_more(session: Session, job: JobState) -> None:
    events = hear(
        session,
        c.ClientOutput("7.1", 0, 1, 0, b"abc"),
        c.ClientOutput("7.1", 0, 1, 5, b"f"),
        c.ClientOutput("7.1", 0, 1, 3, b"de"),
        c.ClientOutput("7.1", 0, 1, 5, b"f"),
    )
    assert [event.data for event in events if isinstance(event, NewOutput)] == [b"abc", b"de", b"f"]


def test_an_acknowledgement_that_was_lost_is_repeated(session: Session, job: JobState) -> None:
    output = c.ClientOutput("7.1", 0, 1, 0, b"x" * 600)
    (event,) = hear(session, output)
    assert isinstance(event, NewOutput)
    session.consumed(job, event.stream, 600)
    said(session)
    assert hear(session, output) == []
    assert said(session) == [c.ClientAck("7.1", 0, 1, 600)]


def test_a_job_is_complete_when_the_last_byte_is_here(session: Session, job: JobState) -> None:
    hear(session, c.Exited("7.1", [0, 0, 3, 0, 1, 0, 0, 0]), c.Done("7.1"))
    assert job.done
    assert not job.complete
    assert not job.rank_complete(0)
    assert job.rank_complete(1)
    hear(session, c.ClientOutput("7.1", 0, 1, 0, b"ab"))
    assert not job.complete
    hear(session, c.ClientOutput("7.1", 0, 1, 2, b"c"))
    assert job.complete
    assert job.rank_complete(0)


def test_the_largest_status_counts(session: Session, job: JobState) -> None:
    (event,) = hear(session, c.Exited("7.1", [0, 9, 0, 0, 1, 3 << 8, 0, 0]))
    assert isinstance(event, RanksEnded)
    assert event.ranks == [0, 1]
    assert (job.statuses[0].signal, job.statuses[1].code, job.exit_status) == (9, 3, 137)


def test_an_end_that_is_told_twice_is_news_once(session: Session, job: JobState) -> None:
    exited = c.Exited("7.1", [0, 0, 0, 0])
    assert len(hear(session, exited, exited, c.Lost("7.1", [(0, 4, "gone")]))) == 1
    assert job.statuses[0].code == 0


@pytest.mark.parametrize(("error", "code"), [(2, 127), (13, 126), (8, 126), (0, 126)])
def test_ranks_that_never_ran(session: Session, job: JobState, error: int, code: int) -> None:
    hear(session, c.Failed("7.1", [(0, error, "why")]))
    assert (job.statuses[0].code, job.statuses[0].text) == (code, "why")


def test_a_lost_node_ends_the_wait_for_its_bytes(session: Session, job: JobState) -> None:
    hear(session, c.Exited("7.1", [0, 0, 10, 0]), c.Lost("7.1", [(0, 4, "gone"), (1, 5, "gone")]), c.Done("7.1"))
    assert job.complete
    assert (job.statuses[0].code, job.statuses[1].lost, job.exit_status) == (0, True, 255)


def test_what_comes_of_a_lost_rank_after_all_is_too_late(session: Session, job: JobState) -> None:
    hear(session, c.Lost("7.1", [(0, 4, "n4 is lost")]))
    assert hear(session, c.ClientOutput("7.1", 0, 1, 0, b"late")) == []


def test_what_a_head_said_of_a_rank_stands_whatever_the_next_one_makes_of_it(session: Session, job: JobState) -> None:
    hear(session, c.Lost("7.1", [(0, 4, "n4 is lost")]), c.Exited("7.1", [1, 0, 10, 0]))
    session.connection_lost()
    session.reconnected()
    hear(session, c.Welcome(1, "0", "h2", 8))
    again = hear(
        session, c.Exited("7.1", [0, 0, 10, 0]), c.Lost("7.1", [(0, 4, "gone"), (1, 5, "gone")]), c.Done("7.1")
    )
    assert not [event for event in again if isinstance(event, RanksEnded)]
    assert (job.statuses[0].lost, job.statuses[1].code, job.complete) == (True, 0, True)


def test_input_keeps_to_its_window(session: Session, job: JobState) -> None:
    stdin = job.stdin_stream()
    session.send_stdin(job, bytes(wire.STDIN_WINDOW_BYTES))
    assert stdin.room_bytes == 0
    hear(session, c.ClientStdinAck("7.1", -1, 100, False))
    assert stdin.room_bytes == 100
    session.send_stdin(job, b"x", end=True)
    assert stdin.room_bytes == 0
    assert said(session)[-1] == c.ClientStdin("7.1", -1, wire.STDIN_WINDOW_BYTES, b"x", True)


def test_input_that_nobody_takes_is_dropped(session: Session, job: JobState) -> None:
    hear(session, c.ClientStdinAck("7.1", -1, 1 << 62, True))
    session.send_stdin(job, b"x")
    assert said(session) == []
    assert job.stdin_stream().room_bytes == 0


def test_a_job_that_nobody_waited_for_is_ended_when_it_is_there(session: Session) -> None:
    job, attached = session.spawn(0, **SPAWN), session.attach("5.5", from_start=True)
    session.give_up(job)
    session.give_up(attached)
    said(session)
    hear(session, c.Spawned(job.request, "7.1", [4, 2], 1), c.Spawned(attached.request, "5.5", [4, 2], 1))
    kill, leave = said(session)
    assert isinstance(kill, c.Signal)
    assert (kill.job, kill.signal) == ("7.1", 9)
    assert isinstance(leave, c.Detach)
    assert leave.job == "5.5"
    assert session.jobs == {}


def test_a_refusal_is_the_answer(session: Session) -> None:
    job = session.spawn(0, **SPAWN)
    hear(session, c.Error(job.request, "node-down", "n1 is down"))
    assert job.error is not None
    assert (job.error.code, str(job.error)) == ("node-down", "n1 is down")
    assert session.closed is None


def test_a_refused_connection_fails_every_request(session: Session) -> None:
    job, request = session.spawn(0, **SPAWN), session.ask(wire.status)
    hear(session, c.Error(0, "version", "too old"))
    assert job.error is request.error is session.closed
    with pytest.raises(RequestError, match="too old"):
        session.ask(wire.status)


def test_a_lost_connection_fails_every_request(session: Session, job: JobState) -> None:
    request = session.signal(job, 15)
    session.disconnected("gone")
    assert request.finished
    assert isinstance(request.error, ConnectionLost)


def test_a_late_reader_begins_where_the_former_one_stopped(session: Session) -> None:
    job = session.attach("7.1", from_start=False)
    hear(session, c.Spawned(job.request, "7.1", [4, 1], WINDOW_BYTES), c.Exited("7.1", [0, 0, 1003, 5]), c.Done("7.1"))
    assert not job.complete
    (event,) = hear(session, c.ClientOutput("7.1", 0, 1, 1000, b"end", 1000), c.ClientOutput("7.1", 0, 2, 5, b"", 5))
    assert isinstance(event, NewOutput)
    assert event.data == b"end"
    assert job.complete
    session.acknowledge_all(job)
    session.consumed(job, event.stream, 3)
    session.acknowledge_all(job)
    assert said(session)[-1] == c.ClientAck("7.1", 0, 1, 1003)


def test_a_released_job_is_of_no_interest(session: Session, job: JobState) -> None:
    session.release(job)
    session.release(job)
    assert said(session) == [c.ClientRelease("7.1")]
    assert hear(session, c.ClientOutput("7.1", 0, 1, 0, b"late"), c.Done("7.1")) == []
    assert not job.done


@pytest.mark.parametrize(
    "message",
    [["output"], ["output", "7.1", "x", 1, 0, b""], ["spawned", 99, "7.1", [], 1], ["exited", "7.1", [1]], ["done"],
     ["exited", "7.1", None], ["output", "7.1", 9, 1, 0, b"x"], ["output", "7.1", 0, 3, 0, b"x"], ["error"]],
    ids=repr,
)  # fmt: skip
def test_a_malformed_message_is_a_protocol_error(session: Session, job: JobState, message: list[object]) -> None:
    with pytest.raises(ProtocolError):
        session.receive(wire.encode(message), 0)
    assert session.closed is not None


def test_a_message_of_a_newer_head_is_skipped(session: Session, job: JobState) -> None:
    assert session.receive(wire.encode(["weather", "fine"]), 0) == []
    assert session.closed is None


def test_ranks_that_end_alike_may_be_told_at_once(session: Session, job: JobState) -> None:
    (event,) = hear(session, c.ExitedAlike("7.1", [0, 2], 3 << 8, 2, 0), c.Done("7.1"))
    assert isinstance(event, RanksEnded)
    assert event.ranks == [0, 1]
    assert [job.statuses[rank].code for rank in (0, 1)] == [3, 3]
    assert not job.complete
    hear(session, *[c.ClientOutput("7.1", rank, 1, 0, b"ab") for rank in (0, 1)])
    assert job.complete
    assert hear(session, c.ExitedAlike("7.1", [0, 1, 1, 1], 0, 0, 0)) == []


def test_more_ranks_than_the_job_has_are_ignored(session: Session, job: JobState) -> None:
    (event,) = hear(session, c.ExitedAlike("7.1", [1, 1 << 40], 0, 0, 0))
    assert isinstance(event, RanksEnded)
    assert event.ranks == [1]
