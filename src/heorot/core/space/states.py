"""The states of a rank in its process space, which holds all that there is of it.

Ranks are many, and go through their states in one direction, except that they stop and go on. So they keep no story:
the state says what was before, and a count (`heorot.core.space.stops`) how often it has stopped or gone on.
"""

from __future__ import annotations

from enum import StrEnum, auto

from heorot.core.states import StateTable


class SpaceRankState(StrEnum):
    """What has become of a rank on its node."""

    QUEUED = auto()
    """It is to be started, or waits for its program."""
    RUNNING = auto()
    STOPPED = auto()
    """Its process is stopped, as by SIGSTOP, until SIGCONT or its end."""
    EXITED = auto()
    """Its process is reaped; what that has started may go on, and bytes may be left in its pipes."""
    SWEPT = auto()
    """Nothing is left of what it has started; bytes may be left in its pipes, or somebody outside holds them open."""
    OVER = auto()
    FAILED = auto()
    """It never ran."""


class SpaceRankChange(StrEnum):
    """What happens to a rank on its node."""

    STARTED = auto()
    START_FAILED = auto()
    GIVEN_UP = auto()
    """Its program will not come, or the agent does not let it be started."""
    SIGNALLED = auto()
    """A signal ends it while its program is on its way, as it would have ended its process."""
    STOPPED = auto()
    """Its process has stopped; once more, if it went on and has stopped again before anybody looked."""
    CONTINUED = auto()
    EXITED = auto()
    SWEPT = auto()
    DRAINED = auto()
    """Both of its streams are at their end."""


QUEUED, RUNNING, STOPPED, EXITED, SWEPT, OVER, FAILED = SpaceRankState
_C = SpaceRankChange

SPACE_RANK = StateTable(
    "a rank in its process space",
    QUEUED,
    {
        (QUEUED, _C.STARTED): RUNNING,
        (QUEUED, _C.START_FAILED): FAILED,
        (QUEUED, _C.GIVEN_UP): FAILED,
        (QUEUED, _C.SIGNALLED): OVER,
        (RUNNING, _C.STOPPED): STOPPED,
        (STOPPED, _C.STOPPED): STOPPED,
        (STOPPED, _C.CONTINUED): RUNNING,
        (RUNNING, _C.EXITED): EXITED,
        (STOPPED, _C.EXITED): EXITED,
        (EXITED, _C.SWEPT): SWEPT,
        (SWEPT, _C.DRAINED): OVER,
    },
)

ON_STARTED = SPACE_RANK.on(_C.STARTED)
ON_START_FAILED = SPACE_RANK.on(_C.START_FAILED)
ON_GIVEN_UP = SPACE_RANK.on(_C.GIVEN_UP)
ON_SIGNALLED = SPACE_RANK.on(_C.SIGNALLED)
ON_STOPPED = SPACE_RANK.on(_C.STOPPED)
ON_CONTINUED = SPACE_RANK.on(_C.CONTINUED)
ON_EXITED = SPACE_RANK.on(_C.EXITED)
ON_SWEPT = SPACE_RANK.on(_C.SWEPT)
ON_DRAINED = SPACE_RANK.on(_C.DRAINED)

ALIVE = (RUNNING, STOPPED)
"""Its own process lives."""
HELD = (*ALIVE, EXITED, SWEPT)
"""It was started, and is not over: the shell holds something of it."""
