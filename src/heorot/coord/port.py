"""What a coordination store does for a head: says who leads and in which epoch, and who else is ready to.

A store is used by one lease keeper (`heorot.daemons.keeper`), which is synchronous: every call is bounded in time, and
none is on the path of a launch.
"""

from __future__ import annotations

from typing import Protocol

from heorot.core.keeper.election import Leadership, Term


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

    def look(self) -> Leadership:
        """Announce this candidate if need be, and return what the store says."""

    def hints(self) -> list[int]:
        """Return descriptors that become readable when something may have changed since `look`."""

    def campaign(self, floor: int) -> Term | None:
        """Try to become the leader, in an epoch above every one before and above `floor`. None: another one leads."""

    def handed_over(self, pid: int) -> None:
        """The head's process runs, and holds the term's lock."""

    def renew(self) -> Leadership:
        """Keep leading. Raises LeaseLost if this candidate does not lead any more."""

    def resign(self) -> None:
        """Stop leading. The head's process must be dead."""

    def prefer(self, name: str) -> None:
        """Have all candidates but this one hold back for `HOLD_BACK_S`."""

    def close(self) -> None:
        """Withdraw this candidate; never raises."""
