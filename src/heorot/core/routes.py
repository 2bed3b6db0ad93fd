"""Who may say what to a machine, as data: a table of sides, messages and what is done then.

Each part of a machine that is spoken to has one such table, in `routes.py` of its room. What is not in it is a breach
of the protocol: whoever said it loses the connection, and is told why. docs/protocol.md shows all of them
(``python -m scripts.tables``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from heorot.core.errors import ProtocolError

Handler: TypeAlias = Callable[..., None]
"""Takes the part of the machine that listens, what it knows of the speaker, and the message."""


class Side(StrEnum):
    """Who speaks to a machine."""

    NEWCOMER = "whoever has not been greeted"
    HEAD = "a head"
    PARENT = "a parent"
    CHILD = "a child"
    PEER = "a peer"
    """From whom an image is had."""
    VISITOR = "a visitor"
    """A peer that comes for an image."""
    RIVAL = "another head"
    CLIENT = "a client"
    NODE = "a node, inside of Up,"
    ORDER = "the head, inside of Down,"
    AGENT = "the agent"
    SPACE = "the process space"


class Said(dict[type, Handler]):
    """What one side may say, and what is done then. To look up anything else is a `ProtocolError`.

    Kept where this side is known, it is one lookup for each message.
    """

    __slots__ = ("_listener", "_side")

    def __init__(self, side: Side, listener: str) -> None:
        super().__init__()
        self._side = side
        self._listener = listener

    def __missing__(self, kind: type) -> Handler:
        raise ProtocolError(f"{self._side} may not say {kind.__name__} to {self._listener}")


class Routes:
    """What each side may say to one part of a machine.

    Parameters
    ----------
    listener
        Whose table it is, for people: ``a node``.
    handlers
        What is done with a message of exactly this type from this side.
    """

    def __init__(self, listener: str, handlers: Mapping[tuple[Side, type], Handler]) -> None:
        self.listener = listener
        self._said_by: dict[Side, Said] = {}
        for (side, kind), handler in handlers.items():
            self._said_by.setdefault(side, Said(side, listener))[kind] = handler

    def said_by(self, side: Side) -> Said:
        """Return what is done with each message of this side."""
        return self._said_by.get(side) or Said(side, self.listener)

    def find(self, side: Side, message: Any) -> Handler:
        """Return what is to be done with a message.

        Raises
        ------
        ProtocolError
            If this side may not say that.
        """
        return self.said_by(side)[type(message)]

    def sides(self) -> list[Side]:
        """Return those who may say anything."""
        return list(self._said_by)

    def heard_from(self, side: Side) -> list[type]:
        """Return what this side may say, in the order of the table."""
        return list(self.said_by(side))

    def by_tag(self, side: Side) -> dict[int, Handler]:
        """Return the handlers for messages of this side that are told apart without decoding them."""
        found = {}
        for kind, handler in self.said_by(side).items():
            tag = kind.__struct_config__.tag  # type: ignore[attr-defined]
            assert isinstance(tag, int), kind
            found[tag] = handler
        return found


def from_each(sides: Iterable[Side], handlers: Mapping[type, Handler]) -> dict[tuple[Side, type], Handler]:
    """Return rows of a table for several sides that may say the same."""
    return {(side, kind): handler for side in sides for kind, handler in handlers.items()}
