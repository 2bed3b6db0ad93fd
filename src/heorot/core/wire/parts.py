"""Messages that carry much, encoded in parts: what they carry stays where it is, and is not copied into the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from heorot.core.wire.base import Message
from heorot.core.wire.tree import encode

Parts: TypeAlias = Sequence[bytes | memoryview]
"""One message, one part after the other."""

WORTH_BYTES = 16 * 1024
"""Less is copied sooner than it is kept apart."""
_BYTES_2, _BYTES_4 = 0xC5, 0xC6
"""The msgpack types of bytes with a length of two bytes, and of four."""
_FEW_FIELDS = 0x90
"""That of an array of less than sixteen elements, whose number is added to it."""

_encoder = msgspec.msgpack.Encoder()


def encode_in_parts(message: Message) -> bytes | Parts:
    """Return what `encode` returns, in several parts if it carries much. Raises ProtocolError as `encode`."""
    name = message.MUCH_IN
    if not name:
        return encode(message)
    carried: bytes | memoryview = getattr(message, name)
    if len(carried) < WORTH_BYTES:
        return encode(message)
    fields = msgspec.structs.astuple(message)
    at = message.__struct_fields__.index(name)
    before, after = (message.__struct_config__.tag, *fields[:at]), fields[at + 1 :]
    head = bytearray(_encoder.encode(before))
    head[0] = _FEW_FIELDS + 1 + len(fields)
    if len(carried) >> 16:
        head.append(_BYTES_4)
        head += len(carried).to_bytes(4, "big")
    else:
        head.append(_BYTES_2)
        head += len(carried).to_bytes(2, "big")
    if not after:
        return bytes(head), carried
    return bytes(head), carried, _encoder.encode(after)[1:]
