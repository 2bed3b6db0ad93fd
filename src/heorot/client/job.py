"""A job as both forms of the library have it: what a program sees of it, and what each method does, but the waiting.

`_name` is the flow of the method `name` (`heorot.client.flow`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from heorot.client.endings import in_words
from heorot.client.flow import NOTICE, Flow, Until, answer
from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.end import RankUsage, Status
from heorot.core.client.job import STDERR, STDOUT, JobState
from heorot.core.client.read_stream import ReadStream
from heorot.core.client.session import SIGKILL, NewOutput, Session
from heorot.core.errors import RequestError

STDIN_PIECE_BYTES = 256 * 1024
"""Input is sent in pieces of at most this."""

CLOSE_TIMEOUT_S = 10.0
"""How long `Job.close` waits for a killed job to be over."""


class Chunk(NamedTuple):
    """A piece of a rank's output, as it came."""

    rank: int
    stream: int
    """1: stdout, 2: stderr."""
    data: bytes


class Completed(NamedTuple):
    """A job that is over, with all of its output; lists are indexed by rank."""

    statuses: list[Status]
    stdout: list[bytes]
    stderr: list[bytes]
    used: Sequence[RankUsage | None] = ()
    """None: the rank never ran or was lost, or its node is of an older release."""

    @property
    def exit_status(self) -> int:
        """The largest of the ranks' exit statuses, as of `bpsh`."""
        return max((status.exit_status for status in self.statuses), default=0)

    def check(self) -> Completed:
        """Return this if every rank exited with 0.

        Raises
        ------
        JobFailed
            Otherwise.
        """
        if self.exit_status:
            raise JobFailed(self)
        return self


class JobFailed(Exception):
    """A rank did not exit with 0; `completed` has the statuses and the output."""

    def __init__(self, completed: Completed) -> None:
        bad = [rank for rank, status in enumerate(completed.statuses) if not status.success]
        example = completed.statuses[bad[0]]
        super().__init__(f"{len(bad)} of {len(completed.statuses)} ranks failed; rank {bad[0]}: {in_words(example)}")
        self.completed = completed


