"""What a session says to the next head of that which no head has answered. Loaded when a connection was lost."""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.errors import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from heorot.core.client.job import JobState, Request


def lost(requests: dict[int, Request], jobs: Iterable[JobState]) -> list[Request]:
    """The head is gone: take away which requests must not be repeated, and return those that fail by that: nobody knows
    whether they were obeyed.
    """
    failed = []
    for number, request in list(requests.items()):
        request.rows = []
        if request.job is not None and request.job.id:
            del requests[number]  # asked to go on with a job; that is asked anew
        elif not request.repeatable:
            del requests[number]
            request.finished = True
            request.error = ConnectionLost(
                "the head was lost before it answered: whether the signal arrived is unknown"
            )
            failed.append(request)
    for job in jobs:
        job.resuming = not job.detached
    return failed


def unacknowledged_launches(requests: Iterable[Request], head_ms: int, now_ms: int) -> list[list[Any]]:
    """Return the launches that no head has acknowledged, for one whose clock says `head_ms` at our `now_ms`."""
    again = []
    for request in requests:
        fields = request.message
        if fields[0] == "spawn" and fields[messages.SPAWN_AGAIN] and not fields[messages.SPAWN_RECEIPT]:
            # What is rounded off makes it too old rather than too young.
            fields[messages.SPAWN_ASKED_AT] = head_ms - (now_ms - request.asked_ms) - 1
            again.append(fields)
    return again
