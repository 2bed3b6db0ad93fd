"""Fixtures of all tests."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.leaks"]

# No test fails because the machine was busy.
settings.register_profile("heorot", deadline=None)
settings.load_profile("heorot")
