"""What a program that watches is given: typed rows, as they are now. Loaded when somebody watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from heorot.core.client.watching import WatchRequest
from heorot.core.wire.rows import JobRow, NodeRow, ProcessRow

RowT = TypeVar("RowT")
KeyT = TypeVar("KeyT")


class Watched:
    """All that is watched, after an update. The tables are the same objects each time, and change with each update.

    Attributes
    ----------
    nodes, jobs, processes
        The rows, by node, by job, and by node and PID; empty if they are not watched.
    missing
        Nodes that do not answer when they are asked for their processes.
    changed, gone
        By topic: the keys of the rows that are new or other than before the last update, and of those that are no more.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, NodeRow] = {}
        self.jobs: dict[str, JobRow] = {}
        self.processes: dict[tuple[int, int], ProcessRow] = {}
        self.missing: list[int] = []
        self.changed: dict[str, list[Any]] = {}
        self.gone: dict[str, list[Any]] = {}

    def take(self, request: WatchRequest) -> None:
        """Take the update of a watch that is there."""
        self.changed, self.gone = {}, {}
        for topic, update in request.take().items():
            rows = request.tables[topic]
            if topic == "nodes":
                gone = _update(self.nodes, rows, NodeRow, update.full, update.changed, update.gone)
            elif topic == "jobs":
                gone = _update(self.jobs, rows, JobRow, update.full, update.changed, update.gone)
            else:
                gone = _update(self.processes, rows, ProcessRow, update.full, update.changed, update.gone)
            self.changed[topic], self.gone[topic] = update.changed, gone
        self.missing = list(request.missing)


def _update(
    table: dict[KeyT, RowT],
    rows: Mapping[Any, Any],
    kind: type[RowT],
    full: bool,
    changed: Iterable[Any],
    gone: Iterable[Any],
) -> list[Any]:
    gone = [key for key in table if key not in rows] if full else list(gone)
    for key in gone:
        table.pop(key, None)
    for key in changed:
        if key in rows:
            table[key] = msgspec.convert(rows[key], kind)
    return gone
