"""Fixtures of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest_plugins = ["tests.surroundings", "tests.time_limit", "tests.leaks", "tests.order"]

# No test fails because the machine was busy, or because nobody may write where the sources are.
settings.register_profile("heorot", deadline=None, database=None)
settings.load_profile("heorot")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers ``-n auto`` starts: a test waits for about half of its time."""
    return 2 * len(os.sched_getaffinity(0))
