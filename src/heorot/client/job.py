"""What the blocking and the asyncio form of the library have in common: a job's arguments, state and collected
output.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from heorot.client import caller
from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.core.client.end import Status
from heorot.core.client.job import STDERR, STDOUT, JobState, ReadStream
from heorot.core.client.session import NewOutput, Session
from heorot.core.errors import RequestError
from heorot.core.tree.nodeset import NodeSet
from heorot.images.offer import Offer, offer_command

PIPE = -1
"""The bytes come to, or from, this program."""
DEVNULL = -3
"""No bytes: /dev/null on the node."""

BROADCAST = messages.BROADCAST
STDIN_PIECE_BYTES = 256 * 1024
"""Input is sent in pieces of at most this."""

Argument: TypeAlias = str | bytes | os.PathLike[str]
Where: TypeAlias = int | str | bytes | os.PathLike[str]
"""`PIPE`, `DEVNULL`, or a path on the node."""
Nodes: TypeAlias = str | int | Iterable[int]
"""A node list, a node's number, or several; a repeated number gets a rank each time."""


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
        text = f": {example.text}" if example.text else ""
        super().__init__(f"{len(bad)} of {len(completed.statuses)} ranks failed; rank {bad[0]}: {example!r}{text}")
        self.completed = completed


def node_list(nodes: Nodes) -> str:
    """Return the text form of a node selection."""
    if isinstance(nodes, str):
        return nodes
    if isinstance(nodes, int):
        return str(nodes) if nodes >= 0 else "master"
    if isinstance(nodes, NodeSet):
        return str(nodes)
    return ",".join(str(node) if node >= 0 else "master" for node in nodes)


def path_list(paths: Argument | Sequence[Argument]) -> list[bytes]:
    """Return one path or several as they go over the wire."""
    if isinstance(paths, str | bytes | os.PathLike):
        paths = [paths]
    return [os.fsencode(path) for path in paths]


def _where(value: Where, what: str) -> bytes | None:
    if isinstance(value, int):
        if value == PIPE:
            return b""
        if value == DEVNULL:
            return None
        raise ValueError(f"{what} must be PIPE, DEVNULL or a path on the node, not {value}")
    path = os.fsencode(value)
    if not path:
        raise ValueError(f"the path for {what} is empty")
    return path


def spawn_fields(
    argv: Sequence[Argument],
    nodes: Nodes,
    *,
    stdin: Where,
    stdout: Where,
    stderr: Where,
    environment: Mapping[str, str] | Mapping[bytes, bytes] | None,
    directory: Argument | None,
    umask: int | None,
    limits: Mapping[int, tuple[int, int]] | None,
    terminal: tuple[int, int] | None,
    detached: bool,
    max_processes: int,
    headless_s: float,
    linger: bool,
    image: str,
    extra_files: Sequence[Argument],
) -> tuple[dict[str, Any], Offer | None]:
    """Return the fields of `heorot.core.client.messages.spawn` for what a program asked for, and the image that goes
    with it.

    What it left out is taken from this process.
    """
    if not 0 <= headless_s <= messages.MAX_HEADLESS_S:
        raise ValueError(f"headless_s must be between 0 and {messages.MAX_HEADLESS_S}, not {headless_s}")
    if isinstance(argv, str | bytes) or not argv:
        raise ValueError("argv must be a sequence with the command and its arguments")
    if environment is None:
        variables = caller.environment()
    else:
        variables = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()]
    where = caller.directory() if directory is None else os.fsencode(directory)
    words = [os.fsencode(argument) for argument in argv]
    offer = None
    if image != "path":
        if image not in ("auto", "send"):
            raise ValueError(f'image must be "auto", "send" or "path", not {image!r}')
        extra = [os.fsencode(name) for name in extra_files]
        offer = offer_command(
            words[0], variables, where, extra=extra, always_send=image == "send", terminal=terminal is not None
        )
    elif extra_files:
        raise ValueError('with image="path" nothing is sent, but there are extra_files')
    fields = {
        "nodes": node_list(nodes),
        "select": "list",
        "argv": words,
        "environment": variables,
        "directory": where,
        "umask": caller.umask() if umask is None else umask,
        "limits": caller.limits()
        if limits is None
        else [number for limit, (soft, hard) in limits.items() for number in (limit, soft, hard)],
        "stdin": _where(stdin, "stdin"),
        "stdout": _where(stdout, "stdout"),
        "stderr": _where(stderr, "stderr"),
        "terminal": list(terminal) if terminal else [],
        "detached": detached,
        "max_processes": max_processes,
        "key": os.urandom(messages.KEY_BYTES),
        "headless_ms": round(headless_s * 1000),
        "linger": linger,
    }
    if offer is not None:
        fields |= {"image": offer.image, "program": offer.program, "program_id": offer.program_id}
    return fields, offer


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


class JobBase:
    """A job as a program sees it. All of this may be read at any time; only waiting moves it on."""

    def __init__(self, session: Session, state: JobState, detached: bool) -> None:
        self._session = session
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

    # -------------------------------------------------- for the two forms

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

    def _is_over(self) -> bool:
        return self._state.done or (self._wait_request is not None and self._wait_request.finished)

    def _is_started(self) -> bool:
        state = self._state
        return state.done or len(state.pids.keys() | state.statuses.keys()) == len(state.nodes)

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

    def _completed(self, chunks: list[Chunk]) -> Completed:
        ranks = range(len(self._state.nodes))
        pieces: dict[tuple[int, int], list[bytes]] = {}
        for chunk in chunks:
            pieces.setdefault(chunk[:2], []).append(chunk.data)
        return Completed(
            self._status_list(),
            [b"".join(pieces.get((rank, STDOUT), ())) for rank in ranks],
            [b"".join(pieces.get((rank, STDERR), ())) for rank in ranks],
        )
