"""What a coordination store does for a head: says who leads and in which epoch, and who else is ready to.

A store is used by one lease keeper (`heorot.daemons.keeper`), which is synchronous: every call is bounded in time, and
none is on the path of a launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class View:
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


@dataclass(frozen=True, slots=True)
class Term:
    """One head's term of office."""

    epoch: int
    lock: int = -1
    """A descriptor that the head's process must hold, and nobody else; -1: none."""
    warning: str = ""
    """What is odd about the store, for the log."""


class Shared(Protocol):
    """Records that every head has on its own disk and may change; the store carries them from each to the others."""

    def merge(self, theirs: bytes) -> bytes:
        """Take over what is newer in `theirs` (empty: nothing is stored yet); return what all should have, `theirs`
        itself if that is it. Raises HeorotError or OSError.
        """


class Store(Protocol):
    """The coordination port. Every method raises StoreUnavailable or StoreRefused if the store fails."""

    kind: str
    lease_s: float
    """For so long after a call of `renew` began nobody else can lead; infinite: not before `resign`."""
    renew_every_s: float
    """How often a leader must call `renew`."""
    look_every_s: float
    """How often a candidate should look, even if nothing hints that something has changed."""

    def look(self) -> View:
        """Announce this candidate if need be, and return what the store says."""

    def hints(self) -> list[int]:
        """Return descriptors that become readable when something may have changed since `look`."""

    def campaign(self, floor: int) -> Term | None:
        """Try to become the leader, in an epoch above every one before and above `floor`. None: another one leads."""

    def handed_over(self, pid: int) -> None:
        """The head's process runs, and holds the term's lock."""

    def renew(self) -> View:
        """Keep leading. Raises LeaseLost if this candidate does not lead any more."""

    def resign(self) -> None:
        """Stop leading. The head's process must be dead."""

    def prefer(self, name: str) -> None:
        """Have all candidates but this one hold back for `HOLD_BACK_S`."""

    def close(self) -> None:
        """Withdraw this candidate; never raises."""
