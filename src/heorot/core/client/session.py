"""One client's conversation with a head, without I/O: `bpsh`, the library and its asyncio form all drive this.

Theory of operation
-------------------
The owner has a connected socket. It writes `outgoing` to it (and deletes what was written), and feeds what it reads to
`receive`, which returns what happened, in order. Requests may be made before the head's welcome has arrived: the
greeting goes in front of them, and a head that does not like it refuses the connection, which fails them all. Nothing
waits for a round trip that it does not need.

A job's output is acknowledged by its reader calling `consumed` after the bytes are where they belong; the head sends no
more than a window beyond that. So the memory of a reader that falls behind is bounded by the windows of its own
streams.

When the connection is lost the owner says so with `connection_lost`, connects to the next head, and calls
`reconnected`: `outgoing` then holds the greeting and everything that takes up again what was under way. Of a job it
says how far its input was sent, and drops what comes once more of its output; a launch that was not acknowledged is
asked for once more under its key, which starts it at most once (it says when it was asked for first, on the clock of
the head, and so waits for the welcome); one that was acknowledged, and of which nothing was heard since, is handed
over with its receipt, because perhaps nobody else has it; questions are repeated; input that was not acknowledged is
sent again. Meanwhile the owner may go on as if nothing had happened: what it wants is kept, within the same windows,
until there is a head. A signal that may have arrived is not sent twice unless twice is as good as once.
"""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.client.conversation import Conversation
from heorot.core.client.end import Status
from heorot.core.client.job import TOLD_OF_A_JOB, JobRequest, JobState
from heorot.core.client.read_stream import ReadStream
from heorot.core.errors import ConnectionLost, ProtocolError, RequestError

