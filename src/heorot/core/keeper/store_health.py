"""What a keeper makes of how the store answers: whether it can be reached, and what is wrong with it, said once."""

from __future__ import annotations

from typing import Any

from heorot.core.keeper.steps import Flow
from heorot.core.machine import Log


class StoreHealth:
    """How the store has answered so far. `kind` is its name in the log."""

    def __init__(self, kind: str) -> None:
        self.reachable = True
        self.since_s = 0.0
        """Since when that is so."""
        self.problem = ""
        self.complained = ""
        """What was complained of last, until all was well again: it is logged once, however often it is tried."""
        self._kind = kind
        self._warned = ""

    def row(self, now_s: float) -> dict[str, Any]:
        """Return it for those who ask the keeper."""
        since_s = round(now_s - self.since_s, 1)
        return {"kind": self._kind, "reachable": self.reachable, "since_s": since_s, "problem": self.problem}

    def answers(self, now_s: float) -> Flow[None]:
        """It has answered."""
        if not self.reachable:
            yield Log("info", f"the {self._kind} store answers again")
            self.since_s = now_s
        self.reachable = True
        self.problem = ""

    def is_unreachable(self, problem: str, now_s: float, leads: bool) -> Flow[None]:
        """It has not answered a keeper whose head `leads`, or does not."""
        if self.reachable:
            going_on = "; the active head goes on, but nobody can be elected" if leads else ""
            yield Log("warning", f"{problem}{going_on}")
            self.since_s = now_s
        self.reachable = False
        self.problem = problem

    def warn(self, warning: str) -> Flow[None]:
        """Something is odd, or nothing is."""
        if warning and warning != self._warned:
            yield Log("warning", warning)
        self._warned = warning

    def complain(self, problem: str) -> Flow[None]:
        """It has answered what cannot be used, or this keeper may not stand for election."""
        if problem != self.complained:
            yield Log("error", problem)
        self.complained = self.problem = problem
