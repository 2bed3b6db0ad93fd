"""The states of a rank as PMI knows it, apart from those of its process."""

from __future__ import annotations

from enum import StrEnum, auto

from heorot.core.states import StateTable


class PmiState(StrEnum):
    """How far a rank has come with its MPI library."""

    SILENT = auto()
    """It has not said ``init``; most programs never do."""
    INSIDE = auto()
    WAITING = auto()
    """In a barrier."""
    LEFT = auto()
    """It has said ``finalize``; it may begin anew."""
    CUT = auto()
    """It was inside, and its connection is closed, because it said what is not PMI."""
    MUTE = auto()
    """The same of one that was not inside."""


class PmiChange(StrEnum):
    """What happens to a rank."""

    INIT = auto()
    ENTERED = auto()
    OPENED = auto()
    """All ranks of the job have entered the barrier."""
    FINALIZED = auto()
    NONSENSE = auto()


SILENT, INSIDE, WAITING, LEFT, CUT, MUTE = PmiState
_C = PmiChange

PMI_RANK = StateTable(
    "a rank in PMI",
    SILENT,
    {
        (SILENT, _C.INIT): INSIDE,
        (INSIDE, _C.INIT): INSIDE,
        (LEFT, _C.INIT): INSIDE,
        (INSIDE, _C.ENTERED): WAITING,
        (WAITING, _C.OPENED): INSIDE,
        (INSIDE, _C.FINALIZED): LEFT,
        (SILENT, _C.NONSENSE): MUTE,
        (LEFT, _C.NONSENSE): MUTE,
        (INSIDE, _C.NONSENSE): CUT,
        (WAITING, _C.NONSENSE): CUT,
    },
)

OWES_FINALIZE = (INSIDE, WAITING, CUT)
"""A rank whose process ends so has left its job in the lurch."""
ENTERS_NO_MORE = (CUT, MUTE)
"""No barrier is entered by it any more, though its process may run."""
