"""Every message between head, agents and process spaces: msgspec structs, as msgpack arrays with an integer tag.

Two layers travel on one link. *Link messages* are between neighbours in the tree. *Payloads* are between the head and a
node's process space (bpinit); relays carry them as opaque bytes inside `Down` and `Up`, and an agent hands them to its
bpinit unchanged. A field may be added at the end with a default: neighbouring releases skip what they do not know.

Lists described as *flat* hold fixed-size records one after the other, because a list of small ints is what msgpack
decodes fastest; the record's fields are named at the list.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from heorot.core.errors import ProtocolError
from heorot.core.wire.attaching import Attach as Attach
from heorot.core.wire.attaching import Hop as Hop
from heorot.core.wire.attaching import Place as Place
from heorot.core.wire.attaching import Placement as Placement
from heorot.core.wire.attaching import SignedPlacement as SignedPlacement
from heorot.core.wire.attaching import SpaceGone as SpaceGone
from heorot.core.wire.base import Chunk as Chunk
from heorot.core.wire.base import Count as Count
from heorot.core.wire.base import Failure as Failure
from heorot.core.wire.base import JobId as JobId
from heorot.core.wire.base import LastJob as LastJob
from heorot.core.wire.base import Message as Message
from heorot.core.wire.base import NodeNumber as NodeNumber
from heorot.core.wire.base import Port as Port
from heorot.core.wire.collectives import Collective as Collective
from heorot.core.wire.collectives import Gathered as Gathered
from heorot.core.wire.collectives import Scattered as Scattered
from heorot.core.wire.heads import Barred as Barred
from heorot.core.wire.heads import HeadAddress as HeadAddress
from heorot.core.wire.heads import HeadList as HeadList
from heorot.core.wire.heads import Heads as Heads
from heorot.core.wire.heads import HeadsKept as HeadsKept
from heorot.core.wire.heads import TellHeads as TellHeads
from heorot.core.wire.images import ImageKept as ImageKept
from heorot.core.wire.images import ImageManifest as ImageManifest
from heorot.core.wire.images import KeepImage as KeepImage
from heorot.core.wire.images import Piece as Piece
from heorot.core.wire.images import Stored as Stored
from heorot.core.wire.images import Swarm as Swarm
from heorot.core.wire.images import Took as Took
from heorot.core.wire.images import Unavailable as Unavailable
from heorot.core.wire.images import Want as Want
from heorot.core.wire.launch import LaunchSpec as LaunchSpec
from heorot.core.wire.names import MAX_LIST_BYTES as MAX_LIST_BYTES
from heorot.core.wire.names import MAX_NAMED as MAX_NAMED
from heorot.core.wire.names import NamedHost as NamedHost
from heorot.core.wire.names import NameList as NameList
from heorot.core.wire.names import TellNames as TellNames
from heorot.core.wire.replies import NodeTable as NodeTable
from heorot.core.wire.replies import Process as Process
from heorot.core.wire.replies import Replies as Replies
from heorot.core.wire.replies import Reply as Reply
from heorot.core.wire.reports import JobInventory as JobInventory
from heorot.core.wire.reports import Report as Report
from heorot.core.wire.tickets import FetchLaunch as FetchLaunch
from heorot.core.wire.tickets import Launch as Launch
from heorot.core.wire.tickets import LaunchCopy as LaunchCopy
from heorot.core.wire.tickets import RefuseLaunch as RefuseLaunch
from heorot.core.wire.tickets import Ticket as Ticket
from heorot.core.wire.tickets import job_order as job_order
from heorot.core.wire.tickets import nodes_of as nodes_of
from heorot.core.wire.tickets import ranks_of as ranks_of
from heorot.core.wire.tickets import ranks_on as ranks_on
from heorot.core.wire.views import JobView as JobView
from heorot.core.wire.views import Look as Look
from heorot.core.wire.views import SpaceView as SpaceView

PROTOCOL_VERSION = 7
"""Before 3, a ticket named one by one what is `LaunchSpec`; before 4, an inventory said what its space understands;
before 5, answers of nodes were not put together on their way up; before 6, streams had no turns;
before 7, ranks had no barriers and no time limits, each node had one, tickets refused nothing, and nobody was told of
ranks that stop."""
OLDEST_PROTOCOL_VERSION = 6

# ---------------------------------------------------------------- link messages: tags 1..31


class Hello(Message, tag=1, frozen=True):
    """First message in both directions. The certificate says who the peer is; this says what it speaks."""

    version: Count
    oldest_version: Count
    cluster: str
    node: NodeNumber
    epoch: Count
    """The highest epoch that the sender has seen."""
    release: str
    headless: bool = False
    """As in `Pong`."""
    lease_ms: Count = 0
    """Only of a head: one that is silent for so long may have a successor elsewhere; 0: that takes longer, or never
    happens."""
    peer: bool = False
    """The sender comes for an image only, not to be a child."""


class Refused(Message, tag=2, frozen=True):
    """Last message before the sender closes: why it does. `code` is a short word, `text` a sentence for people."""

    code: str
    text: str


class Ping(Message, tag=3, frozen=True):
    """Sent by a child at every heartbeat."""

    nodes: Count = 0
    """How many nodes the sender reaches, itself included; 0: it does not say. A parent that counts others has them
    attach again."""
    answered_at_ms: Count = 0
    """`Pong.at_ms` of the latest `Pong`."""


class Pong(Message, tag=4, frozen=True):
    """The parent's answer to `Ping`; also sent unasked as soon as its word on the head changes."""

    headless: bool = False
    """The sender knows no way to an active head."""
    at_ms: Count = 0
    """Only of a head: when it sent this, on its own clock. What it is told in return proves that the child was there
    after that moment; what was sent before the head was paused proves nothing."""


