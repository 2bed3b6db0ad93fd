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
`reconnected`: `outgoing` then holds the greeting and everything that takes up again what was under way. Jobs are
resumed at their offsets; a launch that was not acknowledged is asked for once more under its key, which starts it at
most once (it says when it was asked for first, on the clock of the head, and so waits for the welcome); one that was
acknowledged, and of which nothing was heard since, is handed over with its receipt, because perhaps nobody else has
it; questions are repeated; input that was not acknowledged is sent again. Meanwhile the owner may go on as if nothing
had happened: what it wants is kept, within the same windows, until there is a head. A signal that may have arrived is
not sent twice unless twice is as good as once.
"""

from __future__ import annotations

from time import monotonic

from heorot import __version__
from heorot.core.client import messages
from heorot.core.client.end import Status
from heorot.core.client.job import JobState, ReadStream, Request
from heorot.core.errors import ProtocolError, RequestError

SIGKILL = 9
RELEASE_TIMEOUT_S = 10.0
"""How long who ends waits for the next head, to tell it which jobs are collected."""
MAX_NOTICES = 16
MAX_UPLOADS = 128
"""Half of the images that a head lets one client offer."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias

    class Upload(Protocol):
        """Sends of an image what the head asks for (`heorot.images.offer.Upload`)."""

        def wanted(self, manifest: bool, chunks: list[int]) -> list[list[object]]: ...
        def took(self, size_bytes: int) -> list[list[object]]: ...
        def reset(self) -> None: ...


class ConnectionLost(RequestError):
    """The connection to the head is gone."""

    def __init__(self, message: str) -> None:
        super().__init__("connection-lost", message)


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


