"""Which of the watches that are due are looked at now: users have turns, and all of them together a part of the time.

A look at a watch costs the rows that are compared and told, and the entries of its node list. When all together come to
`ROWS_AT_A_TIME`, the others wait: the later the next look is, the more the last one was. Then the user comes first
whose watches were looked at longest ago. So who has many watches, or dear ones, lets his own wait; and others, as long
as one look at one of them takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from heorot.core.head.watch import ClientWatch

ROWS_AT_A_TIME = 5_000
"""After so many rows, about ten milliseconds, the head does other things first, ..."""
TOLD_ROWS_PER_MS = 100
"""... a millisecond for so many: watches have a fifth of its time."""
ENTRIES_PER_ROW = 16
"""So many entries of node lists cost as much as a row."""


class WatchTurns:
    """See the module."""

    def __init__(self) -> None:
        self.free_ms = 0
        """Nobody is looked at before."""
        self.spent_rows = 0
        """In the look that goes on, or was the last."""
        self._turn = 0
        self._turns: dict[int, int] = {}
        """By user, of those who were due last: when it was his turn."""

    def in_turn(self, due: Iterable[ClientWatch], now_ms: int) -> Iterator[ClientWatch]:
        """Yield these watches, as long as there is time; `spend` what each has cost before the next."""
        lines: dict[int, deque[ClientWatch]] = {}
        for watch in sorted(due, key=lambda watch: watch.due_ms):
            lines.setdefault(watch.caller.uid, deque()).append(watch)
        self._turns = {uid: self._turns.get(uid, 0) for uid in lines}
        self.spent_rows = 0
        while lines and self.spent_rows < ROWS_AT_A_TIME:
            uid = min(lines, key=self._turns.__getitem__)
            self._turn += 1
            self._turns[uid] = self._turn
            line = lines[uid]
            yield line.popleft()
            if not line:
                del lines[uid]
        self.free_ms = now_ms + self.spent_rows // TOLD_ROWS_PER_MS

    def spend(self, rows: int, entries: int) -> None:
        """A look at a watch has cost so much."""
        self.spent_rows += rows + entries // ENTRIES_PER_ROW
