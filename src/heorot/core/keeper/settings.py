"""What a keeper is told at its start, and how it reads the head's settings again when it is told to."""

from __future__ import annotations

from msgspec import Struct

from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.machine import Log


class KeeperConfig(Struct, frozen=True):
    """What a keeper is told at its start; what the store says of itself is in `heorot.coord.port.Store`."""

    name: str
    store: str
    """Its kind."""
    lease_s: float
    """For so long after a `Renew` began nobody else can lead; infinite: not before `Resign`."""
    renew_every_s: float
    look_every_s: float
    hang_s: float = 10.0
    """How long the head may be silent."""
    pid: int = 0


class SettingsReader:
    """Whether settings are to be read, and whether the head is to begin anew with them.

    A term costs no job anything, so there is no other way in which settings come into effect.
    """

    def __init__(self) -> None:
        self.asked = False
        """A signal has come, which nobody waits for to be answered."""
        self.begin_anew = False
        """The head that leads has former ones."""

    def read(self, leads: bool) -> s.Flow[tuple[str, ...]]:
        """Read them again; return what has changed. Raises HeorotError if they cannot be used."""
        changed: tuple[str, ...] = yield s.ReadSettings()
        if changed:
            yield Log("info", f"the settings have changed: {', '.join(changed)}")
            self.begin_anew = leads
            # What passes clients on has read the former ones.
            yield s.StopPassing()
        return changed

    def read_as_asked(self, leads: bool) -> s.Flow[None]:
        """Read them if a signal has come."""
        if not self.asked:
            return
        self.asked = False
        try:
            changed = yield from self.read(leads)
        except HeorotError as error:
            yield Log("error", f"the settings stay as they are: {error}")
            return
        if not changed:
            yield Log("info", "the settings were read again and are as before")
