"""The client protocol for programs that must start fast: frames and plain msgpack lists, without msgspec.

The arrays are those of `heorot.core.wire.clients`, field by field and in the same order; a test compares the two.
What arrives is a list whose first element is the tag; its readers index into it, and whoever reads turns an
`IndexError` or `TypeError` into `ProtocolError`.
"""

from __future__ import annotations

from heorot.core.client import short_msgpack
from heorot.core.errors import ProtocolError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Upload(Protocol):
        """Sends of an image what the head asks for (`heorot.images.offer.Upload`)."""

        def wanted(self, manifest: bool, chunks: list[int]) -> list[list[object]]: ...
        def took(self, size_bytes: int) -> list[list[object]]: ...
        def reset(self) -> None: ...


CLIENT_PROTOCOL_VERSION = 3
HEADER_BYTES = 4
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""As in `heorot.core.wire`, which costs more to load than these three lines."""
STDIN_WINDOW_BYTES = 1024 * 1024
"""How much input of one stream may be unacknowledged."""
BROADCAST = -1
"""The `rank` of input that goes to all ranks."""


LARGE_BYTES, LARGEST_ROOM_BYTES = 64 * 1024, 1024 * 1024
"""A frame of such a length that is cut in two comes to its place at once."""
SHORT_BYTES = 4096
"""A longer message, unless it is mostly one string of bytes, is worth the import of the compiled msgpack,"""
MANY_MESSAGES = 300
"""and so are so many."""
KEY_BYTES = 16
"""The length of the key of a launch."""
MAX_HEADLESS_S = MAX_TIME_LIMIT_S = 10 * 365 * 86400
SPAWN_REQUEST, SPAWN_SPEC, SPAWN_DETACHED, SPAWN_KEY = 1, 4, 5, 7
SPAWN_AGAIN, SPAWN_ASKED_AT, SPAWN_JOB, SPAWN_RUNS, SPAWN_RECEIPT = 8, 9, 10, 11, 12
"""Where these fields are in a ``spawn``, and ..."""
SPEC_IMAGE = 11
"""... in its `launch_spec`."""
_OUTPUT_PREFIX = b"\xa6output"

_pack, _unpack = short_msgpack.packb, short_msgpack.unpackb
_read_count = 0


def use_compiled() -> None:
    """Pack and unpack with the compiled msgpack from now on: it takes 5 ms to import, and is ten times as fast."""
    global _pack, _unpack
    import msgpack

    _pack, _unpack = msgpack.packb, msgpack.unpackb


def encode(message: Sequence[object]) -> bytes:
    """Return a message as a frame.

    Raises
    ------
    ProtocolError
        If it is larger than a frame may be.
    RequestError
        If a text in it is not text, or a number too large for any message.
    """
    try:
        payload: bytes = _pack(message)
    except UnicodeEncodeError as error:
        from heorot.core.safe_text import printable

        text = f"'{printable(error.object)}' is not valid UTF-8, and no node, job or user is called so"
        raise RequestError("not-text", text) from error
    except OverflowError as error:
        raise RequestError("bad-request", "a number has more than 64 bits") from error
    if len(payload) > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"the request has {len(payload)} bytes; the limit is {MAX_FRAME_BYTES}: shorten arguments or environment"
        )
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class MessageReader:
    """Cuts received bytes into messages; holds at most one incomplete frame.

    Unlike `heorot.core.wire.framing.FrameDecoder` it decodes out of the received block itself: a command that forwards
    gigabytes copies each byte once less.
    """

    __slots__ = ("_chunks", "_filled_bytes", "_held_bytes", "_needed_bytes", "_room")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = HEADER_BYTES
        self._room: memoryview | None = None
        """For the payload of a large frame that is under way, of which so much is here:"""
        self._filled_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return self._held_bytes if self._room is None else HEADER_BYTES + self._filled_bytes

    def rest(self) -> memoryview | None:
        """Return where the rest of a large frame belongs, if one is under way: put bytes there, and call `advance`."""
        return None if self._room is None else self._room[self._filled_bytes :]

    def advance(self, count: int) -> list[list[Any]]:
        """So many bytes were put to the beginning of `rest`; return the message if it is whole. Raises as `feed`."""
        assert self._room is not None
        self._filled_bytes += count
        if self._filled_bytes < len(self._room):
            return []
        room, self._room = self._room, None
        return [_decode(room)]

    def feed(self, data: bytes) -> list[list[Any]]:
        """Take received bytes and return the messages that they complete, in order.

        Raises
        ------
        ProtocolError
            If a frame is too long or is not a msgpack array. The reader must not be used afterwards.
        """
        messages: list[list[Any]] = []
        rest = self.rest()
        if rest is not None:
            count = min(len(rest), len(data))
            rest[:count] = data[:count]
            messages = self.advance(count)
            data = data[count:]
        if self._chunks:
            self._chunks.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._needed_bytes:
                return messages
            data = b"".join(self._chunks)
            self._chunks.clear()
        view = memoryview(data)
        start, available = 0, len(data)
        needed = HEADER_BYTES
        while available - start >= HEADER_BYTES:
            length = int.from_bytes(view[start : start + HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"the head announced a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            end = start + HEADER_BYTES + length
            if end > available:
                needed = end - start
                break
            messages.append(_decode(view[start + HEADER_BYTES : end]))
            start = end
        held = available - start
        if LARGE_BYTES <= needed - HEADER_BYTES <= LARGEST_ROOM_BYTES:
            self._room = memoryview(bytearray(needed - HEADER_BYTES))
            self._filled_bytes = held - HEADER_BYTES
            self._room[: self._filled_bytes] = view[start + HEADER_BYTES :]
            start, held, needed = available, 0, HEADER_BYTES
        self._held_bytes = held
        self._needed_bytes = needed
        if start < available:
            self._chunks.append(bytes(view[start:]))
        return messages


def _decode(payload: memoryview) -> list[Any]:
    global _read_count
    _read_count += 1
    if _unpack is short_msgpack.unpackb and (
        _read_count > MANY_MESSAGES or (len(payload) > SHORT_BYTES and payload[1:8] != _OUTPUT_PREFIX)
    ):
        use_compiled()
    try:
        message = _unpack(payload)
    except (
        Exception
    ) as error:  # msgpack's own errors have no common base besides ValueError; hostile input raises others
        raise ProtocolError(f"the head sent a frame that is not msgpack: {error}") from error
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ProtocolError("the head sent something that is not a message")
    return message


def with_rows(rows: list[Any], value: Any) -> Any:
    """Return the value of a ``result`` with the rows in front that came before it."""
    if not rows:
        return value
    if isinstance(value, list):
        return rows + value
    return {**value, "processes": rows + value["processes"]}


# ---------------------------------------------------- client to head, in the order of core.wire.clients


def client_hello(release: str, hears_used: bool = False) -> list[object]:
    """First message; answered by ``welcome``."""
    return ["hello", CLIENT_PROTOCOL_VERSION, release, hears_used]


def launch_spec(
    *,
    argv: list[bytes],
    environment: list[bytes],
    directory: bytes,
    umask: int,
    limits: list[int],
    stdin: bytes | None,
    stdout: bytes | None,
    stderr: bytes | None,
    terminal: list[int],
    max_processes: int = 0,
    headless_ms: int = 0,
    image: bytes = b"",
    program: bytes = b"",
    program_id: bytes = b"",
    linger: bool = False,
    pmi: bool = False,
    ranks: int = 0,
    ranks_per_node: int = 0,
    patterns: bool = False,
    time_limit_ms: int = 0,
    bind: str = "",
    stdin_ranks: list[int] | None = None,
) -> list[object]:
    """What is to be started: `heorot.core.wire.launch.LaunchSpec`, which says what the fields mean."""
    # All parameters in their order, which is that of the fields there: each is named once, and a test compares the two.
    return list(locals().values())


def spawn(
    request: int,
    *,
    nodes: str,
    select: str,
    detached: bool,
    tell_started: bool = True,
    key: bytes = b"",
    again: bool = False,
    asked_at_ms: int = 0,
    job: str = "",
    runs: Sequence[int] = (),
    receipt: bytes = b"",
    **spec: Any,
) -> list[object]:
    """Start a command; answered by ``spawned``. All other fields are those of `launch_spec`."""
    return [
        "spawn", request, nodes, select, launch_spec(**spec), detached, tell_started, key, again, asked_at_ms, job,
        list(runs), receipt,
    ]  # fmt: skip


def stage(request: int, image: bytes) -> list[object]:
    """Fetch this image, which the client offers; answered by ``result``."""
    return ["stage", request, image]


def image_manifest(image: bytes, data: bytes) -> list[object]:
    """An image's encoded manifest, as was asked for."""
    return ["image-manifest", image, data]


