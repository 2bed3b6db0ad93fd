"""How a head on standby, or a node, passes a client of its host on to the active head: a greeting each way, then the
client's own.

Each client has a connection of its own, over TLS between the certificates of two heads, or of a node and a head. Who
passes it on sends `PassOn`, the active head `PassAccepted`; from then on the frames of `heorot.core.wire.clients` go
both ways, unchanged. When the client has ended its connection, the last frame is `PassLeft`: a connection that ends
without it was lost, and the client may be alive. Of what a node says the head takes the number of the user alone, and
serves it within bounds (`heorot.core.head.spokesmen`).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from heorot.core.errors import ProtocolError
from heorot.core.wire.base import Count, Message
from heorot.core.wire.tree import encode

PASS_VERSION = 1
MAX_GROUPS = 8192
MAX_OF_NODE = 64
"""Clients that one node passes on at once: it could name as many users as it likes."""
UserNumber: TypeAlias = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]


class PassOn(Message, tag=120, frozen=True):
    """Who the client is, as the kernel and the user database of the host say that it came to."""

    version: Count
    uid: UserNumber
    gid: UserNumber
    user: Annotated[str, Meta(max_length=256)]
    groups: Annotated[list[UserNumber], Meta(max_length=MAX_GROUPS)]


class PassAccepted(Message, tag=121, frozen=True):
    """The active head takes the client; what follows is between the two."""

    version: Count
    head: str
    epoch: Count


class PassLeft(Message, tag=122, frozen=True):
    """The client has ended its connection. Commands of clients begin with a word, so none can be taken for this."""


PassMessage: TypeAlias = PassOn | PassAccepted
LEFT = encode(PassLeft())
"""`PassLeft` as it is sent: all that the active head must tell from the client's own frames."""

_decoder: msgspec.msgpack.Decoder[PassMessage] = msgspec.msgpack.Decoder(PassMessage)


def decode_pass(payload: bytes) -> PassMessage:
    """Decode a greeting between two heads. Raises only ProtocolError."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a valid greeting between heads: {error}") from error
