"""What a process space does of a mistake of its own about one rank: it tells it and goes on, for a node hangs on it."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.states import ImpossibleStep


def handle_or_tell(space: Space, event: e.SpaceEvent, now_ms: int) -> list[e.SpaceInstruction]:
    """Let the machine take an event; one that cannot happen in the state of its rank is only a line in the log."""
    try:
        return space.handle(event, now_ms)
    except ImpossibleStep as error:
        return [e.SpaceLog("error", f"{event!r:.200}: {error}")]