SIGKILL = 9
RELEASE_TIMEOUT_S = 10.0
"""How long who ends waits for the next head, to tell it which jobs are collected."""
MAX_UPLOADS = 128
"""Half of the images that a head lets one client offer."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from heorot.core.client.conversation import Request
    from heorot.core.client.messages import Upload


class NewOutput:
    """New bytes of a rank. Call `Session.consumed` when they are where they belong."""

    __slots__ = ("data", "job", "stream")

    def __init__(self, job: JobState, stream: ReadStream, data: bytes) -> None:
        self.job = job
        self.stream = stream
        self.data = data


class RanksEnded:
    """These ranks are over; `JobState.statuses` says how."""

    __slots__ = ("job", "ranks")

    def __init__(self, job: JobState, ranks: list[int]) -> None:
        self.job = job
        self.ranks = ranks


if TYPE_CHECKING:
    Event: TypeAlias = NewOutput | RanksEnded


class Session(Conversation):
    """The state of one connection, and of the jobs that it follows. With `hears_used` the head says what their ranks
    have used.
    """

    def __init__(self, hears_used: bool = False) -> None:
        super().__init__(hears_used)
        self.jobs: dict[str, JobState] = {}
        self._uploads: dict[bytes, Upload] = {}
        """By image: what we offer with our launches."""
        self._handlers |= {
            "output": self._output,
            "spawned": self._spawned,
            "image-wanted": self._image_wanted,
            "image-took": self._image_took,
        }

    # -------------------------------------------------- what the owner wants

    def _ask_for_job(self, build: Any, *fields: Any, **named_fields: Any) -> JobRequest:
        request = JobRequest(JobState(0))
        request.job.request = self._send_request(request, build, *fields, **named_fields)
        return request

    def spawn(self, now_ms: int, **fields: Any) -> JobState:
        """Queue a launch; the fields are those of `heorot.core.client.messages.spawn`. With a `key` it outlives the
        loss of a head.
        """
        request = self._ask_for_job(messages.spawn, **fields)
        request.asked_ms = now_ms
        request.job.detached = fields["detached"]
        return request.job

    def offer(self, upload: Upload, image: bytes) -> None:
        """Send of this image what the head asks for, as long as the connection lasts; before the launch that needs it.

        The last `MAX_UPLOADS` are kept.
        """
        former = self._uploads.pop(image, None)
        self._uploads[image] = former or upload
        if len(self._uploads) > MAX_UPLOADS:
            del self._uploads[next(iter(self._uploads))]

    def stage(self, image: bytes) -> Request:
        """Queue the wish that the head fetches an offered image, so that we may go."""
        return self.ask(messages.stage, image)

    def attach(self, job: str, from_start: bool) -> JobState:
        """Queue the wish to read a detached or unattended job."""
        state = self._ask_for_job(messages.attach_job, job, from_start).job
        state.from_attach = True
        return state

    def signal(
        self, job: JobState, number: int, ranks: list[int] | None = None, *, repeatable: bool = False
    ) -> Request:
        """Queue a signal to all ranks of a job, or to some; `repeatable`: two of them are as good as one."""
        request = self.ask(messages.signal, job.id, ranks, None, number)
        request.repeatable = repeatable or number in (0, SIGKILL)
        return request

    def signal_processes(self, pids: list[int], number: int) -> Request:
        """Queue a signal to processes by PID."""
        request = self.ask(messages.signal, None, None, pids, number)
        request.repeatable = number == 0
        return request

    def resize(self, job: JobState, rows: int, columns: int) -> None:
        """Queue the terminal's new size; without a head it is forgotten."""
        if self._reaches(job):
            self.outgoing += messages.encode(messages.client_resize(job.id, rows, columns))

    def _reaches(self, job: JobState) -> bool:
        return self.connected and not job.resuming

    def send_stdin(self, job: JobState, data: bytes, *, end: bool = False, rank: int = messages.BROADCAST) -> None:
        """Queue input; the caller keeps to `StdinStream.room_bytes`."""
        stream = job.stdin_stream(rank)
        assert (not stream.ended and len(data) <= stream.room_bytes) or stream.closed
        if stream.closed:
            return
        offset = stream.keep(data)
        stream.ended = end
        if self._reaches(job):
            self.outgoing += messages.encode(messages.client_stdin(job.id, rank, offset, data, end))

    def consumed(self, job: JobState, stream: ReadStream, count: int) -> None:
        """`count` more bytes of a stream are where they belong: half a window of them is acknowledged together."""
        if stream.prepaid:
            ahead = min(stream.prepaid, count)
            stream.prepaid -= ahead
            count -= ahead
        self._count(job, stream, count)

    def consumed_ahead(self, job: JobState, stream: ReadStream, count: int) -> None:
        """Acknowledge as `consumed` does, for bytes that will be reported as consumed once more, later."""
        stream.prepaid += count
        self._count(job, stream, count)

    def _count(self, job: JobState, stream: ReadStream, count: int) -> None:
        stream.consumed += count
        if job.released or (job.turns is None and stream.consumed - stream.acknowledged < job.acknowledge_bytes):
            return
        turns = job.take_turns()
        self._tell(job, [(stream, 0)] if turns is None else turns.look(stream, job.acknowledge_bytes))

    def _tell(self, job: JobState, told: list[tuple[ReadStream, int]]) -> None:
        for stream, limit in told:
            self._acknowledge(job, stream, limit)

    def _acknowledge(self, job: JobState, stream: ReadStream, limit: int = 0) -> None:
        stream.acknowledged = stream.consumed
        # The next head hears of it when the node sends the same bytes again.
        if self._reaches(job):
            ack = messages.client_ack(job.id, stream.rank, stream.stream, stream.consumed, limit)
            self.outgoing += messages.encode(ack)

    def acknowledge_all(self, job: JobState) -> None:
        """Acknowledge all that was consumed, however little: before leaving a job that goes on."""
        for stream in job.streams.values():
            if stream.consumed > stream.acknowledged:
                if job.turns is not None:
                    job.turns.leave(stream)
                self._acknowledge(job, stream)

    def release(self, job: JobState) -> None:
        """Queue the word that we have all that we want of this job: a running one is ended, and its output
        forgotten.
        """
        if job.id and not job.released and self.closed is None:
            job.released = True
            if not self._reaches(job):
                job.leaving = True
                return
            self.outgoing += messages.encode(messages.client_release(job.id))
        if not job.leaving:
            self.forget(job)

    @property
    def owes_releases(self) -> bool:
        """Whether there are jobs that the next head is to hear of as collected."""
        return self.closed is None and any(job.leaving for job in self.jobs.values())

    def give_up(self, job: JobState) -> None:
        """Do without a job that its owner asked for and did not wait for: end it as soon as it exists."""
        job.unwanted = True
        if job.id and self.closed is None and self._reaches(job):
            self._drop(job)

    def _drop(self, job: JobState) -> None:
        self.forget(job)
        if job.from_attach:
            # It was there before us.
            self.ask(messages.detach, job.id)
        else:
            self.signal(job, SIGKILL)

    def forget(self, job: JobState) -> None:
        """Take no more notice of this job."""
        self.jobs.pop(job.id, None)

    # -------------------------------------------------- from one head to the next

    def connection_lost(self) -> list[Request]:
        """See `Conversation.connection_lost`. Jobs are gone on with by `reconnected`, and not by asking once more."""
        for number, request in list(self.unanswered.items()):
            if isinstance(request, JobRequest) and request.job.id:
                del self.unanswered[number]
        for upload in self._uploads.values():
            upload.reset()
        for job in self.jobs.values():
            job.resuming = not job.detached
            if job.turns is not None:
                job.turns.begin_anew(job.window_bytes, job.spare_bytes, list(job.streams.values()))
        return super().connection_lost()

    def _repeat(self, waiting: list[tuple[int, Request]]) -> None:
        for job in self.jobs.values():
            if job.resuming and job.launch is not None and not job.news:
                self._hand_over(job)
            elif job.resuming:
                # Whether a job that we only joined should end with us is not known here: it goes on.
                self._send_request(JobRequest(job), messages.resume_job, job.id, job.stdin_offsets, job.from_attach)
        for number, request in waiting:
            if isinstance(request, JobRequest) and request.message[0] == "spawn":
                self._launch_again(number, request)
            else:
                self.outgoing += messages.encode(request.message)

    def _hand_over(self, job: JobState) -> None:
        """Give this head the launch of a job that a former one has acknowledged."""
        assert job.launch is not None
        request = JobRequest(job)
        number = self._number(request)
        request.message = job.launch
        job.launch[messages.SPAWN_REQUEST] = number
        self.outgoing += messages.encode(job.launch)

    def _launch_again(self, number: int, launch: JobRequest) -> None:
        """Prepare a launch that no head has acknowledged to be asked for when this one has told the time."""
        fields, job = launch.message, launch.job
        if not fields[messages.SPAWN_KEY]:
            self._refused(number, ConnectionLost("the head was lost before it acknowledged the launch"), [])
            return
        fields[messages.SPAWN_AGAIN] = True
        image = fields[messages.SPAWN_SPEC][messages.SPEC_IMAGE]
        if not fields[messages.SPAWN_DETACHED] or image not in self._uploads:
            return
        # A head was lost that had a detached job's program: the next one is to have it before we go.
        if job.staging is None or job.staging.finished:
            job.staging = self.stage(image)

    def _resumed(self, job: JobState) -> None:
        """The head goes on with a job of an earlier connection: send what it may not have heard."""
        job.resuming = False
        if job.leaving:
            job.leaving = False
            self.outgoing += messages.encode(messages.client_release(job.id))
            self.forget(job)
            return
        for message in job.stdin_again():
            self.outgoing += messages.encode(message)
        for stream in job.streams.values():
            if stream.consumed - stream.acknowledged >= job.acknowledge_bytes:
                self._acknowledge(job, stream)

    # -------------------------------------------------- what the head says

    def _handle(self, message: list[Any], events: list[Event]) -> None:
        tag = message[0]
        if tag in TOLD_OF_A_JOB:
            job = self.jobs.get(message[1])
            if job is not None:
                ranks = TOLD_OF_A_JOB[tag](job, message)
                if ranks:
                    events.append(RanksEnded(job, ranks))
                    if job.turns is not None and not job.released:
                        self._tell(job, job.turns.go_on())
            return
        super()._handle(message, events)

    def _output(self, message: list[Any], events: list[Event]) -> None:
        job = self.jobs.get(message[1])
        if job is None:
            return
        stream, data = job.output(*message[2:8])
        if message[4] < stream.acknowledged and not job.released:
            # The node has not heard of it: our word was on a way that is no more.
            self.outgoing += messages.encode(
                messages.client_ack(job.id, stream.rank, stream.stream, stream.acknowledged)
            )
        if data:
            events.append(NewOutput(job, stream, data))
        elif job.turns is not None and not job.released:
            self._tell(job, job.turns.look(stream, job.acknowledge_bytes))

    def _spawned(self, message: list[Any], events: list[Event]) -> None:
        request = self._answered(message, events)
        if not isinstance(request, JobRequest):
            raise ProtocolError("the head answered a question with a job")
        job = request.job
        job.spawned(message[2], message[3], message[4], *message[6:8])
        if len(message) > 5 and message[5]:
            job.keep_launch(request.message, message[3], message[5])
        if job.resuming:
            self._resumed(job)
        if job.unwanted:
            self._drop(job)
        elif not job.released:
            self.jobs[job.id] = job

    def _image_wanted(self, message: list[Any], events: list[Event]) -> None:
        upload = self._uploads.get(message[1])
        if upload is None:
            answers = [messages.image_unavailable(message[1], "the client does not have the program any more")]
        else:
            answers = upload.wanted(message[2], message[3])
        for answer in answers:
            self.outgoing += messages.encode(answer)

    def _image_took(self, message: list[Any], events: list[Event]) -> None:
        upload = self._uploads.get(message[1])
        for answer in upload.took(message[2]) if upload is not None else ():
            self.outgoing += messages.encode(answer)

    def _welcome(self, message: list[Any], events: list[Event]) -> None:
        super()._welcome(message, events)
        if not self._first:
            self._ask_again(message[5] if len(message) > 5 else 0)

    def _ask_again(self, head_ms: int) -> None:
        """Ask the head, whose clock says this, for the launches that no head has acknowledged."""
        from heorot.core.client import again

        for message in again.unacknowledged_launches(self.unanswered.values(), head_ms, self._now_ms):
            self.outgoing += messages.encode(message)

    def _not_granted(self, number: int, request: Request, error: RequestError, events: list[Event]) -> None:
        if not isinstance(request, JobRequest):
            may_be_known = error.code == "no-such-job" and isinstance(request.message[2], str)
            job = self.jobs.get(request.message[2]) if may_be_known else None
            if job is None or not job.resuming:
                super()._not_granted(number, request, error, events)
                return
            # The head has just been given the job.
            self.unanswered[number] = request
            self.outgoing += messages.encode(request.message)
            return
        job = request.job
        if job.may_be_handed_over and error.code == "no-such-job" and request.message[0] != "spawn":
            # The nodes of which we had news are gone as well; what ran nowhere is still to run.
            self._hand_over(job)
            return
        if job.resuming and error.code == "in-doubt":
            # It is of a newer head than this one, which is going to hear of that and end: the next one is asked.
            self._notice(["notice", number, error.message], events)
            return
        request.fail(error)
        if job.id:
            self._job_gone(job, error, events)

    def _job_gone(self, job: JobState, error: RequestError, events: list[Event]) -> None:
        """The next head does not go on with this job."""
        job.resuming = job.leaving = False
        self.forget(job)
        ranks = job.gone(Status.of_lost(error.message), error.message)
        if ranks:
            events.append(RanksEnded(job, ranks))
