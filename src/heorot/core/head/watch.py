"""What one client watches: how far it has come, and what an update tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from heorot.core.head.context import ROWS_AT_ONCE, Caller
from heorot.core.head.states import WATCH, WatchChange
from heorot.core.head.watched_table import WatchedTable
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire.rows import JobRow, NodeRow, ProcessRow

RowT = TypeVar("RowT", NodeRow, JobRow, ProcessRow)


class ClientWatch:
    """What one client watches."""

    def __init__(self, caller: Caller, ask: c.Watch, now_ms: int) -> None:
        self.state = WATCH.start
        self.story = 0
        self.caller = caller
        self.ask = ask
        self.due_ms = now_ms
        """When it may be told what is new."""
        self.news_from_ms = now_ms
        """A round of questions that began then or later is new enough for it."""
        self.asked = NodeSet()
        """The nodes that were to be asked for its processes when it was looked at last."""
        self.waits = False
        """It was looked at, and is told nothing before these nodes have answered."""
        self.looked_at_rows = 0
        """How many rows were looked at for it so far."""
        self._versions: dict[str, int] = {}
        """By topic: of the table, when it was told last."""
        self._shown: dict[str, object] = {}
        """By topic: which rows were chosen then."""
        self.missing = NodeSet()
        """The nodes that it was told not to answer."""

    def seen(self, now_ms: int) -> None:
        """The client has seen the last update."""
        WATCH.step(self, WatchChange.SEEN)
        self.due_ms = max(self.due_ms, now_ms)

    def looked(self, now_ms: int, due_ms: int, is_told: bool) -> None:
        """What is new was looked for; the next time is to be then."""
        self.news_from_ms, self.due_ms, self.waits = now_ms + 1, due_ms, False
        if is_told:
            WATCH.step(self, WatchChange.TELL)

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return f"watch {self.ask.request} of client {self.caller.client}"

    def has(self, topic: str) -> bool:
        """Whether it watches this."""
        return topic in self.ask.topics

    # ------------------------------------------------------------------ what it is told

    def knows(self, topic: str, table: WatchedTable[Any, Any], shown: object) -> bool:
        """Whether it is enough to tell it what has changed: rows are chosen as before, and it can be told."""
        version = self._versions.get(topic)
        is_same = version is not None and self._shown[topic] == shown and version >= table.known_from
        self._shown[topic] = shown
        return is_same

    def news(
        self,
        topic: str,
        table: WatchedTable[Any, RowT],
        is_wanted: Callable[[RowT], bool],
        missing: NodeSet | None = None,
    ) -> list[c.Changed]:
        """Return what has changed of the rows that are wanted."""
        rows: list[RowT] = []
        gone: list[list[Any]] = []
        for key in table.since(self._versions[topic]):
            self.looked_at_rows += 1
            row = table.rows.get(key)
            if row is not None and is_wanted(row):
                rows.append(row)
            elif row is None:
                # Perhaps it was never told of it.
                gone.append(list(key) if isinstance(key, tuple) else [key])
        return self._update(topic, table, False, rows[::-1], gone, missing, [])

    def everything(
        self,
        topic: str,
        table: WatchedTable[Any, RowT],
        rows: Sequence[RowT],
        missing: NodeSet | None = None,
        named: Sequence[int] = (),
    ) -> list[c.Changed]:
        """Return all that there is: these rows."""
        self.looked_at_rows += len(table.rows)
        return self._update(topic, table, True, rows, [], missing, named)

    def _update(
        self,
        topic: str,
        table: WatchedTable[Any, Any],
        full: bool,
        rows: Sequence[Any],
        gone: list[list[Any]],
        missing: NodeSet | None,
        named: Sequence[int],
    ) -> list[c.Changed]:
        """Return it as messages that fit into a frame each; none if there is nothing new."""
        self._versions[topic] = table.version
        is_news = missing is not None and missing != self.missing
        if missing is not None:
            self.missing = missing
        if not (full or rows or gone or is_news):
            return []
        silent = [] if missing is None else missing.numbers()
        parts = []
        for start in range(0, max(len(rows), 1), ROWS_AT_ONCE):
            some = list(rows[start : start + ROWS_AT_ONCE])
            first, gone_now = full and not start, [] if start else gone
            parts.append(c.Changed(self.ask.request, topic, first, some, gone_now, True, silent, list(named)))
        return parts
