"""One watch: what an update says, and in how many messages."""

from __future__ import annotations

from typing import Any

from heorot.core.head.context import ROWS_AT_ONCE, Caller
from heorot.core.head.questions import row_of
from heorot.core.head.states import WatchState
from heorot.core.head.watch import ClientWatch
from heorot.core.head.watched_table import WatchedTable
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from tests.core.rigs import process

TOPIC = "processes"


def watch_of() -> ClientWatch:
    """Return a watch of root's."""
    return ClientWatch(Caller(1, "root", 0, 0, ()), c.Watch(7, [TOPIC], 1000), 5_000)


def table_of(*pids: int) -> WatchedTable[tuple[int, int], Any]:
    """Return a table of processes of node 0."""
    table = WatchedTable[tuple[int, int], Any]()
    table.put({(0, pid): row_of(0, process(pid)) for pid in pids}, [])
    return table


def test_at_first_it_knows_nothing_and_then_what_it_was_told() -> None:
    watch, table = watch_of(), table_of(1)
    assert not watch.knows(TOPIC, table, "all")
    (part,) = watch.everything(TOPIC, table, list(table.rows.values()))
    assert (part.request, part.full, len(part.rows), part.more) == (7, True, 1, True)
    assert watch.knows(TOPIC, table, "all")
    assert watch.news(TOPIC, table, lambda row: True) == []


def test_other_rows_or_too_old_a_version_are_told_as_everything() -> None:
    watch, table = watch_of(), table_of(1)
    watch.knows(TOPIC, table, "all")
    watch.everything(TOPIC, table, [])
    assert not watch.knows(TOPIC, table, "some")
    table.put({(0, 2): row_of(0, process(2))}, [])
    table.tell_all()
    assert not watch.knows(TOPIC, table, "some")


def test_news_are_the_rows_that_are_wanted_and_the_keys_of_those_that_are_gone() -> None:
    watch, table = watch_of(), table_of(1, 2)
    watch.knows(TOPIC, table, "all")
    watch.everything(TOPIC, table, list(table.rows.values()))
    table.put({(0, pid): row_of(0, process(pid)) for pid in (3, 4)}, [(0, 2)])
    (part,) = watch.news(TOPIC, table, lambda row: row.pid != 4)
    assert ([row.pid for row in part.rows], part.gone, part.full) == ([3], [[0, 2]], False)


def test_that_a_node_is_silent_is_news_by_itself_once() -> None:
    watch, table = watch_of(), table_of(1)
    watch.knows(TOPIC, table, "all")
    watch.everything(TOPIC, table, [], NodeSet())
    (part,) = watch.news(TOPIC, table, lambda row: True, NodeSet(0b10))
    assert (part.missing, part.rows) == ([1], [])
    assert watch.news(TOPIC, table, lambda row: True, NodeSet(0b10)) == []


def test_a_long_update_is_cut_and_says_what_is_gone_once() -> None:
    watch, table = watch_of(), table_of(*range(10_000, 10_005))
    watch.knows(TOPIC, table, "all")
    watch.everything(TOPIC, table, [])
    table.put({(0, pid): row_of(0, process(pid)) for pid in range(ROWS_AT_ONCE + 1)}, [(0, 10_001)])
    first, second = watch.news(TOPIC, table, lambda row: True)
    assert (len(first.rows), first.gone, len(second.rows), second.gone) == (ROWS_AT_ONCE, [[0, 10_001]], 1, [])


def test_it_is_told_nothing_before_it_has_seen_the_last() -> None:
    watch = watch_of()
    watch.looked(5_000, 6_000, False)
    assert (watch.state, watch.due_ms, watch.news_from_ms) == (WatchState.ASKED, 6_000, 5_001)
    watch.looked(6_000, 7_000, True)
    assert watch.state is WatchState.TOLD
    watch.seen(9_000)
    assert (watch.state, watch.due_ms) == (WatchState.READY, 9_000)
