"""Each shell, with a scripted machine in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.runtime.loop import EpollLoop
from tests.runtime.conftest import cluster as cluster
from tests.runtime.conftest import loop as loop
from tests.shells.real import RealHeadRig, RealNodeRig
from tests.shells.rigs import Rig
from tests.shells.timed import TimedHeadRig, TimedNodeRig
from tests.shells.virtual import VirtualHeadRig, VirtualNodeRig

Factory = Callable[[EpollLoop, Path, Path], Rig]
FACTORIES: dict[str, Factory] = {
    "daemon-of-a-head": RealHeadRig,
    "daemon-of-a-node": RealNodeRig,
    "simulated-head": lambda loop, directory, identities: VirtualHeadRig(),
    "simulated-node": lambda loop, directory, identities: VirtualNodeRig(),
    "timed-head": lambda loop, directory, identities: TimedHeadRig(),
    "timed-node": lambda loop, directory, identities: TimedNodeRig(),
}


@pytest.fixture(params=FACTORIES)
def rig(request: pytest.FixtureRequest, loop: EpollLoop, tmp_path: Path, cluster: Path) -> Iterator[Rig]:
    """A shell; a test that names fewer of them says so with `pytest.mark.parametrize` and `indirect`."""
    made = FACTORIES[request.param](loop, tmp_path, cluster)
    yield made
    made.close()
