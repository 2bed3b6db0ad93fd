"""Fixtures: a real process space in each mode that this user can have."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.bpinit.space_rig import Agent, SpaceRig

MODES = ["namespace", "rootless"] if os.getuid() == 0 else ["rootless"]


@pytest.fixture(params=MODES)
def rig(request: pytest.FixtureRequest) -> Iterator[SpaceRig]:
    """A running bpinit, in each mode; afterwards nothing of it may be left."""
    space = SpaceRig(request.param)
    yield space
    space.end()


@pytest.fixture
def agent(rig: SpaceRig) -> Agent:
    """An agent connected to `rig`."""
    return rig.agent()