class Down(Message, tag=5, frozen=True):
    """A head's command on its way to a set of nodes. A hop delivers locally and splits the rest among its children."""

    epoch: Count
    nodes: list[int]
    """Flat ranges: first, last."""
    payload: bytes


class Up(Message, tag=6, frozen=True):
    """A node's payload on its way to the head."""

    MUCH_IN: ClassVar[str] = "payload"
    node: Count
    payload: Chunk


class Detached(Message, tag=8, frozen=True):
    """Upward: these nodes, below the sender, cannot be reached through it any more."""

    nodes: list[int]
    """Flat ranges: first, last."""


class Reattached(Message, tag=9, frozen=True):
    """Downward, to direct children: the path to the head is new; send `Attach` and `Inventory` again."""

    epoch: Count


# ------------------------------- payloads that agents and the head exchange have the tags 32..47: `attaching`, `heads`
# ------------------------------------------------- commands to a process space: tags 48..79


class Stdin(Message, tag=49, frozen=True):
    """Input for ranks of a job on this node. Offsets make repetition harmless."""

    job: JobId
    ranks: list[int] | None
    """None: all ranks of the job; each stream is addressed either by broadcast or by rank during its life."""
    offset: Count
    data: bytes
    end: bool


class Ack(Message, tag=50, frozen=True):
    """The reader has these bytes: forget them, and send up to `offset + window_bytes`."""

    job: JobId
    rank: Count
    stream: Annotated[int, Meta(ge=1, le=2)]
    offset: Count
    limit: Count = 0
    """Its turn: send what there is up to here, beyond the window; 0: it has none, or the one that it had before."""


class Attend(Message, tag=51, frozen=True):
    """Somebody reads the job's output (or no longer does). With `from_start`, send again all that is still kept."""

    job: JobId
    attended: bool
    from_start: bool = False
    reading: Count = 0
    """Each reader of a job has another number; the first one, named by the ticket, has 0."""


class Release(Message, tag=52, frozen=True):
    """Everything of this job is collected: forget it. Ranks that still run are killed."""

    job: JobId


class Resize(Message, tag=53, frozen=True):
    """The user's terminal has a new size."""

    job: JobId
    rows: Count
    columns: Count


class Inventorize(Message, tag=54, frozen=True):
    """From the agent only: the path to the head is new. Answer `Inventory`, then send every stream again from its
    acknowledged offset."""

    alone: bool = False
    """As in `Alone`."""
    epoch: Count = 0
    """As in `Alone`."""


class Query(Message, tag=55, frozen=True):
    """A question with exactly one `Reply` per node; asking again with the same id acts only once."""

    id: Count
    job: JobId | None
    """Restrict to this job."""
    ranks: list[int] | None
    """Restrict to these ranks of the job."""
    pids: list[int] | None
    """Restrict to these cluster PIDs; a negative one names a process group."""
    signal: Annotated[int, Meta(ge=0, le=64)]
    """Send this signal to what was selected; 0: only list it."""
    detail: bool
    """Put the processes themselves into the reply, not only how many there are."""
    uid: int = -1
    """Select only processes of this real user; -1: of any. The head sets it for callers other than root."""
    asker: int = -1
    """Who asks, or whose job a head ends: it is done when that user has a turn. -1: an older head does not say."""


class Admit(Message, tag=57, frozen=True):
    """The head knows this incarnation of the node's process space from now on. Jobs up to and including `after` were
    launched before, perhaps on an incarnation that is gone: tickets of theirs, still on their way, start nothing here.
    The first one counts, and nothing is started before it has come."""

    incarnation: Count
    after: JobId


