"""What a coordination store says of an election, and how it fails."""

from __future__ import annotations

from msgspec import Struct

from heorot.core.errors import HeorotError

HOLD_BACK_S = 2.0
"""How long the other candidates let a preferred one go first."""


class StoreUnavailable(HeorotError):
    """The store cannot be reached, or has no majority: nothing is known, and trying again may help."""


class StoreRefused(HeorotError):
    """The store answers, but not what can be used: damaged data, another cluster's data, no permission."""


class StoreForeign(StoreRefused):
    """What is in the store belongs to another cluster."""


class LeaseLost(HeorotError):
    """This head does not lead any more: its process must end at once."""


class Leadership(Struct, frozen=True):
    """What a store says at one moment."""

    leader: str
    """The name of the head that leads, empty if none does."""
    epoch: int
    """The highest epoch that was given out."""
    candidates: tuple[str, ...]
    """All heads that are alive, the leader among them, in order of their names."""
    preferred: str
    """Who is to lead next; the others hold back. Empty: anybody."""
    warning: str = ""
    """What went wrong beside the election, for the log."""
    shared: bool = True
    """What this host had of the records that all heads share, when this was asked, is in the store."""


class Term(Struct, frozen=True):
    """One head's term of office."""

    epoch: int
    lock: int = -1
    """A descriptor that the head's process must hold, and nobody else; -1: none."""
    warning: str = ""
    """What is odd about the store, for the log."""
