"""The states of a node, of a watch and of a rank, as the head sees them."""

from __future__ import annotations

from enum import IntEnum, StrEnum, auto

from heorot.core.states import StateTable


class NodeState(StrEnum):
    """What the head knows of a node's processes, and whether it is reached.

    Users are told three words of it, and what is wanted of it: `heorot.core.head.membership.KnownNode.told`.
    """

    DOWN = auto()
    """It is not reached, and its processes are gone, or were never known."""
    ENDED = auto()
    """Its processes are gone, or it was removed from the cluster; there is a way to it still."""
    BOOT = auto()
    """It has attached, and has not said yet what it holds."""
    UP = auto()
    DETACHED = auto()
    """It was up and is not reached. Back within the grace, under the same incarnation, it has not been away."""


class NodeChange(StrEnum):
    """What the head learns of a node."""

    ATTACHED = auto()
    RESTARTED = auto()
    """It is about to attach, under another incarnation: all that ran on it is gone."""
    LISTED = auto()
    """Its inventory has come."""
    WAY_LOST = auto()
    GRACE_OVER = auto()
    SPACE_GONE = auto()
    """Its agent says that its process space has ended."""
    REMOVED = auto()
    """It was taken out of the cluster, or its number was given to another host."""


_S, _C = NodeState, NodeChange

NODE = StateTable(
    "a node, as the head sees it",
    _S.DOWN,
    {
        (_S.DOWN, _C.ATTACHED): _S.BOOT,
        (_S.DOWN, _C.RESTARTED): _S.DOWN,
        (_S.DOWN, _C.REMOVED): _S.DOWN,
        (_S.BOOT, _C.LISTED): _S.UP,
        (_S.BOOT, _C.ATTACHED): _S.BOOT,
        (_S.BOOT, _C.WAY_LOST): _S.DOWN,
        (_S.BOOT, _C.RESTARTED): _S.ENDED,
        (_S.BOOT, _C.SPACE_GONE): _S.ENDED,
        (_S.BOOT, _C.REMOVED): _S.ENDED,
        (_S.UP, _C.ATTACHED): _S.UP,
        (_S.UP, _C.LISTED): _S.UP,
        (_S.UP, _C.WAY_LOST): _S.DETACHED,
        (_S.UP, _C.RESTARTED): _S.ENDED,
        (_S.UP, _C.SPACE_GONE): _S.ENDED,
        (_S.UP, _C.REMOVED): _S.ENDED,
        (_S.DETACHED, _C.ATTACHED): _S.UP,
        (_S.DETACHED, _C.GRACE_OVER): _S.DOWN,
        (_S.DETACHED, _C.RESTARTED): _S.DOWN,
        (_S.DETACHED, _C.REMOVED): _S.DOWN,
        (_S.ENDED, _C.ATTACHED): _S.BOOT,
        (_S.ENDED, _C.WAY_LOST): _S.DOWN,
        # What follows contradicts what it has said, and is believed all the same: it may say so at any time.
        (_S.ENDED, _C.LISTED): _S.UP,
        (_S.ENDED, _C.RESTARTED): _S.ENDED,
        (_S.ENDED, _C.SPACE_GONE): _S.ENDED,
        (_S.ENDED, _C.REMOVED): _S.ENDED,
    },
)


class WatchState(StrEnum):
    """How far a client that watches has come."""

    ASKED = auto()
    """It was told nothing yet: what there is, is still being asked for."""
    TOLD = auto()
    """An update is on its way to it, or is being looked at: until it is seen, nothing follows."""
    READY = auto()
    """It has seen the last update. It is told what is new when its interval is over."""


class WatchChange(StrEnum):
    """What becomes of a watch, but for its end, which may come in any state."""

    TELL = auto()
    SEEN = auto()


WATCH = StateTable(
    "a watch, as the head sees it",
    WatchState.ASKED,
    {
        (WatchState.ASKED, WatchChange.TELL): WatchState.TOLD,
        (WatchState.TOLD, WatchChange.SEEN): WatchState.READY,
        (WatchState.READY, WatchChange.TELL): WatchState.TOLD,
    },
)


class RankState(IntEnum):
    """What the head knows of a rank. A byte for each: a job may have many."""

    PENDING = 0
    """Nothing was heard of it yet."""
    RUNNING = 1
    OVER = 2
    """It has ended, never ran, or is lost with its node: how it was is beside it."""
    STOPPED = 3
    """It runs, and is stopped, as by SIGSTOP."""


class RankChange(IntEnum):
    """What the head hears of a rank."""

    STARTED = auto()
    STOPPED = auto()
    """Under a count that is higher than any before; so is the next."""
    CONTINUED = auto()
    ENDED = auto()


PENDING, RUNNING, OVER, STOPPED = RankState

RANK = StateTable(
    "a rank, as the head sees it",
    PENDING,
    {
        (PENDING, RankChange.STARTED): RUNNING,
        (PENDING, RankChange.ENDED): OVER,
        (RUNNING, RankChange.STOPPED): STOPPED,
        (RUNNING, RankChange.ENDED): OVER,
        (STOPPED, RankChange.CONTINUED): RUNNING,
        (STOPPED, RankChange.ENDED): OVER,
        # Of one of which nobody has heard that it was started: it is said again together with that.
        (PENDING, RankChange.STOPPED): PENDING,
        (PENDING, RankChange.CONTINUED): PENDING,
        # What arrives twice, or late, changes nothing.
        (RUNNING, RankChange.STARTED): RUNNING,
        (RUNNING, RankChange.CONTINUED): RUNNING,
        (STOPPED, RankChange.STARTED): STOPPED,
        (STOPPED, RankChange.STOPPED): STOPPED,
        (OVER, RankChange.STARTED): OVER,
        (OVER, RankChange.STOPPED): OVER,
        (OVER, RankChange.CONTINUED): OVER,
        (OVER, RankChange.ENDED): OVER,
    },
)
"""Of which `heorot.core.head.job` takes hundreds at once, without asking here for each; a test compares both."""
