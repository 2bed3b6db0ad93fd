"""How the tests are dealt to the workers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.order import dealt


def module(name: str, tests: int, *, slow: bool = False) -> list[Any]:
    """Return what stands for the tests of a module."""
    return [SimpleNamespace(path=Path(name), get_closest_marker=lambda _: slow or None) for _ in range(tests)]


@pytest.mark.parametrize("workers", [2, 3, 4, 6])
def test_every_part_begins_with_slow_modules_and_none_is_lost_or_torn(workers: int) -> None:
    quick = [module(f"quick{number}", 7) for number in range(20)]
    slow = [module(f"slow{number}", 5, slow=True) for number in range(6)]
    items = [item for tests in [*quick[:9], *slow, *quick[9:]] for item in tests]
    ordered = dealt(items, workers)
    assert sorted(map(id, ordered)) == sorted(map(id, items))
    begin = 0
    for number in range(workers):
        end = begin + (len(items) - begin) // (workers - number)
        names = [item.path.name for item in ordered[begin:end]]
        expected = [f"slow{one}" for one in range(number, 6, workers) for _ in range(5)]
        assert names[: len(expected)] == expected
        assert not any(name.startswith("slow") for name in names[len(expected) :])
        begin = end
    for tests in slow + quick:
        places = [index for index, item in enumerate(ordered) if item in tests]
        # Only where parts end are tests of a module apart, and never those of a slow one.
        apart = sum(later - earlier > 1 for earlier, later in pairwise(places))
        assert apart <= (0 if tests in slow else 1)
