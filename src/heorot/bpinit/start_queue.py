"""Which ranks are started next: users by turns, so that nobody's long queue keeps the others waiting."""

from __future__ import annotations

from collections import OrderedDict, deque

from heorot.bpinit.plan import Plan

Ranks = deque[tuple[int, int]]
"""Slot and rank of those of one job that are not started yet, in order."""
Jobs = OrderedDict[str, tuple[Plan, Ranks]]
"""Of one user, in the order in which they came."""


class StartQueue:
    """The ranks that wait to be started; it holds what the head has let come here, and nothing else.

    A user's jobs are started in the order in which they came, and so are the ranks of a job. Between users it goes by
    turns. Of those that are `favoured` one has every second turn: they wait for one turn of the others at most, and
    keep nobody out either.

    Parameters
    ----------
    favoured:
        User ids.
    """

    def __init__(self, favoured: frozenset[int]) -> None:
        self._is_favoured = favoured.__contains__
        self._favoured: OrderedDict[int, Jobs] = OrderedDict()
        self._others: OrderedDict[int, Jobs] = OrderedDict()
        self._others_next = False

    def __bool__(self) -> bool:
        return bool(self._favoured or self._others)

    def add(self, plan: Plan, slots: list[tuple[int, int]]) -> None:
        """Let these ranks (slot, rank) of a job wait; no other one of that job does."""
        if slots:
            jobs = self._of(plan.ticket.uid).setdefault(plan.ticket.uid, OrderedDict())
            jobs[plan.job] = plan, deque(slots)

    def cancel(self, plan: Plan) -> None:
        """Start none of this job's any more."""
        users, uid = self._of(plan.ticket.uid), plan.ticket.uid
        jobs = users.get(uid)
        if jobs is not None and jobs.pop(plan.job, None) is not None and not jobs:
            del users[uid]

    def take(self, most: int) -> tuple[Plan, list[tuple[int, int]], bool]:
        """Return whose turn it is, the next of their ranks (slot, rank; one job's, `most` at most), and whether they
        were that job's last. There must be some."""
        turns = self._others if self._others and (self._others_next or not self._favoured) else self._favoured
        self._others_next = turns is self._favoured
        uid, jobs = next(iter(turns.items()))
        plan, ranks = next(iter(jobs.values()))
        batch = [ranks.popleft() for _ in range(min(most, len(ranks)))]
        if not ranks:
            del jobs[plan.job]
        if jobs:
            turns.move_to_end(uid)
        else:
            del turns[uid]
        return plan, batch, not ranks

    def _of(self, uid: int) -> OrderedDict[int, Jobs]:
        return self._favoured if self._is_favoured(uid) else self._others