class Session:
    """The state of one connection."""

    def __init__(self) -> None:
        self.outgoing = bytearray(messages.encode(messages.client_hello(__version__)))
        """Bytes for the head that the owner has not written yet."""
        self.jobs: dict[str, JobState] = {}
        self.head = ""
        self.epoch = 0
        self.connected = True
        """Whether there is a connection to write to."""
        self.greeted = False
        """Whether the head at the other end of this connection has spoken."""
        self._first = True
        """No connection was lost yet."""
        self.closed: RequestError | None = None
        """Why the connection can not be used any more."""
        self._reader = messages.MessageReader()
        self._requests: dict[int, Request] = {}
        self._uploads: dict[bytes, Upload] = {}
        """By image: what we offer with our launches."""
        self.notices: list[str] = []
        """Why the head lets us wait, for people; the owner takes them away."""
        self._next_request = 1

    # -------------------------------------------------- what the owner wants

    def _number(self, request: Request) -> int:
        if self.closed is not None:
            raise self.closed
        number = self._next_request
        self._next_request += 1
        self._requests[number] = request
        request.asked_s = monotonic()
        return number

    def ask(self, build: Any, *fields: Any) -> Request:
        """Queue the request that `build`, a function of `heorot.core.client.messages`, makes of a number and
        `fields`.
        """
        request = Request()
        self._send_request(request, build, *fields)
        return request

    def _send_request(self, request: Request, build: Any, *fields: Any, **named_fields: Any) -> int:
        number = self._number(request)
        try:
            request.message = build(number, *fields, **named_fields)
            frame = messages.encode(request.message)
        except BaseException:
            del self._requests[number]
            raise
        if self.connected:
            self.outgoing += frame
        return number

    def _ask_for_job(self, build: Any, *fields: Any, **named_fields: Any) -> JobState:
        job = JobState(0)
        job.request = self._send_request(Request(job), build, *fields, **named_fields)
        return job

    def spawn(self, **fields: Any) -> JobState:
        """Queue a launch; the fields are those of `heorot.core.client.messages.spawn`. With a `key` it outlives the
        loss of a head.
        """
        state = self._ask_for_job(messages.spawn, **fields)
        state.detached = fields["detached"]
        return state

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
        state = self._ask_for_job(messages.attach_job, job, from_start)
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
        """`count` more bytes of a stream are where they belong; acknowledge them when half a window has come
        together.
        """
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
        if stream.consumed - stream.acknowledged >= job.acknowledge_bytes and not job.released:
            self._acknowledge(job, stream)

    def _acknowledge(self, job: JobState, stream: ReadStream) -> None:
        stream.acknowledged = stream.consumed
        # The next head hears of it when the node sends the same bytes again.
        if self._reaches(job):
            self.outgoing += messages.encode(messages.client_ack(job.id, stream.rank, stream.stream, stream.consumed))

    def acknowledge_all(self, job: JobState) -> None:
        """Acknowledge all that was consumed, however little: before leaving a job that goes on."""
        for stream in job.streams.values():
            if stream.consumed > stream.acknowledged:
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

    def disconnected(self, reason: str) -> None:
        """There is no connection any more, and there will be none: every unanswered request fails."""
        self.connected = False
        self._fail(ConnectionLost(reason))

    # -------------------------------------------------- from one head to the next

    def connection_lost(self) -> list[Request]:
        """The connection is gone, and `reconnected` will follow; return the requests that fail because they must not be
        repeated: nobody knows whether they were obeyed.
        """
        self.connected = self.greeted = self._first = False
        self.outgoing.clear()
        for upload in self._uploads.values():
            upload.reset()
        self._reader = messages.MessageReader()
        failed = []
        for number, request in list(self._requests.items()):
            request.rows = []
            if request.job is not None and request.job.id:
                del self._requests[number]  # asked to go on with a job; that is asked anew
            elif not request.repeatable:
                del self._requests[number]
                request.finished = True
                request.error = ConnectionLost(
                    "the head was lost before it answered: whether the signal arrived is unknown"
                )
                failed.append(request)
        for job in self.jobs.values():
            job.resuming = not job.detached
        return failed

    def reconnected(self) -> None:
        """There is a new connection: queue the greeting and all that takes up again what was under way."""
        assert not self.connected
        self.connected = True
        self.outgoing += messages.encode(messages.client_hello(__version__))
        waiting = list(self._requests.items())
        for job in self.jobs.values():
            if job.resuming and job.launch is not None and not job.news:
                self._hand_over(job)
            elif job.resuming:
                offsets = [number for rank in job.stdin for number in (rank, job.stdin[rank].acknowledged)]
                # Whether a job that we only joined should end with us is not known here: it goes on.
                self._send_request(Request(job), messages.resume_job, job.id, offsets, job.from_attach)
        for number, request in waiting:
            if request.message[0] == "spawn":
                fields = request.message
                if not fields[messages.SPAWN_KEY]:
                    self._refused(number, ConnectionLost("the head was lost before it acknowledged the launch"), [])
                    continue
                fields[messages.SPAWN_AGAIN] = True
                self._stage_again(request)
                continue
            self.outgoing += messages.encode(request.message)

    def _hand_over(self, job: JobState) -> None:
        """Give this head the launch of a job that a former one has acknowledged."""
        assert job.launch is not None
        request = Request(job)
        number = self._number(request)
        request.message = job.launch
        job.launch[messages.SPAWN_REQUEST] = number
        self.outgoing += messages.encode(job.launch)

    def _stage_again(self, launch: Request) -> None:
        """A head was lost that had a detached job's program: the next one is to have it before we go."""
        fields, job = launch.message, launch.job
        if job is None or not fields[messages.SPAWN_DETACHED] or fields[messages.SPAWN_IMAGE] not in self._uploads:
            return
        if job.staging is None or job.staging.finished:
            job.staging = self.stage(fields[messages.SPAWN_IMAGE])

    def _ask_again(self, head_ms: int) -> None:
        """Ask the head, whose clock says this, for the launches that no head has acknowledged."""
        for request in self._requests.values():
            fields = request.message
            if fields[0] == "spawn" and fields[messages.SPAWN_AGAIN] and not fields[messages.SPAWN_RECEIPT]:
                fields[messages.SPAWN_ASKED_AT] = head_ms - int((monotonic() - request.asked_s) * 1000) - 1
                self.outgoing += messages.encode(fields)

    def _resumed(self, job: JobState) -> None:
        """The head goes on with a job of an earlier connection: send what it may not have heard."""
        job.resuming = False
        if job.leaving:
            job.leaving = False
            self.outgoing += messages.encode(messages.client_release(job.id))
            self.forget(job)
            return
        for rank, stream in job.stdin.items():
            if stream.closed:
                continue
            for offset, data in stream.unacknowledged():
                self.outgoing += messages.encode(messages.client_stdin(job.id, rank, offset, data, False))
            if stream.ended:
                self.outgoing += messages.encode(messages.client_stdin(job.id, rank, stream.sent, b"", True))

    def _fail(self, error: RequestError) -> None:
        if self.closed is None:
            self.closed = error
        for request in self._requests.values():
            request.finished = True
            request.error = error
            if request.job is not None:
                request.job.error = error
        self._requests.clear()

    # -------------------------------------------------- what the head says

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the socket and return what happened.

        Raises
        ------
        ProtocolError
            If the head breaks the protocol. The session is closed then.
        """
        events: list[Event] = []
        try:
            for message in self._reader.feed(data):
                self._handle(message, events)
        except ProtocolError as error:
            self._fail(RequestError("protocol", str(error)))
            raise
        except (IndexError, TypeError, ValueError, AttributeError, KeyError) as error:
            self._fail(RequestError("protocol", f"the head sent a malformed message: {error}"))
            raise ProtocolError(f"the head sent a malformed message: {error}") from error
        return events

    def _handle(self, message: list[Any], events: list[Event]) -> None:
        tag = message[0]
        if tag == "output":
            job = self.jobs.get(message[1])
            if job is not None:
                kept_from = message[6] if len(message) > 6 else 0
                stream, data = job.output(message[2], message[3], message[4], message[5], kept_from)
                if message[4] < stream.acknowledged and not job.released:
                    # The node has not heard of it: our word was on a way that is no more.
                    self.outgoing += messages.encode(
                        messages.client_ack(job.id, stream.rank, stream.stream, stream.acknowledged)
                    )
                if data:
                    events.append(NewOutput(job, stream, data))
        elif tag in _JOB_MESSAGES:
            job = self.jobs.get(message[1])
            if job is not None:
                _JOB_MESSAGES[tag](job, message, events)
        elif tag in ("spawned", "signalled", "result"):
            request = self._requests.pop(message[1], None)
            if request is None:
                raise ProtocolError(f"the head answered request {message[1]}, which is not open")
            request.finished = True
            request.value = message[2:]
            if tag == "result":
                request.value[0] = messages.with_rows(request.rows, request.value[0])
            if tag == "spawned":
                if request.job is None:
                    raise ProtocolError("the head answered a question with a job")
                request.job.spawned(message[2], message[3], message[4])
                if len(message) > 5 and message[5]:
                    request.job.keep_launch(request.message, message[3], message[5])
                if request.job.resuming:
                    self._resumed(request.job)
                if request.job.unwanted:
                    self._drop(request.job)
                elif not request.job.released:
                    self.jobs[request.job.id] = request.job
        elif tag in ("image-wanted", "image-took"):
            self._upload(message)
        elif tag == "notice":
            self.notices = [*self.notices[1 - MAX_NOTICES :], message[2]]
        elif tag == "rows":
            self._requests[message[1]].rows += message[2]
        elif tag == "error":
            self._refused(message[1], RequestError(message[2], message[3]), events)
        elif tag == "welcome":
            self.head, self.epoch = message[3], message[4]
            self.greeted = True
            self._ask_again(message[5] if len(message) > 5 else 0)
        # A tag that this release does not know comes from a newer head, which may say more than we understand.

    def _upload(self, message: list[Any]) -> None:
        upload = self._uploads.get(message[1])
        if upload is not None:
            answers = upload.wanted(*message[2:4]) if message[0] == "image-wanted" else upload.took(message[2])
        elif message[0] == "image-wanted":
            answers = [messages.image_unavailable(message[1], "the client does not have the program any more")]
        else:
            answers = []
        for answer in answers:
            self.outgoing += messages.encode(answer)

    def _refused(self, number: int, error: RequestError, events: list[Event]) -> None:
        if number == 0:
            if error.code != "busy" or self._first:
                self._fail(error)
            # Else it closes the connection, and what is under way is worth another attempt.
            return
        request = self._requests.pop(number, None)
        if request is None:
            return
        job = request.job
        was_handed_over = request.message[:1] == ["spawn"]
        if (
            job is not None
            and job.launch is not None
            and job.input_is_whole
            and error.code == "no-such-job"
            and not was_handed_over
        ):
            # The nodes of which we had news are gone as well; what ran nowhere is still to run.
            self._hand_over(job)
            return
        request.finished = True
        request.error = error
        if job is not None:
            job.error = error
            if job.id:
                self._job_gone(job, error, events)

    def _job_gone(self, job: JobState, error: RequestError, events: list[Event]) -> None:
        """The next head does not go on with this job."""
        job.resuming = job.leaving = False
        self.forget(job)
        ranks = job.gone(Status.of_lost(error.message), error.message)
        if ranks:
            events.append(RanksEnded(job, ranks))


def _started(job: JobState, message: list[Any], events: list[Event]) -> None:
    flat = message[2]
    for i in range(0, len(flat), 2):
        job.pids[flat[i]] = flat[i + 1]


def _exited(job: JobState, message: list[Any], events: list[Event]) -> None:
    flat = message[2]
    ranks = [
        flat[i]
        for i in range(0, len(flat), 4)
        if job.ended(flat[i], Status.of_wait_status(flat[i + 1]), flat[i + 2], flat[i + 3])
    ]
    if ranks:
        events.append(RanksEnded(job, ranks))


def _exited_alike(job: JobState, message: list[Any], events: list[Event]) -> None:
    _job, runs, wait_status, stdout_bytes, stderr_bytes = message[1:6]
    status = Status.of_wait_status(wait_status)
    ranks = [
        rank
        for i in range(0, len(runs), 2)
        for rank in range(runs[i], min(runs[i] + runs[i + 1], len(job.nodes)))
        if job.ended(rank, status, stdout_bytes, stderr_bytes)
    ]
    if ranks:
        events.append(RanksEnded(job, ranks))


def _failed(job: JobState, message: list[Any], events: list[Event]) -> None:
    ranks = [rank for rank, error, text in message[2] if job.ended(rank, Status.of_failure(error, text), 0, 0)]
    if ranks:
        events.append(RanksEnded(job, ranks))


def _lost(job: JobState, message: list[Any], events: list[Event]) -> None:
    ranks = [rank for rank, _node, text in message[2] if job.lost(rank, Status.of_lost(text))]
    if ranks:
        events.append(RanksEnded(job, ranks))


def _stdin_acknowledged(job: JobState, message: list[Any], events: list[Event]) -> None:
    stream = job.stdin_stream(message[2])
    if job.from_attach and not stream.sent and not stream.closed:
        # Whoever fed it before us got so far; we go on from there.
        stream.sent = stream.acknowledged = 0 if message[4] else message[3]
    stream.acknowledge(message[3], message[4])


def _done(job: JobState, message: list[Any], events: list[Event]) -> None:
    job.done = True
    job.launch = None
    job.done_text = message[2] if len(message) > 2 else ""


_JOB_MESSAGES = {
    "started": _started,
    "exited": _exited,
    "exited-alike": _exited_alike,
    "failed": _failed,
    "lost": _lost,
    "stdin-ack": _stdin_acknowledged,
    "done": _done,
}