def image_piece(image: bytes, first: int, chunks: list[bytes]) -> list[object]:
    """Consecutive chunks of an image, as were asked for."""
    return ["image-piece", image, first, chunks]


def image_unavailable(image: bytes, text: str) -> list[object]:
    """What was asked for of an image cannot be given."""
    return ["image-unavailable", image, text]


def is_job(text: str) -> bool:
    """Say whether the text has the form of a job's id, ``EPOCH.SEQUENCE``."""
    epoch, dot, sequence = text.partition(".")
    return bool(dot) and text.isascii() and epoch.isdecimal() and sequence.isdecimal() and len(text) <= 40


def job_id(text: str) -> str:
    """Return a job's id. Raises RequestError if it is none: the head would close the connection."""
    if not is_job(text):
        from heorot.core.safe_text import printable

        raise RequestError(
            "bad-request", f"'{printable(text)}' is not a job: an id is EPOCH.SEQUENCE, for example 1.42"
        )
    return text


def client_stdin(job: str, rank: int, offset: int, data: bytes, end: bool) -> list[object]:
    """Input at an offset; `rank` -1 is broadcast."""
    return ["stdin", job, rank, offset, data, end]


def client_ack(job: str, rank: int, stream: int, offset: int, limit: int = 0) -> list[object]:
    """These bytes are written where they belong; with a `limit` it is the stream's turn."""
    return ["ack", job, rank, stream, offset, limit]


