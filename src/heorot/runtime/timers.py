"""Timers for a machine, cheap to move: a machine moves its heartbeat timer on nearly every message."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from heorot.runtime.loop import Loop, Timer

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """Timers by key over one timer of the loop.

    Moving a timer to a later time only writes a number down; the heap entry that comes up too early is put back then.
    So the heap holds at most a few entries for each key.
    """

    def __init__(self, loop: Loop, fire: Callable[[Key], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._due_ms: dict[Key, int] = {}
        self._queued_ms: dict[Key, int] = {}
        """When the earliest heap entry of each key comes up."""
        self._heap: list[tuple[int, int, Key]] = []
        self._pushed = 0
        """How many entries there were: no two are compared by their keys."""
        self._armed: Timer | None = None
        self._armed_ms = 0

    def set(self, key: Key, at_ms: int) -> None:
        """Set or move the timer `key`."""
        self._due_ms[key] = at_ms
        queued = self._queued_ms.get(key)
        if queued is None or at_ms < queued:
            self._queued_ms[key] = at_ms
            self._push(at_ms, key)
            if self._armed is None or at_ms < self._armed_ms:
                self._arm()

    def _push(self, at_ms: int, key: Key) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at_ms, self._pushed, key))

    def _arm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        if self._heap:
            self._armed_ms = self._heap[0][0]
            self._armed = self._loop.call_at(self._armed_ms / 1000, self._wake)

    def _wake(self) -> None:
        self._armed = None
        # call_at may wake us a rounding error early: what was due at this entry's time is due now.
        now_ms = max(int(self._loop.time() * 1000), self._armed_ms)
        due: list[Key] = []
        while self._heap and self._heap[0][0] <= now_ms:
            queued_ms, _, key = heapq.heappop(self._heap)
            if self._queued_ms.get(key) != queued_ms:
                continue
            del self._queued_ms[key]
            due_ms = self._due_ms[key]
            if due_ms <= now_ms:
                due.append(key)
            else:
                self._queued_ms[key] = due_ms
                self._push(due_ms, key)
        for key in due:
            # An earlier one may have moved a later one.
            due_at = self._due_ms[key]
            if due_at > now_ms:
                self.set(key, due_at)
                continue
            del self._due_ms[key]
            self._fire(key)
        if self._armed is None:
            self._arm()
