"""What a machine has set timers for: small types, told apart by a table; a shell takes them as they are.

Each machine has its own in `timers.py` of its room, with the table that says whose method is called when one fires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct


class Due(Struct, frozen=True, gc=False):
    """What is due when a timer fires: its type says what, its fields for whom. Equal ones are the same timer."""


class HeartbeatDue(Due, frozen=True, gc=False):
    """It is time to look who was silent, and to be heard."""


class AwakeDue(Due, frozen=True, gc=False):
    """It is time to see whether this process has slept."""


WhenDue: TypeAlias = Callable[..., None]
"""Takes the machine and what is due."""


class DueTable:
    """What a machine does when its timers fire.

    Parameters
    ----------
    machine
        Whose they are, for people.
    handlers
        What is done, by the type of what is due.
    """

    def __init__(self, machine: str, handlers: Mapping[type[Due], WhenDue]) -> None:
        self._machine = machine
        self._handlers = dict(handlers)

    def find(self, due: Due) -> WhenDue:
        """Return what is to be done. One that is not in the table is a mistake of ours: AssertionError."""
        handler = self._handlers.get(type(due))
        if handler is None:
            raise AssertionError(f"{self._machine} has no timer for {due!r}")
        return handler

    def kinds(self) -> list[type[Due]]:
        """Return all that may be due."""
        return list(self._handlers)
