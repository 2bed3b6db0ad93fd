"""Every message between a client (a command, the Python library) and the head, over the head's unix socket.

Msgspec structs as msgpack arrays whose first element is the tag, a word. A short command does not import msgspec
(25 ms): it builds and reads the same arrays with plain msgpack, see `heorot.core.client.messages`. The order of the
fields is therefore part of the protocol: fields are only ever added at the end, with a default.

A request carries a `request` number of the client's choosing and gets exactly one answer with that number: the one
named in its docstring, or `Error`. Questions are in `heorot.core.wire.questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from heorot.core.errors import ProtocolError
from heorot.core.wire.base import Chunk, Count, ImageId, JobId, Message
from heorot.core.wire.events import ListEvents as ListEvents
from heorot.core.wire.launch import LaunchSpec
from heorot.core.wire.questions import Changed as Changed
from heorot.core.wire.questions import ListJobs as ListJobs
from heorot.core.wire.questions import ListNodes as ListNodes
from heorot.core.wire.questions import ListProcesses as ListProcesses
from heorot.core.wire.questions import LookOn as LookOn
from heorot.core.wire.questions import LookTook as LookTook
from heorot.core.wire.questions import Resolve as Resolve
from heorot.core.wire.questions import Seen as Seen
from heorot.core.wire.questions import ShowJob as ShowJob
from heorot.core.wire.questions import Shown as Shown
from heorot.core.wire.questions import ShowStatus as ShowStatus
from heorot.core.wire.questions import Unwatch as Unwatch
from heorot.core.wire.questions import Watch as Watch
from heorot.core.wire.wishes import SetNodes as SetNodes

CLIENT_PROTOCOL_VERSION = 3
OLDEST_CLIENT_PROTOCOL_VERSION = 2
"""Heads take clients of it, whose messages are the same, but for what they lack. A head of it takes none of 3: it would
start what they ask for without what it does not know, such as a time limit."""


# ------------------------------------------------------------------ client to head


class ClientHello(Message, tag="hello", frozen=True):
    """First message; answered by `Welcome`."""

    version: Count
    release: str
    hears_used: bool = False
    """Send `Used` of the jobs that this client reads: it grows with their ranks, and most clients do not care."""


class Spawn(Message, tag="spawn", frozen=True):
    """Start a command. Answered by `Spawned`; then `Started`, `Output`, `Exited`, ... and `Done` follow."""

    request: Count
    nodes: str
    """A node list (`heorot.core.tree.nodelist`); a repeated node gets a rank each time."""
    select: str
    """``list``: as `nodes` says; ``up``: all nodes that are up; ``notdown``: all that are not down."""
    spec: LaunchSpec
    detached: bool
    """The job outlives this connection and keeps its output until somebody attaches."""
    tell_started: bool = True
    """Send `Started`: a client that does not care for PIDs spares the head a message that grows with the job."""
    key: bytes = b""
    """What no other launch of this user has, 16 random bytes; empty: the launch cannot be asked for again."""
    again: bool = False
    """A head was lost before it acknowledged this: go on with the job, or start it; ``launch-unknown`` if in doubt."""
    asked_at_ms: int = 0
    """With `again`: when it was asked for first, or earlier, by `Welcome.at_ms`: no younger node can know of it."""
    job: str = ""
    """With `again`: the id under which a former head has acknowledged this launch, and ..."""
    runs: list[int] = msgspec.field(default_factory=list)
    """... its nodes, as in `Spawned`, and ..."""
    receipt: bytes = b""
    """... the receipt. The launch goes on under this id, and nodes of which no news had come are sent it."""


class Stage(Message, tag="stage", frozen=True):
    """Fetch this image from the client, so that it may go. Answered by `Result` (null)."""

    request: Count
    image: ImageId


class OfferedManifest(Message, tag="image-manifest", frozen=True):
    """An image's encoded manifest, as was asked for."""

    image: ImageId
    data: bytes


class OfferedPiece(Message, tag="image-piece", frozen=True):
    """Consecutive chunks of an image, as were asked for; at most 1 MiB may be unacknowledged."""

    image: ImageId
    first: Count
    chunks: Sequence[Chunk]


class NotOffered(Message, tag="image-unavailable", frozen=True):
    """The client cannot give what was asked for of this image."""

    image: ImageId
    text: str
    """Why, for people."""


