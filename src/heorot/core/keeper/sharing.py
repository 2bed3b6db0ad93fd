"""What a keeper does when its head has written down what the next one has to know: the store takes it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.errors import HeorotError
from heorot.core.keeper.election import Leadership
from heorot.core.keeper.steps import Flow

TRIES = 3
"""Another host may write at the same time."""


def share_records(renew: Callable[[], Flow[Leadership | None]]) -> Flow[dict[str, Any]]:
    """Bring what is on this host's disk into the store, by `renew`, which returns what the store has said, or None if
    it does not answer. Returns what the head is answered.

    Raises
    ------
    HeorotError
        If the store does not have it, or that is not certain.
    """
    problem = "the store does not answer; nothing is lost: it is tried again as long as this head leads"
    for _ in range(TRIES):
        view = yield from renew()
        if view is None:
            break
        if view.shared:
            return {"shared": True}
        problem = view.warning or "other heads write into the store at the same time; try again"
    raise HeorotError(problem)
