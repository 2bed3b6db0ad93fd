"""Simulated jobs of MPI: with heads killed, links cut and agents restarted, barriers hold, and open."""

from __future__ import annotations

import pytest

from heorot.sim.cluster import SimulatedCluster
from heorot.sim.mutants.barriers import WEATHER
from heorot.sim.settings import Settings, draw

pytestmark = pytest.mark.slow

SEEDS = 8


def settings_of(seed: int, **changes: object) -> Settings:
    """Return the settings of a seed, with many jobs of MPI."""
    settings = draw(seed)
    for name, value in {**WEATHER, "nodes": settings.nodes, "fanout": settings.fanout, **changes}.items():
        setattr(settings, name, value)
    return settings


@pytest.mark.parametrize("first", range(1, SEEDS + 1, 4))
def test_barriers_hold_and_open_whatever_interrupts_them(first: int) -> None:
    opened = 0
    for seed in range(first, first + 4):
        cluster = SimulatedCluster(seed, settings_of(seed))
        cluster.run()
        opened += cluster.truth.barriers.opened
    assert opened > 100


def test_a_job_of_mpi_ends_when_a_node_of_it_is_lost() -> None:
    for seed in range(21, 25):
        SimulatedCluster(seed, settings_of(seed, node_weight=6, space_weight=4, client_weight=2)).run()