class Alone(Message, tag=58, frozen=True):
    """From the agent only, and only to a space whose `Inventory` says that it listens: whether the node is without any
    head. While it is, output that nobody acknowledges goes into memory and spool, and a job's `headless_ms` runs."""

    alone: bool
    epoch: Count = 0
    """The highest epoch that the agent has seen: for whoever asks the space directly."""


# ------------------------------------------------ answers of a process space: tags 80..111


class Inventory(Message, tag=80, frozen=True):
    """All that a process space holds: the snapshot that attaching hands over."""

    incarnation: Count
    jobs: list[JobInventory]
    init_pid: Count = 0
    after: LastJob = ""
    """As `Admit` said; empty: no head has admitted this incarnation yet."""
    age_ms: Count = 0
    """For how long this incarnation has existed."""


class Output(Message, tag=81, frozen=True):
    """Bytes that a rank wrote."""

    MUCH_IN: ClassVar[str] = "data"
    job: JobId
    rank: Count
    stream: Annotated[int, Meta(ge=1, le=2)]
    offset: Count
    data: Chunk
    kept_from: Count = 0
    """Bytes before this offset were acknowledged and are forgotten: where a new reader begins."""
    reading: Count = 0
    """Of the `Attend` that this was sent for. What is still on its way to a former reader is of no use to the next."""
    in_turn: bool = False
    """The stream has a turn (`Ack.limit`), and more of it may follow; without it, it has none, or none any more."""


class StdinAck(Message, tag=82, frozen=True):
    """All ranks of this node have their input up to `offset` (or want no more: then it is the highest possible)."""

    job: JobId
    offset: Count
    rank: int = -1
    """-1: the broadcast stream; else the rank whose own stream this is."""


LinkMessage: TypeAlias = (
    Hello | Refused | Ping | Pong | Down | Up | Report | Detached | Reattached
    | Want | ImageManifest | Piece | Stored | Took | Unavailable | Swarm | KeepImage | ImageKept | Replies
    | Gathered
)  # fmt: skip
HeadCommand: TypeAlias = (
    Launch | Stdin | Ack | Attend | Release | Resize | Inventorize | Query | FetchLaunch | Admit | Place | TellHeads
    | Barred | Scattered | TellNames
)  # fmt: skip
SpaceCommand: TypeAlias = (
    Launch | Stdin | Ack | Attend | Release | Resize | Inventorize | Query | FetchLaunch | Admit | Alone | RefuseLaunch
    | Scattered
)  # fmt: skip
NodePayload: TypeAlias = Attach | SpaceGone | HeadsKept | Inventory | Output | StdinAck | Reply | LaunchCopy
SpaceAnswer: TypeAlias = Report | Inventory | Output | StdinAck | Reply | LaunchCopy | Gathered

_encoder = msgspec.msgpack.Encoder()
_link_decoder: msgspec.msgpack.Decoder[LinkMessage] = msgspec.msgpack.Decoder(LinkMessage)
_head_command_decoder: msgspec.msgpack.Decoder[HeadCommand] = msgspec.msgpack.Decoder(HeadCommand)
_space_command_decoder: msgspec.msgpack.Decoder[SpaceCommand] = msgspec.msgpack.Decoder(SpaceCommand)
_node_payload_decoder: msgspec.msgpack.Decoder[NodePayload] = msgspec.msgpack.Decoder(NodePayload)
_space_answer_decoder: msgspec.msgpack.Decoder[SpaceAnswer] = msgspec.msgpack.Decoder(SpaceAnswer)
_look_decoder: msgspec.msgpack.Decoder[Look] = msgspec.msgpack.Decoder(Look)
_view_decoder: msgspec.msgpack.Decoder[SpaceView] = msgspec.msgpack.Decoder(SpaceView)
_ticket_decoder: msgspec.msgpack.Decoder[Ticket] = msgspec.msgpack.Decoder(Ticket)
_placement_decoder: msgspec.msgpack.Decoder[Placement] = msgspec.msgpack.Decoder(Placement)
_signed_placement_decoder: msgspec.msgpack.Decoder[SignedPlacement] = msgspec.msgpack.Decoder(SignedPlacement)
_head_list_decoder: msgspec.msgpack.Decoder[HeadList] = msgspec.msgpack.Decoder(HeadList)
_tell_heads_decoder: msgspec.msgpack.Decoder[TellHeads] = msgspec.msgpack.Decoder(TellHeads)
_name_list_decoder: msgspec.msgpack.Decoder[NameList] = msgspec.msgpack.Decoder(NameList)


def encode(message: Message) -> bytes:
    """Return the message as msgpack.

    Raises
    ------
    ProtocolError
        If a text is not Unicode, or a number too large.
    """
    try:
        return _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError) as error:
        raise ProtocolError(f"{type(message).__name__} cannot be encoded: {error}") from error


