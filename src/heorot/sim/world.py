"""Virtual time: the heap of what happens next, the source of chance, and the story of what has happened.

Everything of one run derives from its seed: one generator is drawn from in the order of the events, events of the same
microsecond keep the order in which they were planned, and nothing unordered is iterated.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NoReturn, TypeAlias
from zlib import crc32

Call: TypeAlias = Callable[..., None]

STORY_LINES = 400
"""How much of the story a violation carries with it."""


class Violation(AssertionError):
    """An invariant was broken: which, in what seed, how, and the story so far."""

    def __init__(self, invariant: str, seed: int, at_us: int, text: str, story: list[str]) -> None:
        super().__init__(f"{invariant} is violated with seed {seed} at {at_us / 1e6:.6f} s: {text}")
        self.invariant = invariant
        self.seed = seed
        self.text = text
        self.story = story


class World:
    """Clock, chance and story of one run.

    Parameters
    ----------
    seed:
        Determines everything.
    tell_to:
        Gets every line of the story as it happens; None: only the last lines are kept.
    """

    def __init__(self, seed: int, tell_to: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now_us = 0
        self.steps = 0
        self.random = Random(seed)
        self._heap: list[tuple[int, int, Call, tuple[Any, ...]]] = []
        self._planned = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._story: deque[tuple[int, str, str, tuple[Any, ...]]] = deque(maxlen=STORY_LINES)
        self._tell_to = tell_to

    @property
    def now_ms(self) -> int:
        """The machines' clock."""
        return self.now_us // 1000

    # ------------------------------------------------------------------ time

    def at(self, at_us: int, call: Call, *args: Any) -> None:
        """Call this then."""
        self._planned += 1
        heapq.heappush(self._heap, (max(at_us, self.now_us), self._planned, call, args))

    def after(self, delay_us: int, call: Call, *args: Any) -> None:
        """Call this after a while."""
        self.at(self.now_us + delay_us, call, *args)

    def step(self) -> bool:
        """Let the next thing happen; return False if there is none."""
        if not self._heap:
            return False
        self.now_us, _, call, args = heapq.heappop(self._heap)
        self.steps += 1
        call(*args)
        return True

    def run_until(self, until_us: int, after_step: Callable[[], None]) -> None:
        """Let everything happen up to this time."""
        while self._heap and self._heap[0][0] <= until_us:
            self.step()
            after_step()
        self.now_us = max(self.now_us, until_us)

    # ------------------------------------------------------------------ chance

    def between(self, low: int, high: int) -> int:
        """Return a whole number, low <= n <= high."""
        return low + int(self.random.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True as often as this."""
        return self.random.random() < probability

    # ------------------------------------------------------------------ story

    def tell(self, who: str, text: str, *args: Any) -> None:
        """Add a line to the story; `text` is a %-format and belongs to the trace with its arguments."""
        self._digest.update(f"{self.now_us} {who} {text} {args}".encode())
        self._keep(who, text, args)

    def tell_message(self, who: str, text: str, message: object, payload: bytes) -> None:
        """Add a message to the story; what belongs to the trace are its bytes."""
        self._digest.update(b"%d %s %d" % (self.now_us, who.encode(), crc32(payload)))
        self._keep(who, text, (message,))

    def _keep(self, who: str, text: str, args: tuple[Any, ...]) -> None:
        if self._tell_to is not None:
            self._tell_to(_line(self.now_us, who, text, args))
        self._story.append((self.now_us, who, text, args))

    @property
    def digest(self) -> str:
        """A digest of the whole trace so far."""
        return self._digest.hexdigest()

    def story(self) -> list[str]:
        """Return the last lines of the story."""
        return [_line(*entry) for entry in self._story]

    def violated(self, invariant: str, text: str, cause: Exception | None = None) -> NoReturn:
        """Raise the violation of an invariant.

        Raises
        ------
        Violation
            Always.
        """
        raise Violation(invariant, self.seed, self.now_us, text, self.story()) from cause


def _line(at_us: int, who: str, text: str, args: tuple[Any, ...]) -> str:
    from heorot.sim.story import describe_message

    shown = tuple(arg if isinstance(arg, (int, float, str)) else describe_message(arg) for arg in args)
    return f"{at_us / 1e6:11.6f} {who:<9} {text % shown if shown else text}"
