"""The short form of ``make chaos``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.launches import ShortLaunches, Way
from tests.chaos.run import Chaos
from tests.cluster.harness import cluster

pytestmark = pytest.mark.slow


def test_nothing_is_lost_when_heads_are_killed_under_load(tmp_path: Path) -> None:
    with cluster(8, "--heads", "2", "--fanout", "3") as made:
        result = Chaos(made, 8, tmp_path, seed=7, workers=2).run(kills=5)
    assert result.tally.findings == []
    assert result.epochs[1] >= result.epochs[0] + 5
    assert sum(result.tally.jobs.values()) >= 2


@pytest.mark.parametrize(
    "way",
    [Way("up"), Way("n[0-3]", detached=True), Way("all", by_command=True)],
    ids=["up", "detached", "by-command"],
)
def test_a_launch_is_the_same_launch_under_every_head(tmp_path: Path, way: Way) -> None:
    with cluster(4, "--heads", "2", "--fanout", "2") as made:
        outcome = ShortLaunches(made, 4, tmp_path, way, users=3).run(kills=4, pause_s=0.5)
    assert outcome.findings == []
    assert (outcome.kills, outcome.launches >= 3) == (4, True)
