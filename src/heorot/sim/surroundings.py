"""What everything in a run stands in: its time, its chance, its network, and what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from heorot.sim.clocks import Clock
    from heorot.sim.network import Network
    from heorot.sim.settings import Settings
    from heorot.sim.truth import Truth
    from heorot.sim.world import World

Machine = TypeVar("Machine")


class Weather(Protocol):
    """The faults, for those who cause some themselves."""

    healed: bool
    """The storm is over."""


class Surroundings(Protocol):
    """Of one run."""

    settings: Settings
    world: World
    truth: Truth
    network: Network
    calm: bool
    """Every link has been found to be dead or alive since the last fault."""
    seeds: tuple[str, ...]
    """The heads that the nodes' configurations name."""

    @property
    def faults(self) -> Weather:
        """What breaks things."""

    def mutate(self, machine: Machine) -> Machine:
        """Return a machine as this run wants it."""

    def draw_clock(self) -> Clock:
        """Return the clock of a host that boots."""
