"""What whoever runs a keeper must do: a method for each step, which returns the answer to it.

What a method raises, which can only be a HeorotError, is raised in the keeper. A step whose answer takes a while and
lets others go on, as in the simulator, returns `LATER`.
"""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import Final, Literal, TypeAlias

from heorot.core.dispatch import Dispatch
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership, Term
from heorot.core.machine import Log


class Answered(Enum):
    """When a step is answered, if not at once."""

    LATER = "later"


LATER: Final = Answered.LATER
Later: TypeAlias = Literal[Answered.LATER]


class KeeperShell(Dispatch[s.Step], instructions=s.Step):
    """Runs a keeper."""

    @abstractmethod
    def look_at_store(self, step: s.LookAtStore) -> Leadership | Later:
        """Announce this candidate, and return what the store says."""

    @abstractmethod
    def campaign(self, step: s.Campaign) -> Term | Later | None:
        """Return the term of office, None if another head leads."""

    @abstractmethod
    def hand_over(self, step: s.HandOver) -> None:
        """The store knows of the head's process."""

    @abstractmethod
    def renew(self, step: s.Renew) -> Leadership | Later:
        """Return what the store says; LeaseLost ends the term."""

    @abstractmethod
    def resign(self, step: s.Resign) -> Later | None:
        """Another head may lead."""

    @abstractmethod
    def prefer(self, step: s.Prefer) -> Later | None:
        """All other candidates hold back."""

    @abstractmethod
    def keep_epoch(self, step: s.KeepEpoch) -> None:
        """It is on the disk when this returns."""

    @abstractmethod
    def start_head(self, step: s.StartHead) -> int:
        """Return the pid of the head's process."""

    @abstractmethod
    def end_head(self, step: s.EndHead) -> str:
        """The process is gone; return how it has ended."""

    @abstractmethod
    def last_words(self, step: s.LastWords) -> str:
        """Return why it has ended, if it has said so."""

    @abstractmethod
    def read_settings(self, step: s.ReadSettings) -> tuple[str, ...]:
        """Return what of the settings has changed."""

    @abstractmethod
    def pass_clients_on(self, step: s.PassClientsOn) -> None:
        """Clients of this host get to the active head."""

    @abstractmethod
    def stop_passing(self, step: s.StopPassing) -> None:
        """Nobody else serves clients of this host."""

    @abstractmethod
    def tell_head(self, step: s.TellHead) -> None:
        """The head knows it soon; a newer word takes the place of an older one."""

    @abstractmethod
    def publish(self, step: s.Publish) -> None:
        """Whoever looks sees it."""

    @abstractmethod
    def control_answer(self, step: s.ControlAnswer) -> None:
        """Whoever has asked gets it."""

    @abstractmethod
    def wait_for_news(self, step: s.WaitForNews) -> s.Woken | Later:
        """Return what has happened, after the time at the latest."""

    @abstractmethod
    def log(self, step: Log) -> None:
        """Write it down."""