def tag_of(payload: bytes | memoryview) -> int:
    """Return the tag of an encoded tagged message without decoding it, or -1 if it has none.

    A relay that misread it would drop the message or take it for another: whatever a decoder takes for a tag is one.
    """
    # An array of at most 15 elements starts with one byte, and our tags are below 128.
    if len(payload) > 1 and 0x90 < payload[0] <= 0x9F and payload[1] < 128:
        return payload[1]
    return _long_tag(bytes(payload[:_LONGEST_TAG_BYTES]))


def _long_tag(payload: bytes) -> int:
    """Return the tag of a message with more fields than today's, or written less shortly than it could be."""
    start = _ARRAY_HEADERS.get(payload[:1], 1 if payload[:1] and 0x90 <= payload[0] <= 0x9F else 0)
    if not start or not (payload[0] & 0x0F if start == 1 else any(payload[1:start])):
        return -1
    kind = payload[start : start + 1]
    if kind and kind[0] < 128:
        return kind[0]
    size, signed = _INTEGERS.get(kind, (0, False))
    digits = payload[start + 1 : start + 1 + size]
    if not size or len(digits) < size:
        return -1
    return max(int.from_bytes(digits, "big", signed=signed), -1)


_LONGEST_TAG_BYTES = 5 + 1 + 8
"""With the head of the array that it is in."""
_ARRAY_HEADERS = {b"\xdc": 3, b"\xdd": 5}
"""How many bytes stand before the first element of a longer array."""
_INTEGERS = {bytes([0xCC + size]): (1 << size, False) for size in range(4)} | {
    bytes([0xD0 + size]): (1 << size, True) for size in range(4)
}
"""How many bytes the number behind this one has, and whether it has a sign."""


T = TypeVar("T")


def _decode(decoder: msgspec.msgpack.Decoder[T], payload: bytes | memoryview, what: str) -> T:
    # Hostile input can raise UnicodeDecodeError and RecursionError beside msgspec's own error: all become one here.
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid {what}: {error}") from error


def decode_link(payload: bytes | memoryview) -> LinkMessage:
    """Decode what a neighbour in the tree sent. Raises only ProtocolError."""
    return _decode(_link_decoder, payload, "link message")


def decode_head_command(payload: bytes) -> HeadCommand:
    """Decode the payload of a `Down`. Raises only ProtocolError."""
    return _decode(_head_command_decoder, payload, "command")


def decode_space_command(payload: bytes) -> SpaceCommand:
    """Decode what an agent sent to its bpinit. Raises only ProtocolError."""
    return _decode(_space_command_decoder, payload, "command to a process space")


def decode_node_payload(payload: bytes | memoryview) -> NodePayload:
    """Decode the payload of an `Up`. Raises only ProtocolError."""
    return _decode(_node_payload_decoder, payload, "node payload")


def decode_space_answer(payload: bytes | memoryview) -> SpaceAnswer:
    """Decode what a bpinit sent to its agent. Raises only ProtocolError."""
    return _decode(_space_answer_decoder, payload, "answer of a process space")


def decode_look(payload: bytes) -> Look:
    """Decode the question of somebody who is no agent. Raises only ProtocolError."""
    return _decode(_look_decoder, payload, "question to a process space")


def decode_view(payload: bytes) -> SpaceView:
    """Decode a process space's answer to `Look`. Raises only ProtocolError."""
    return _decode(_view_decoder, payload, "view of a process space")


def decode_ticket(payload: bytes) -> Ticket:
    """Decode a launch ticket whose signature was verified. Raises only ProtocolError."""
    return _decode(_ticket_decoder, payload, "launch ticket")


def decode_placement(payload: bytes) -> Placement:
    """Decode a placement whose signature was verified. Raises only ProtocolError."""
    return _decode(_placement_decoder, payload, "placement")


def decode_signed_placement(payload: bytes) -> SignedPlacement:
    """Decode a signed placement. Raises only ProtocolError."""
    return _decode(_signed_placement_decoder, payload, "signed placement")


def decode_head_list(payload: bytes) -> HeadList:
    """Decode a list of heads whose signature was verified. Raises only ProtocolError."""
    return _decode(_head_list_decoder, payload, "list of heads")


def decode_tell_heads(payload: bytes) -> TellHeads:
    """Decode a signed list of heads that was kept. Raises only ProtocolError."""
    return _decode(_tell_heads_decoder, payload, "signed list of heads")


def decode_name_list(payload: bytes) -> NameList:
    """Decode a list of names whose signature was verified. Raises only ProtocolError."""
    return _decode(_name_list_decoder, payload, "list of names")