class ClientStdin(Message, tag="stdin", frozen=True):
    """Input at an offset; at most 1 MiB may be unacknowledged. `rank` -1 is broadcast."""

    job: JobId
    rank: int
    offset: Count
    data: bytes
    end: bool


class ClientAck(Message, tag="ack", frozen=True):
    """The client has written these bytes where they belong: the node may forget them. A client that gets bytes again
    which it has acknowledged says it again. `limit` as in `heorot.core.wire.tree.Ack`, for `Spawned.spare_bytes`."""

    job: JobId
    rank: Count
    stream: Annotated[int, Meta(ge=1, le=2)]
    offset: Count
    limit: Count = 0


class ClientResize(Message, tag="resize", frozen=True):
    """The terminal's new size."""

    job: JobId
    rows: Count
    columns: Count


class ClientRelease(Message, tag="release", frozen=True):
    """The client has all that it wants: nodes and head may forget the job's output. If it still runs, that is a
    hang-up."""

    job: JobId


class Detach(Message, tag="detach", frozen=True):
    """Answered by `Result` (null): the job goes on without this client."""

    request: Count
    job: JobId


class AttachJob(Message, tag="attach", frozen=True):
    """Read a detached or unattended job. Answered by `Spawned`; its states so far and its output follow."""

    request: Count
    job: JobId
    from_start: bool
    resume: bool = False
    """The caller has read and fed this job over a connection that was lost, and goes on: a new head waits for its nodes
    to say what they hold before it answers, and an earlier connection that still stands for the job stands aside."""
    stdin: list[int] = msgspec.field(default_factory=list)
    """With `resume`, flat: rank (-1 is broadcast), acknowledged offset. The caller sends again all that lies behind."""
    detached: bool = False
    """With `resume`: the job outlives this connection, too."""


class Wait(Message, tag="wait", frozen=True):
    """Answered by `Result` with the job (as `ShowJob`) once all of its ranks are over. Only root may wait for the
    jobs of others."""

    request: Count
    job: JobId


class Signal(Message, tag="signal", frozen=True):
    """Answered by `Signalled`. Either `job` (all ranks, or `ranks` of it) or `pids` (negative: process groups)."""

    request: Count
    job: JobId | None
    ranks: list[int] | None
    pids: list[int] | None
    signal: Annotated[int, Meta(ge=0, le=64)]
    nodes: str = ""
    """With `pids`: look on these nodes only (a rootless cluster of several hosts has no unique PIDs)."""


# ------------------------------------------------------------------ head to client


class Welcome(Message, tag="welcome", frozen=True):
    """Answer to `ClientHello`."""

    version: Count
    release: str
    head: str
    epoch: Count
    at_ms: Count = 0
    """The head's time, on a clock of its own."""


class Error(Message, tag="error", frozen=True):
    """A request was refused; request 0: the connection itself, which is closed then. Codes: docs/protocol.md."""

    request: Count
    code: str
    message: str


class Spawned(Message, tag="spawned", frozen=True):
    """The job exists and is acknowledged: from here on it is never lost. A detached one is when a node has it."""

    request: Count
    job: JobId
    runs: list[int]
    """Flat: first node, count; rank 0 is on the first node of the first run, and so on."""
    window_bytes: Count
    """The client acknowledges each stream at the latest after half of this, or lets it wait for its turn."""
    receipt: bytes = b""
    """Of an attended launch with a key: lets its client hand it to the next head (`Spawn.receipt`)."""
    spare_bytes: Count = 0
    """So much may be on its way beyond the windows, of all streams of the job together; 0: none."""
    ranks: Count = 0
    """How many ranks the nodes of `runs` have, in blocks (`heorot.core.wire.node_runs`); 0: one each."""


class Started(Message, tag="started", frozen=True):
    """Flat: rank, pid."""

    job: JobId
    ranks: list[int]


class Stopped(Message, tag="stopped", frozen=True):
    """Ranks that have stopped or go on. Flat: rank, and of it what `heorot.core.wire.reports.Report.stops` says. The
    highest count of a rank counts, whichever comes last. Missing bytes follow as `Output`."""

    job: JobId
    ranks: list[int]


class Exited(Message, tag="exited", frozen=True):
    """Ranks that are over. Flat: rank, wait status, stdout bytes, stderr bytes. Missing bytes follow as `Output`."""

    job: JobId
    ranks: list[int]


