"""The states of a link from below."""

from __future__ import annotations

from enum import StrEnum, auto

from heorot.core.states import StateTable


class LinkState(StrEnum):
    """How far a neighbour below has come."""

    NEW = auto()
    """It has connected."""
    GREETED = auto()
    """It is a child, and no node has attached through it."""
    ATTACHED = auto()
    """Nodes are reached through it."""
    DETACHED = auto()
    """None are any more."""
    VISITING = auto()
    """It comes for an image, is nobody's child, and brings no node."""
    GONE = auto()


class LinkChange(StrEnum):
    """What happens to a link."""

    GREETED = auto()
    VISITED = auto()
    """It was greeted as one that comes for an image."""
    REACHED = auto()
    """A node has attached through it."""
    EMPTIED = auto()
    """The last of these nodes is out of reach, or has come another way."""
    ENDED = auto()


_S, _C = LinkState, LinkChange

LINK_BELOW = StateTable(
    "a link from below",
    _S.NEW,
    {
        (_S.NEW, _C.GREETED): _S.GREETED,
        (_S.NEW, _C.VISITED): _S.VISITING,
        (_S.NEW, _C.ENDED): _S.GONE,
        (_S.GREETED, _C.REACHED): _S.ATTACHED,
        (_S.GREETED, _C.ENDED): _S.GONE,
        (_S.ATTACHED, _C.REACHED): _S.ATTACHED,
        (_S.ATTACHED, _C.EMPTIED): _S.DETACHED,
        (_S.ATTACHED, _C.ENDED): _S.GONE,
        (_S.DETACHED, _C.REACHED): _S.ATTACHED,
        (_S.DETACHED, _C.ENDED): _S.GONE,
        (_S.VISITING, _C.ENDED): _S.GONE,
    },
)
