"""The order in which workers run the tests: what takes long first, so that at the end nobody waits for a long one."""

from __future__ import annotations

from pathlib import Path

import pytest


def dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order tests so that each worker begins with modules that are marked slow, and ends with tests that take no time.

    ``--dist worksteal`` cuts the list into as many equal parts, and who is idle takes from the end of another's. Tests
    of one module stay together, but where a part ends: they may share a cluster.
    """
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    slow = [path for path, tests in modules.items() if any(test.get_closest_marker("slow") for test in tests)]
    others = [item for path, tests in modules.items() if path not in slow for item in tests]
    ordered: list[pytest.Item] = []
    for number in range(workers):
        begin = len(ordered)
        for path in slow[number::workers]:
            ordered += modules[path]
        lacking = max(0, begin + (len(items) - begin) // (workers - number) - len(ordered))
        ordered += others[:lacking]
        del others[:lacking]
    return ordered + others


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests to the workers; who runs them one after the other has them as they are written."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = dealt(items, workers)
