"""The states of an agent's way up."""

from __future__ import annotations

from enum import StrEnum, auto

from heorot.core.states import StateTable


class UplinkState(StrEnum):
    """Where an agent stands on its way up."""

    WAITING = auto()
    """For the process space, which has not said yet what it holds."""
    SEARCHING = auto()
    """Candidates are tried, one a little after the other."""
    RESTING = auto()
    """All were tried, or it would come to the same at once: there is a pause before the next round. A connection that
    is on its way still counts."""
    GREETING = auto()
    """There is a link, and its other end has not greeted yet."""
    ATTACHED = auto()


class UplinkChange(StrEnum):
    """What happens to a way up."""

    SEARCH = auto()
    """Begin with the nearest ancestor: there is an inventory now, or the pause is over."""
    ALL_TRIED = auto()
    OPENED = auto()
    """A connection to a candidate stands, and is the one that is used."""
    GREETED = auto()
    LOST = auto()
    LOST_SOON = auto()
    """Lost right after it was greeted: the parent may take us and drop us again."""
    REFUSED = auto()
    """By the other end, or by us because of what it is: the next candidate is tried."""
    REMOVED = auto()
    """A head says that this node is none of the cluster's any more."""
    USELESS = auto()
    """We cannot go on with this parent."""
    LEFT = auto()
    """For a better one: the head has placed this node elsewhere, or the heads are known by now."""


_S, _C = UplinkState, UplinkChange

UPLINK = StateTable(
    "the way up of an agent",
    _S.WAITING,
    {
        (_S.WAITING, _C.SEARCH): _S.SEARCHING,
        (_S.SEARCHING, _C.SEARCH): _S.SEARCHING,
        (_S.SEARCHING, _C.ALL_TRIED): _S.RESTING,
        (_S.SEARCHING, _C.OPENED): _S.GREETING,
        (_S.RESTING, _C.SEARCH): _S.SEARCHING,
        (_S.RESTING, _C.OPENED): _S.GREETING,
        (_S.GREETING, _C.GREETED): _S.ATTACHED,
        (_S.GREETING, _C.LOST): _S.SEARCHING,
        (_S.GREETING, _C.REFUSED): _S.SEARCHING,
        (_S.GREETING, _C.REMOVED): _S.RESTING,
        (_S.GREETING, _C.USELESS): _S.SEARCHING,
        (_S.ATTACHED, _C.LOST): _S.SEARCHING,
        (_S.ATTACHED, _C.LOST_SOON): _S.RESTING,
        (_S.ATTACHED, _C.REFUSED): _S.SEARCHING,
        (_S.ATTACHED, _C.REMOVED): _S.RESTING,
        (_S.ATTACHED, _C.USELESS): _S.RESTING,
        (_S.ATTACHED, _C.LEFT): _S.SEARCHING,
    },
)
