"""What nodes answer to a `Query`: one `Reply` of each, which relays put together."""

from __future__ import annotations

import msgspec

from heorot.core.errors import ProtocolError
from heorot.core.wire.base import Count, Message


class Process(Message, frozen=True):
    """One row of the process table."""

    pid: Count
    job: str
    """Empty if it cannot be told."""
    rank: int
    """-1 if it cannot be told."""
    uid: Count
    state: str
    """The letter of ps(1): R, S, D, T, Z."""
    started_at_ms: Count
    """Wall clock."""
    argv: list[bytes]
    leader: bool
    """True for the rank itself, False for what it started."""
    parent_pid: Count = 0
    user_time_ms: Count = 0
    memory_bytes: Count = 0
    kept_bytes: Count = 0
    """In a `SpaceView`, of a rank: what it has written and nobody has acknowledged."""


class Reply(Message, tag=83, frozen=True):
    """The answer to a `Query`."""

    id: Count
    matched: Count
    processes: list[Process]
    more: bool = False
    """Another reply with further processes follows."""


class NodeTable(Message, frozen=True):
    """The processes of one node; relays do not look into it."""

    node: Count
    processes: bytes
    """The list in its `Reply`, encoded."""


class Replies(Message, tag=18, frozen=True):
    """Upward: what some nodes have answered to one `Query`, each to its end, in one message of a relay."""

    id: Count
    matched: list[int]
    """Flat: first node, count, matched: as many consecutive nodes have answered, each with so many."""
    tables: list[NodeTable]
    """Of those that have any processes to tell."""


class OpaqueReply(msgspec.Struct, tag=83, array_like=True, frozen=True, gc=False):
    """A `Reply` as a relay reads it: of the processes only where they begin and end."""

    id: Count
    matched: Count
    processes: msgspec.Raw
    more: bool = False


_opaque_decoder: msgspec.msgpack.Decoder[OpaqueReply] = msgspec.msgpack.Decoder(OpaqueReply)
_table_decoder: msgspec.msgpack.Decoder[list[Process]] = msgspec.msgpack.Decoder(list[Process])


def decode_opaque(payload: bytes) -> OpaqueReply:
    """Decode a `Reply` without its processes. Raises only ProtocolError."""
    try:
        return _opaque_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid reply: {error}") from error


def decode_table(table: NodeTable) -> list[Process]:
    """Decode the processes of a node. Raises only ProtocolError."""
    try:
        return _table_decoder.decode(table.processes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid table of processes: {error}") from error
