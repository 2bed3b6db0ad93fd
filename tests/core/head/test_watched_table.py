"""A table that is watched: whoever knows a version is told what has changed since, however long ago that was."""

from __future__ import annotations

import random

from heorot.core.head.watched_table import FEWEST_GONE, WatchedTable


def put(table: WatchedTable[int, str], rows: dict[int, str]) -> None:
    """Have these rows, and no others."""
    table.put(rows, list(table.rows))


def test_what_has_changed_since_a_version_is_told_once_with_the_latest_first() -> None:
    table = WatchedTable[int, str]()
    put(table, {1: "a", 2: "b", 3: "c"})
    seen = table.version
    put(table, {1: "x", 2: "b", 3: "c"})
    put(table, {1: "y", 3: "c", 4: "d"})
    assert list(table.since(seen)) == [4, 1, 2]
    assert [table.rows.get(key) for key in (4, 1, 2)] == ["d", "y", None]
    assert list(table.since(table.version)) == []


def test_the_same_rows_again_are_no_news() -> None:
    table = WatchedTable[int, str]()
    put(table, {1: "a"})
    version = table.version
    put(table, {1: "a"})
    assert table.version == version


def test_a_row_that_comes_again_has_not_gone() -> None:
    table = WatchedTable[int, str]()
    put(table, {1: "a"})
    seen = table.version
    put(table, {})
    put(table, {1: "a"})
    assert list(table.since(seen)) == [1]
    assert table.rows == {1: "a"}


def test_only_part_of_a_table_may_be_put_anew() -> None:
    table = WatchedTable[int, str]()
    put(table, {1: "a", 2: "b", 3: "c"})
    table.put({4: "d"}, [1, 2])
    assert table.rows == {3: "c", 4: "d"}


def test_what_has_gone_is_remembered_within_a_bound_and_who_knows_less_is_told_everything() -> None:
    table = WatchedTable[int, str]()
    put(table, {})
    for number in range(5 * FEWEST_GONE):
        put(table, {number: "row"})
    assert len(table._changed) <= FEWEST_GONE + 1
    assert 0 < table.known_from <= table.version
    put(table, {0: "last"})
    assert list(table.since(table.version - 1)) == [0, 5 * FEWEST_GONE - 1]


def test_who_is_told_changes_has_the_same_rows_as_who_is_told_everything() -> None:
    chance = random.Random(1)
    table, told, seen = WatchedTable[int, str](), dict[int, str](), 0
    for _ in range(2_000):
        put(table, {number: chance.choice("ab") for number in range(8) if chance.random() < 0.7})
        if chance.random() < 0.3:
            for key in table.since(seen):
                row = table.rows.get(key)
                if row is None:
                    told.pop(key, None)
                else:
                    told[key] = row
            seen = table.version
            assert told == table.rows