def client_resize(job: str, rows: int, columns: int) -> list[object]:
    """The terminal's new size."""
    return ["resize", job, rows, columns]


def client_release(job: str) -> list[object]:
    """The client has every status and every byte."""
    return ["release", job]


def detach(request: int, job: str) -> list[object]:
    """The job goes on without this client; answered by ``result``."""
    return ["detach", request, job]


def attach_job(request: int, job: str, from_start: bool) -> list[object]:
    """Read a detached or unattended job; answered by ``spawned``."""
    return ["attach", request, job_id(job), from_start, False, [], False]


def resume_job(request: int, job: str, stdin: list[int], detached: bool) -> list[object]:
    """Go on with a job whose connection was lost; `stdin` is flat: rank, acknowledged offset."""
    return ["attach", request, job, False, True, stdin, detached]


def wait(request: int, job: str) -> list[object]:
    """Answered by ``result`` once all ranks of the job are over."""
    return ["wait", request, job_id(job)]


def signal(
    request: int, job: str | None, ranks: list[int] | None, pids: list[int] | None, number: int, nodes: str = ""
) -> list[object]:
    """Answered by ``signalled``."""
    return ["signal", request, job if job is None else job_id(job), ranks, pids, number, nodes]


def resolve(request: int, nodes: str, select: str) -> list[object]:
    """Answered by ``result`` with the list of node numbers."""
    return ["resolve", request, nodes, select]


def status(request: int) -> list[object]:
    """Answered by ``result`` with the cluster's status."""
    return ["status", request]


def list_nodes(request: int, nodes: str) -> list[object]:
    """Answered by ``result`` with a list of nodes."""
    return ["nodes", request, nodes]


def list_processes(request: int, nodes: str, job: str | None) -> list[object]:
    """Answered by ``result`` with processes and missing nodes."""
    return ["processes", request, nodes, job if job is None else job_id(job)]


def set_nodes(request: int, nodes: str, *fields: object) -> list[object]:
    """Answered by ``result`` with the nodes, and which of them are late; the other fields as in the typed message."""
    return ["set-nodes", request, nodes, *fields]


def list_events(request: int, after: list[int]) -> list[object]:
    """Answered by ``result`` with a list of events."""
    return ["events", request, after]


def list_jobs(request: int) -> list[object]:
    """Answered by ``result`` with a list of jobs."""
    return ["jobs", request]


def watch_topics(
    request: int, topics: list[str], interval_ms: int, nodes: str = "", job: str | None = None
) -> list[object]:
    """Answered by ``changed``, any number of times."""
    return ["watch", request, topics, interval_ms, nodes, job if job is None else job_id(job)]


def seen(request: int) -> list[object]:
    """The last ``changed`` of a watch were taken."""
    return ["seen", request]


def unwatch(request: int) -> list[object]:
    """The end of a watch; it is answered by ``result`` then."""
    return ["unwatch", request]


def show_job(request: int, job: str) -> list[object]:
    """Answered by ``result`` with one job."""
    return ["job", request, job_id(job)]
