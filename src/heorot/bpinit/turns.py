"""Whose wish comes next: users have turns, so that nobody's cheap commands keep a node from the others.

A command of a few bytes may cost a signal for each of a thousand ranks, or a look at all processes. What users want
waits here for its turn, each user's apart from the others', and between two turns the daemon looks at everything else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from itertools import count

USER_NS = 5_000_000
"""A user whose wishes have taken so long waits for the next turn."""
TURN_NS = 20_000_000
"""And so do all, but those who are favoured, when the turn has. A wish that was begun is carried out to its end."""
MAX_WAITING = 4_096
"""Signals, and as many questions, that wait. One more, and the oldest of who has most of them is forgotten: its asker
hears that this node did not answer."""
QUESTION_BYTES = 4 * 1024 * 1024
"""So much may be answered to questions at once: the largest answer."""
QUESTION_BYTES_PER_S = 2 * 1024 * 1024
"""And so much a second after that: answers go up the tree, and one head reads those of all nodes."""
_BURST_NS = QUESTION_BYTES * 10**9 // QUESTION_BYTES_PER_S

Act = Callable[[], None]


class Wishes:
    """Of one user."""

    __slots__ = ("acts", "questions", "signals")

    def __init__(self) -> None:
        self.acts: dict[Hashable, Act] = {}
        """In the order in which they came; what replaces another one has its place."""
        self.signals = 0
        """How many of the acts are."""
        self.questions: deque[Act] = deque()

    def __bool__(self) -> bool:
        return bool(self.acts or self.questions)


class UserTurns:
    """What users want and has not had its turn yet.

    Parameters
    ----------
    favoured:
        User ids. They come first in each turn, and what they take is no other's; their questions are answered
        whatever others were answered before.
    """

    def __init__(self, favoured: frozenset[int], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._favoured = favoured
        self._clock_ns = clock_ns
        self.users: dict[int, Wishes] = {}
        """Who has a turn next comes first; who had the last one and wants nothing more is gone."""
        self._numbers = count()
        self._paid_ns = clock_ns() - _BURST_NS
        """Until then questions wait, because of what was answered before."""

    def put(self, uid: int, act: Act, key: Hashable) -> None:
        """Call `act` when it is this user's turn, and nothing that was put before with the same key and is not done."""
        self.users.setdefault(uid, Wishes()).acts[key] = act

    def signal(self, uid: int, act: Act) -> None:
        """As `put`, for a signal to processes, of which each is sent."""
        wishes = self.users.setdefault(uid, Wishes())
        wishes.acts[next(self._numbers)] = act
        wishes.signals += 1
        if sum(each.signals for each in self.users.values()) > MAX_WAITING:
            most = max(self.users.values(), key=lambda each: each.signals)
            _take(most, next(key for key in most.acts if isinstance(key, int)))

    def question(self, uid: int, act: Act) -> None:
        """As `put`, for a question whose answer may be long: after what the user wants to have done."""
        self.users.setdefault(uid, Wishes()).questions.append(act)
        if sum(len(each.questions) for each in self.users.values()) > MAX_WAITING:
            max(self.users.values(), key=lambda each: len(each.questions)).questions.popleft()

    def answered(self, size_bytes: int) -> None:
        """A question was answered with so much."""
        now_ns = self._clock_ns()
        self._paid_ns = max(self._paid_ns, now_ns - _BURST_NS) + size_bytes * 10**9 // QUESTION_BYTES_PER_S

    def forget_questions(self) -> None:
        """Nobody is there to hear answers."""
        for wishes in self.users.values():
            wishes.questions.clear()

    def wait_s(self, *, takes_answers: bool) -> float | None:
        """Return how long to wait for the next turn; None: there is nothing to do.

        `takes_answers` as in `serve`.
        """
        if any(wishes.acts or (wishes and uid in self._favoured) for uid, wishes in self.users.items()):
            return 0
        if takes_answers and any(self.users.values()):
            return max(0, self._paid_ns - self._clock_ns()) / 1e9
        return None

    def serve(self, takes_answers: Callable[[], bool]) -> None:
        """Let each user have a turn; only those who are favoured are answered while nobody `takes_answers`."""
        for uid in [uid for uid in self.users if uid in self._favoured]:
            self._serve(uid, self._clock_ns() + USER_NS, lambda: True)
        end_ns = self._clock_ns() + TURN_NS

        def may_answer() -> bool:
            return self._paid_ns <= self._clock_ns() and takes_answers()

        for uid in [uid for uid in self.users if uid not in self._favoured]:
            now_ns = self._clock_ns()
            if now_ns >= end_ns:
                break
            self._serve(uid, min(now_ns + USER_NS, end_ns), may_answer)

    def _serve(self, uid: int, until_ns: int, may_answer: Callable[[], bool]) -> None:
        # Those that have had their turn go to the end: the next one begins with the others.
        wishes = self.users[uid] = self.users.pop(uid)
        while wishes:
            if wishes.acts:
                act = _take(wishes, next(iter(wishes.acts)))
            elif may_answer():
                act = wishes.questions.popleft()
            else:
                return
            act()
            if self._clock_ns() >= until_ns:
                break
        if not wishes:
            del self.users[uid]


def _take(wishes: Wishes, key: Hashable) -> Act:
    wishes.signals -= isinstance(key, int)
    return wishes.acts.pop(key)
