"""What a session says to the next head of that which no head has answered. Loaded when a connection was lost."""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.client.job import JobRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from heorot.core.client.conversation import Request


def unacknowledged_launches(requests: Iterable[Request], head_ms: int, now_ms: int) -> list[list[Any]]:
    """Return the launches that no head has acknowledged, for one whose clock says `head_ms` at our `now_ms`."""
    again = []
    for request in requests:
        if not isinstance(request, JobRequest) or request.message[0] != "spawn":
            continue
        fields = request.message
        if fields[messages.SPAWN_AGAIN] and not fields[messages.SPAWN_RECEIPT]:
            # What is rounded off makes it too old rather than too young.
            fields[messages.SPAWN_ASKED_AT] = head_ms - (now_ms - request.asked_ms) - 1
            again.append(fields)
    return again