class LineSplitter:
    """Puts the lines of each stream together again."""

    def __init__(self) -> None:
        self._rests: dict[tuple[int, int], list[bytes]] = {}

    def feed(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the lines that this chunk completes, without their ends."""
        key = chunk[:2]
        whole, newline, rest = chunk.data.rpartition(b"\n")
        if newline:
            held = self._rests.pop(key, [])
            for line in b"".join([*held, whole]).split(b"\n"):
                yield Chunk(*key, line)
        if rest:
            self._rests.setdefault(key, []).append(rest)

    def finish(self) -> Iterator[Chunk]:
        """Yield last lines that have no end."""
        for key in sorted(self._rests):
            yield Chunk(*key, b"".join(self._rests[key]))
        self._rests.clear()


class JobFlows:
    """See the module. The properties may be read at any time; only waiting moves them on."""

    def __init__(self, session: Session, state: JobState, detached: bool, forget: Callable[[JobState], object]) -> None:
        self._session = session
        self._forget = forget
        self._state = state
        self._chunks: deque[tuple[ReadStream, bytes]] = deque()
        self._detached = detached
        self._reader_gone = False
        self._wait_request: Request | None = None

    @property
    def id(self) -> str:
        """The job's name in the cluster: ``EPOCH.SEQUENCE``."""
        return self._state.id

    @property
    def nodes(self) -> list[int]:
        """The node of each rank."""
        return list(self._state.nodes)

    @property
    def pids(self) -> dict[int, int]:
        """The cluster-wide PID of each rank that is known to have started."""
        return dict(self._state.pids)

    @property
    def statuses(self) -> dict[int, Status]:
        """How each rank ended that is known to be over."""
        return dict(self._state.statuses)

    @property
    def used(self) -> dict[int, RankUsage]:
        """What each rank has used, CPU time and memory, that is known to be over."""
        return dict(self._state.used)

    @property
    def reason(self) -> str:
        """Why the job was ended, if it did not end by itself."""
        return self._state.done_text

    @property
    def detached(self) -> bool:
        """Whether the job goes on without this program."""
        return self._detached

    def __repr__(self) -> str:
        state = self._state
        return f"<Job {state.id}: {len(state.statuses)} of {len(state.nodes)} ranks over>"

    # -------------------------------------------------- waiting

    def _poll(self) -> Flow[list[Status] | None]:
        return self._status_list() if (yield from self._is_over(0.0)) else None

    def _wait(self, timeout_s: float | None) -> Flow[list[Status]]:
        if not (yield from self._is_over(timeout_s)):
            raise TimeoutError(f"job {self.id} is not over after {timeout_s} s")
        return self._status_list()

    def _is_over(self, timeout_s: float | None) -> Flow[bool]:
        if self._detached and self._wait_request is None and not self._state.done:
            self._wait_request = self._session.ask(messages.wait, self.id)
        request = self._wait_request
        if not (yield Until(lambda: self._state.done or (request is not None and request.finished), timeout_s)):
            return False
        self._take_wait_answer()
        if not self._detached:
            self._release_if_collected()
        return True

    def _wait_started(self, timeout_s: float | None) -> Flow[dict[int, int]]:
        self._readable()
        state = self._state

        def started() -> bool:
            return state.done or len(state.pids.keys() | state.statuses.keys()) == len(state.nodes)

        if not (yield Until(started, timeout_s)):
            raise TimeoutError(f"not every rank of job {self.id} is started after {timeout_s} s")
        self._release_if_collected()
        return self.pids

    # -------------------------------------------------- output

    def _read(self, timeout_s: float | None) -> Flow[Chunk | None]:
        self._readable()
        if not (yield Until(lambda: bool(self._chunks) or self._state.complete, timeout_s)):
            raise TimeoutError(f"no output of job {self.id} within {timeout_s} s")
        chunk = self._take() if self._chunks else None
        self._release_if_collected()
        return chunk

    def _communicate(self, input: bytes, timeout_s: float | None) -> Flow[Completed]:
        self._readable()
        deadline = None if timeout_s is None else monotonic() + timeout_s
        stdin = self._state.stdin_stream()
        rest = memoryview(input)
        pieces: dict[ReadStream, list[bytes]] = {}

        def ready() -> bool:
            writable = bool(rest) and not stdin.closed and stdin.room_bytes > 0
            return bool(self._chunks) or self._state.complete or writable

        if not input and not stdin.ended:
            self._session.send_stdin(self._state, b"", end=True)
        while True:
            if not (yield Until(ready, None if deadline is None else max(0.0, deadline - monotonic()))):
                raise TimeoutError(f"job {self.id} is not over after {timeout_s} s")
            if rest and not stdin.closed and (size := min(stdin.room_bytes, STDIN_PIECE_BYTES)) > 0:
                piece, rest = bytes(rest[:size]), rest[size:]
                self._session.send_stdin(self._state, piece, end=not rest)
            while self._chunks:
                stream, _ = self._chunks[0]
                held = pieces.setdefault(stream, [])
                held.append(self._take().data)
                if stream.whole and stream.consumed == stream.total:
                    # Now, and not all at the end: what its pieces take is used for those of the next one.
                    held[:] = (b"".join(held),)
            if self._state.complete:
                self._release_if_collected()
                return self._completed(pieces)

    # -------------------------------------------------- input and control

    def _write(self, data: bytes, rank: int | None, timeout_s: float | None) -> Flow[None]:
        self._readable()
        target = messages.BROADCAST if rank is None else rank
        rest = memoryview(data)
        while rest:
            if not (yield Until(lambda: self._stdin_room(target) > 0, timeout_s)):
                raise TimeoutError(f"job {self.id} takes no input for {timeout_s} s")
            size = min(self._stdin_room(target), STDIN_PIECE_BYTES)
            self._session.send_stdin(self._state, bytes(rest[:size]), rank=target)
            rest = rest[size:]
        yield Until(lambda: not self._session.outgoing, timeout_s)

    def _close_stdin(self, rank: int | None) -> Flow[None]:
        self._readable()
        target = messages.BROADCAST if rank is None else rank
        if not self._state.stdin_stream(target).ended and not self._state.done:
            self._session.send_stdin(self._state, b"", end=True, rank=target)
            yield Until(lambda: not self._session.outgoing)

    def _signal(self, number: int, ranks: Sequence[int] | None) -> Flow[int]:
        yield NOTICE
        if self._state.done:
            return 0
        request = self._session.signal(self._state, int(number), None if ranks is None else list(ranks))
        return int((yield from answer(request))[0])

    def _resize(self, rows: int, columns: int) -> Flow[None]:
        self._session.resize(self._state, rows, columns)
        yield Until(lambda: True)

    def _processes(self) -> Flow[list[dict[str, Any]]]:
        return list((yield from answer(self._session.ask(messages.list_processes, "", self.id)))[0]["processes"])

    def _detach(self) -> Flow[None]:
        self._session.acknowledge_all(self._state)
        yield from answer(self._session.ask(messages.detach, self.id))
        self._detached = True
        self._session.forget(self._state)
        self._forget(self._state)

    def _close(self) -> Flow[None]:
        try:
            if not self._detached and self._session.closed is None:
                yield from self._end()
        finally:
            self._forget(self._state)

    def _end(self) -> Flow[None]:
        try:
            self._drop_output()
            if not self._state.done:
                self._session.signal(self._state, SIGKILL)
                # The end of the connection would end the job, too.
                with suppress(RequestError):
                    yield Until(lambda: self._state.done, CLOSE_TIMEOUT_S)
        finally:
            self._session.release(self._state)

    # -------------------------------------------------- what these have in common

    def _received(self, event: NewOutput) -> None:
        if self._reader_gone:
            self._session.consumed(self._state, event.stream, len(event.data))
        else:
            self._chunks.append((event.stream, event.data))

    def _take(self) -> Chunk:
        stream, data = self._chunks.popleft()
        self._session.consumed(self._state, stream, len(data))
        self._release_if_collected()
        return Chunk(stream.rank, stream.stream, data)

    def _release_if_collected(self) -> None:
        if self._state.complete and not self._chunks and not self._state.released and not self._session.closed:
            self._session.release(self._state)

    def _drop_output(self) -> None:
        """Nobody wants the output any more: let the ranks go on all the same."""
        self._reader_gone = True
        while self._chunks:
            self._take()

    def _status_list(self) -> list[Status]:
        statuses = self._state.statuses
        return [statuses[rank] for rank in range(len(self._state.nodes))]

    def _take_wait_answer(self) -> None:
        """Learn from the answer to ``wait`` how the ranks of a job ended that we do not follow."""
        request = self._wait_request
        if request is None or self._state.done:
            return
        if request.error is not None:
            self._wait_request = None
            raise request.error
        shown = request.value[0]
        for rank, status in shown["statuses"].items():
            self._state.ended(int(rank), Status.of_json(status), 0, 0)
        for rank, used in shown.get("used", {}).items():
            self._state.used[int(rank)] = RankUsage.of_json(used)
        self._state.done = True
        self._state.done_text = shown.get("text", "")

    def _readable(self) -> None:
        if self._detached:
            raise RequestError("detached", f"job {self.id} runs detached: attach to it to read or write its streams")

    def _stdin_room(self, rank: int) -> int:
        stream = self._state.stdin_stream(rank)
        if stream.ended:
            raise ValueError("the input was closed already")
        if stream.closed or self._state.done:
            raise BrokenPipeError(f"no rank of job {self.id} takes input any more")
        return stream.room_bytes

    def _completed(self, pieces: dict[ReadStream, list[bytes]]) -> Completed:
        ranks = range(len(self._state.nodes))
        whole = {(stream.rank, stream.stream): b"".join(held) for stream, held in pieces.items()}
        return Completed(
            self._status_list(),
            [whole.get((rank, STDOUT), b"") for rank in ranks],
            [whole.get((rank, STDERR), b"") for rank in ranks],
            [self._state.used.get(rank) for rank in ranks],
        )