class ExitedAlike(Message, tag="exited-alike", frozen=True):
    """The same for many ranks that ended in the same way, as most do: however many they are, it is as short."""

    job: JobId
    runs: list[int]
    """Flat: first rank, count."""
    wait_status: Count
    stdout_bytes: Count
    stderr_bytes: Count


class Used(Message, tag="used", frozen=True):
    """What ranks have used whose ends follow. Flat: rank, CPU time as a user and in the kernel in ms, and the peak of
    memory in KiB (0: not known)."""

    job: JobId
    ranks: list[int]


class Failed(Message, tag="failed", frozen=True):
    """Ranks that never ran: lists of rank, errno, text."""

    job: JobId
    ranks: list[tuple[int, int, str]]


class Lost(Message, tag="lost", frozen=True):
    """Ranks whose node is gone: lists of rank, node, text. For a rank that has ended already: the output of it that has
    not arrived is gone."""

    job: JobId
    ranks: list[tuple[int, int, str]]


class ClientOutput(Message, tag="output", frozen=True):
    """Bytes of a rank. What was sent before may come again; ignore what leaves a gap: the rest is about to come."""

    MUCH_IN: ClassVar[str] = "data"

    job: JobId
    rank: Count
    stream: int
    offset: Count
    data: Chunk
    kept_from: Count = 0
    """Bytes before this offset were acknowledged by a former reader: where a new one begins."""
    in_turn: bool = False


class ClientStdinAck(Message, tag="stdin-ack", frozen=True):
    """All ranks have the input up to `offset`. A rank that takes no more input does not hold the others up; when none
    takes any, `closed` is true."""

    job: JobId
    rank: int
    offset: Count
    closed: bool


class ImageWanted(Message, tag="image-wanted", frozen=True):
    """The head lacks this of an image that the client offers, too; with neither manifest nor chunks: nothing more."""

    image: ImageId
    manifest: bool
    chunks: list[int]
    """Flat ranges: first, count."""


class ImageTook(Message, tag="image-took", frozen=True):
    """So many more bytes of an image's chunks were taken."""

    image: ImageId
    size_bytes: Count


class Done(Message, tag="done", frozen=True):
    """All ranks are over; every Started, Exited, Failed and Lost was sent. `text`: why, if something ended the job.
    `status`: what the job's exit status is whatever its ranks' are; -1: theirs."""

    job: JobId
    text: str = ""
    status: int = -1


class Signalled(Message, tag="signalled", frozen=True):
    """How many processes got the signal; `missing`: nodes that did not answer."""

    request: Count
    matched: Count
    missing: list[int]


class Rows(Message, tag="rows", frozen=True):
    """The first rows of an answer that is too long for one frame; `Result` follows, with the last ones."""

    request: Count
    rows: list[Any]


class Notice(Message, tag="notice", frozen=True):
    """What there is to know about a request before its answer comes: this head is new, and waits for nodes, or answers
    without them."""

    request: Count
    text: str
    """For people."""
    silent: list[int]
    """Flat ranges of the nodes that have not been heard of yet: first, last."""


class Result(Message, tag="result", frozen=True):
    """The answer to a question (`heorot.core.wire.rows.Answer`): decoded, plain maps and lists. `Rows` that came before
    go in front of its rows."""

    request: Count
    value: Any


ClientMessage: TypeAlias = (
    ClientHello | Spawn | ClientStdin | ClientAck | ClientResize | ClientRelease | Detach | AttachJob | Wait | Signal
    | Resolve | ShowStatus | ListNodes | ListProcesses | ListJobs | ShowJob
    | Stage | OfferedManifest | OfferedPiece | NotOffered | Watch | Seen | Unwatch | SetNodes | LookOn | LookTook
    | ListEvents
)  # fmt: skip
HeadMessage: TypeAlias = (
    Welcome | Error | Spawned | Started | Exited | ExitedAlike | Failed | Lost | ClientOutput | ClientStdinAck | Done
    | Used | Stopped | Signalled | Rows | Result | ImageWanted | ImageTook | Notice | Changed | Shown
)  # fmt: skip

_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)


def decode_client(payload: bytes) -> ClientMessage:
    """Decode what a client sent. Raises only ProtocolError."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid client message: {error}") from error
