"""What the next head is told after one was lost, without a head: bytes in, state and bytes out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.client import messages as wire
from heorot.core.client.job import JobState
from heorot.core.client.session import NewOutput, RanksEnded, Session
from heorot.core.errors import ConnectionLost
from heorot.core.wire import clients as c
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.tree import Message, encode
from heorot.images.offer import Offer, Upload

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


KEY = b"k" * wire.KEY_BYTES
HEAD_MS = 50_000
AWAY_MS = 3_000
"""From the launch to the welcome of the next head."""
IMAGE = bytes(range(32))


def next_head(session: Session) -> list[Message]:
    """Lose the head, find another one, and return what it hears after the greeting."""
    session.connection_lost()
    assert said(session) == []
    session.reconnected()
    hello, *rest = said(session)
    assert isinstance(hello, c.ClientHello)
    hear(session, c.Welcome(1, "0", "h2", 8, HEAD_MS), now_ms=AWAY_MS)
    return rest + said(session)


def resumed(session: Session, job: JobState) -> list[Message]:
    """Let the next head go on with the job; return what it hears then."""
    resume = next_head(session)[0]
    assert isinstance(resume, c.AttachJob)
    hear(session, c.Spawned(resume.request, "7.1", [4, 2], WINDOW_BYTES))
    return said(session)


def test_the_next_head_is_asked_to_go_on_with_a_job(session: Session, job: JobState) -> None:
    session.send_stdin(job, b"x" * 300)
    hear(session, c.ClientStdinAck("7.1", -1, 100, False))
    assert next_head(session) == [c.AttachJob(2, "7.1", False, True, [-1, 100], False)]
    assert (session.head, session.epoch) == ("h2", 8)


def test_input_that_was_not_acknowledged_is_sent_again(session: Session, job: JobState) -> None:
    for piece in (b"abc", b"def", b"ghi"):
        session.send_stdin(job, piece)
    session.send_stdin(job, b"", end=True)
    session.send_stdin(job, b"own", rank=1)
    hear(session, c.ClientStdinAck("7.1", -1, 4, False))
    assert resumed(session, job) == [
        c.ClientStdin("7.1", -1, 4, b"ef", False),
        c.ClientStdin("7.1", -1, 6, b"ghi", False),
        c.ClientStdin("7.1", -1, 9, b"", True),
        c.ClientStdin("7.1", 1, 0, b"own", False),
    ]


def test_input_that_was_acknowledged_is_not_kept(session: Session, job: JobState) -> None:
    session.send_stdin(job, b"abc")
    session.send_stdin(job, b"def")
    stdin = job.stdin_stream()
    hear(session, c.ClientStdinAck("7.1", -1, 5, False))
    assert stdin.kept == [(3, b"def")]
    hear(session, c.ClientStdinAck("7.1", -1, 1 << 62, True))
    assert stdin.kept == []
    assert resumed(session, job) == []


def test_input_without_a_head_is_kept_within_its_window(session: Session, job: JobState) -> None:
    session.send_stdin(job, b"before")
    said(session)
    session.connection_lost()
    session.send_stdin(job, b"while")
    assert job.stdin_stream().room_bytes == wire.STDIN_WINDOW_BYTES - 11
    session.reconnected()
    _hello, resume = said(session)
    session.send_stdin(job, b"early")
    # The head could not place it before it goes on with the job.
    assert said(session) == []
    assert isinstance(resume, c.AttachJob)
    hear(session, c.Spawned(resume.request, "7.1", [4, 2], WINDOW_BYTES))
    assert [(message.offset, message.data) for message in said(session) if isinstance(message, c.ClientStdin)] == [
        (0, b"before"), (6, b"while"), (11, b"early"),
    ]  # fmt: skip
    session.send_stdin(job, b"after")
    assert said(session) == [c.ClientStdin("7.1", -1, 16, b"after", False)]


def test_output_goes_on_where_it_stopped(session: Session, job: JobState) -> None:
    (first,) = hear(session, c.ClientOutput("7.1", 0, 1, 0, b"abcdef"), c.Exited("7.1", [1, 0, 0, 0]))[:1]
    assert isinstance(first, NewOutput)
    said(session)
    session.connection_lost()
    session.consumed(job, first.stream, 6)
    session.acknowledge_all(job)
    session.reconnected()
    resume = said(session)[-1]
    assert isinstance(resume, c.AttachJob)
    events = hear(
        session,
        c.Spawned(resume.request, "7.1", [4, 2], WINDOW_BYTES),
        c.Exited("7.1", [0, 0, 9, 0, 1, 0, 0, 0]),
        c.ClientOutput("7.1", 0, 1, 0, b"abcdef"),
        c.ClientOutput("7.1", 0, 1, 6, b"ghi"),
        c.Done("7.1"),
    )
    assert [event.data for event in events if isinstance(event, NewOutput)] == [b"ghi"]
    assert [event.ranks for event in events if isinstance(event, RanksEnded)] == [[0]]
    # What was acknowledged while there was no head is acknowledged when it comes again.
    assert said(session) == [c.ClientAck("7.1", 0, 1, 6)]
    assert job.complete


def test_half_a_frame_of_the_old_head_is_forgotten(session: Session, job: JobState) -> None:
    session.receive(encode_frame(encode(c.ClientOutput("7.1", 0, 1, 0, b"abc")))[:-1], 0)
    resumed(session, job)
    (event,) = hear(session, c.ClientOutput("7.1", 0, 1, 0, b"abc"))
    assert isinstance(event, NewOutput)
    assert event.data == b"abc"


def test_a_launch_that_was_not_acknowledged_is_asked_for_again(session: Session) -> None:
    job = session.spawn(0, **SPAWN, key=KEY, headless_ms=5000)
    first = said(session)[-1]
    (again,) = next_head(session)
    assert isinstance(first, c.Spawn)
    assert isinstance(again, c.Spawn)
    assert (first.again, again.again) == (False, True)
    assert again == replace(first, again=True, asked_at_ms=again.asked_at_ms)
    assert again.asked_at_ms == HEAD_MS - AWAY_MS - 1, "rounded, and rather too old than too young"
    hear(session, c.Spawned(job.request, "7.1", [4, 2], WINDOW_BYTES))
    assert session.jobs == {"7.1": job}


RECEIPT = b"r" * 32


@pytest.fixture
def receipted(session: Session) -> JobState:
    """A job that the head has acknowledged with a receipt."""
    job = session.spawn(0, **SPAWN, key=KEY)
    said(session)
    hear(session, c.Welcome(1, "0", "h", 7), c.Spawned(job.request, "7.1", [4, 2], WINDOW_BYTES, RECEIPT))
    return job


def test_a_launch_of_which_nothing_was_heard_is_handed_to_each_next_head(session: Session, receipted: JobState) -> None:
    session.send_stdin(receipted, b"input")
    said(session)
    (launch,) = next_head(session)
    assert isinstance(launch, c.Spawn)
    assert (launch.again, launch.job, launch.runs, launch.receipt, launch.key) == (True, "7.1", [4, 2], RECEIPT, KEY)
    (launch,) = next_head(session)
    assert isinstance(launch, c.Spawn)
    hear(session, c.Spawned(launch.request, "7.1", [4, 2], WINDOW_BYTES))
    assert said(session) == [c.ClientStdin("7.1", -1, 0, b"input", False)]
    assert (session.jobs, receipted.resuming) == ({"7.1": receipted}, False)


def test_a_job_of_which_something_was_heard_is_asked_for_and_handed_over_if_it_is_not_known(
    session: Session, receipted: JobState
) -> None:
    hear(session, c.Started("7.1", [0, 100]))
    (resume,) = next_head(session)
    assert isinstance(resume, c.AttachJob)
    assert hear(session, c.Error(resume.request, "no-such-job", "there is no job 7.1")) == []
    (launch,) = said(session)
    assert isinstance(launch, c.Spawn)
    assert launch.receipt == RECEIPT
    # What cannot be gone on with is lost, once.
    (ended,) = hear(session, c.Error(launch.request, "collected", "job 7.1 is over"))
    assert isinstance(ended, RanksEnded)
    assert ended.ranks == [0, 1]


def test_who_has_no_answer_to_his_wish_to_leave_hands_the_job_over_first(session: Session, receipted: JobState) -> None:
    leave = session.ask(wire.detach, "7.1")
    launch, detach = next_head(session)
    assert isinstance(launch, c.Spawn)
    assert detach == c.Detach(2, "7.1")
    hear(session, c.Spawned(launch.request, "7.1", [4, 2], WINDOW_BYTES), c.Result(2, None))
    assert (leave.finished, leave.error) == (True, None)


def test_what_a_head_cannot_answer_of_a_job_that_it_is_given_is_asked_behind_that(
    session: Session, receipted: JobState
) -> None:
    hear(session, c.Started("7.1", [0, 100]))
    leave, other = session.ask(wire.detach, "7.1"), session.ask(wire.wait, "7.2")
    resume = next_head(session)[0]
    assert isinstance(resume, c.AttachJob)
    unknown = [c.Error(number, "no-such-job", "there is no such job") for number in (resume.request, 2, 3)]
    hear(session, *unknown)
    launch, detach = said(session)
    assert isinstance(launch, c.Spawn)
    assert detach == c.Detach(2, "7.1")
    assert (leave.finished, other.finished) == (False, True)
    # A head that refuses the launch as well is believed.
    hear(session, c.Error(launch.request, "collected", "job 7.1 is over"), c.Error(2, "no-such-job", "there is no job"))
    assert leave.error is not None
    assert said(session) == []


@pytest.mark.parametrize("code", ["no-such-job", "old-receipt"])
def test_a_job_is_handed_to_each_head_once(session: Session, receipted: JobState, code: str) -> None:
    hear(session, c.Started("7.1", [0, 100]))
    (resume,) = next_head(session)
    assert isinstance(resume, c.AttachJob)
    hear(session, c.Error(resume.request, "no-such-job", "there is no job 7.1"))
    (launch,) = said(session)
    assert isinstance(launch, c.Spawn)
    (ended,) = hear(session, c.Error(launch.request, code, "there is no job 7.1, and it was launched long ago"))
    assert isinstance(ended, RanksEnded)
    assert ended.ranks == [0, 1]
    assert said(session) == []


def test_a_job_whose_input_was_taken_is_not_handed_over(session: Session, receipted: JobState) -> None:
    session.send_stdin(receipted, b"input")
    hear(session, c.ClientStdinAck("7.1", -1, 5, False))
    (resume,) = next_head(session)
    assert isinstance(resume, c.AttachJob)
    (ended,) = hear(session, c.Error(resume.request, "no-such-job", "there is no job 7.1"))
    assert isinstance(ended, RanksEnded)
    assert said(session) == []


def test_why_the_head_lets_us_wait_is_kept_for_people(session: Session, receipted: JobState) -> None:
    hear(session, *[c.Notice(1, f"reason {number}", []) for number in range(100)])
    assert session.notices[-1] == "reason 99"
    assert len(session.notices) <= 16


def test_the_next_head_is_given_the_program_of_a_detached_launch_once(session: Session) -> None:
    offer = Offer(IMAGE, b"/bin/x", b"", b"")
    session.offer(Upload(offer), IMAGE)
    job = session.spawn(0, **{**SPAWN, "detached": True}, key=KEY, image=IMAGE)
    said(session)
    stage, launch = next_head(session)
    assert isinstance(stage, c.Stage)
    assert isinstance(launch, c.Spawn)
    # It is lost before it has answered: the same question goes to the one after it.
    assert next_head(session)[0] == stage
    hear(session, c.Spawned(job.request, "7.1", [4, 2], WINDOW_BYTES))
    assert (job.id, job.launched) == ("7.1", False)
    hear(session, c.Result(stage.request, None))
    assert job.launched


def test_a_launch_without_a_key_is_not_repeated(session: Session) -> None:
    job = session.spawn(0, **SPAWN)
    said(session)
    assert next_head(session) == []
    assert isinstance(job.error, ConnectionLost)


def test_a_launch_that_nobody_can_know_about_is_refused(session: Session) -> None:
    job = session.spawn(0, **SPAWN, key=KEY)
    next_head(session)
    hear(session, c.Error(job.request, "launch-unknown", "n4 does not answer"))
    assert job.error is not None
    assert job.error.code == "launch-unknown"


def test_a_job_that_the_next_head_does_not_know_is_lost(session: Session, job: JobState) -> None:
    hear(session, c.Exited("7.1", [1, 0, 0, 0]))
    (resume,) = next_head(session)
    assert isinstance(resume, c.AttachJob)
    (event,) = hear(session, c.Error(resume.request, "no-such-job", "there is no job 7.1"))
    assert isinstance(event, RanksEnded)
    assert event.ranks == [0]
    assert job.complete
    assert (job.statuses[0].lost, job.statuses[1].code, job.exit_status) == (True, 0, 255)
    assert job.done_text == "there is no job 7.1"


def test_a_signal_that_may_have_arrived_is_not_repeated(session: Session, job: JobState) -> None:
    interrupt = session.signal(job, 2)
    kill, probe = session.signal(job, 9), session.signal(job, 0)
    process = session.signal_processes([7], 15)
    said(session)
    assert session.connection_lost() == [interrupt, process]
    assert isinstance(interrupt.error, ConnectionLost)
    later = session.signal(job, 15)
    session.reconnected()
    _hello, resume, *signals = said(session)
    assert isinstance(resume, c.AttachJob)
    assert [message.signal for message in signals if isinstance(message, c.Signal)] == [9, 0, 15]
    assert not any(request.finished for request in (kill, probe, later))


def test_a_job_released_without_a_head_is_released_when_there_is_one(session: Session, job: JobState) -> None:
    session.connection_lost()
    session.release(job)
    session.release(job)
    session.reconnected()
    _hello, resume = said(session)
    assert isinstance(resume, c.AttachJob)
    hear(session, c.Spawned(resume.request, "7.1", [4, 2], WINDOW_BYTES))
    assert said(session) == [c.ClientRelease("7.1")]
    assert session.jobs == {}


def test_a_job_given_up_without_a_head_is_ended_when_there_is_one(session: Session, job: JobState) -> None:
    session.connection_lost()
    session.give_up(job)
    session.reconnected()
    resume = said(session)[-1]
    assert isinstance(resume, c.AttachJob)
    hear(session, c.Spawned(resume.request, "7.1", [4, 2], WINDOW_BYTES))
    (kill,) = said(session)
    assert isinstance(kill, c.Signal)
    assert (kill.job, kill.signal) == ("7.1", 9)


def test_a_detached_job_is_left_alone(session: Session) -> None:
    job = session.spawn(0, **{**SPAWN, "detached": True}, key=KEY)
    hear(session, c.Spawned(job.request, "7.1", [4, 2], WINDOW_BYTES))
    said(session)
    assert next_head(session) == []


def test_a_job_that_was_joined_is_not_taken_along_when_we_go(session: Session) -> None:
    job = session.attach("7.1", from_start=False)
    hear(session, c.Spawned(job.request, "7.1", [4, 1], WINDOW_BYTES), c.ClientOutput("7.1", 0, 1, 500, b"abc", 500))
    said(session)
    assert next_head(session) == [c.AttachJob(2, "7.1", False, True, [], True)]
    hear(session, c.Spawned(2, "7.1", [4, 1], WINDOW_BYTES))
    (event,) = hear(session, c.ClientOutput("7.1", 0, 1, 500, b"abcdef", 500))
    assert isinstance(event, NewOutput)
    assert event.data == b"def"


def test_heads_that_are_lost_one_after_the_other(session: Session, job: JobState) -> None:
    session.send_stdin(job, b"abc")
    next_head(session)
    next_head(session)
    assert resumed(session, job) == [c.ClientStdin("7.1", -1, 0, b"abc", False)]


def test_a_crowded_head_is_tried_again_by_who_has_a_job(session: Session, job: JobState) -> None:
    session.connection_lost()
    session.reconnected()
    hear(session, c.Error(0, "busy", "1024 clients"))
    assert session.closed is None
    assert not session.greeted
    assert resumed(session, job) == []


def test_a_job_of_which_a_head_is_in_doubt_is_asked_for_at_the_one_after_it(session: Session, job: JobState) -> None:
    (resume,) = next_head(session)
    assert isinstance(resume, c.AttachJob)
    assert hear(session, c.Error(resume.request, "in-doubt", "job 7.1 is of a newer head than this one")) == []
    assert (job.resuming, job.error, job.done) == (True, None, False)
    assert session.notices == ["job 7.1 is of a newer head than this one"]
    assert session.unanswered == {}
    assert resumed(session, job) == []
    assert not job.resuming
