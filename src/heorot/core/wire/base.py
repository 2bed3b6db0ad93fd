"""What every message is built on: the base class and the types of their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

Count: TypeAlias = Annotated[int, Meta(ge=0)]
"""A number that counts: bytes, offsets, milliseconds, ranks."""
NodeNumber: TypeAlias = Annotated[int, Meta(ge=-1)]
"""A node's number, or -1 for the head."""
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
JobId: TypeAlias = Annotated[str, Meta(min_length=3, max_length=40, pattern=r"^[0-9]+\.[0-9]+$")]
"""``EPOCH.SEQUENCE``: unique in the cluster because an epoch belongs to one head."""
LastJob: TypeAlias = Annotated[str, Meta(max_length=40, pattern=r"^([0-9]+\.[0-9]+)?$")]
"""The id of a job, or nothing."""
ImageId: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""The SHA-256 of an image's manifest (`heorot.core.images.manifest`)."""

if TYPE_CHECKING:
    Chunk: TypeAlias = bytes | memoryview
else:
    Chunk = memoryview
"""Bytes, perhaps many. Decoded, they are a view of the message that they came in: nothing is copied."""


class Message(Struct, array_like=True, frozen=True, gc=False):
    """Base of everything on the wire."""

    MUCH_IN: ClassVar[str] = ""
    """The field that may carry many bytes; empty: none does."""


class Failure(Message, frozen=True):
    """A rank that could not be started."""

    node: Count
    rank: Count
    error: Count
    """errno; 0 if `text` says it all."""
    text: str
    """What failed, for people: ``cannot execute /bin/nosuch``."""
