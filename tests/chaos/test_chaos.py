"""The short form of ``make chaos``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.run import Chaos
from tests.cluster.harness import cluster


def test_nothing_is_lost_when_heads_are_killed_under_load(tmp_path: Path) -> None:
    with cluster(8, "--heads", "2", "--fanout", "3") as made:
        result = Chaos(made, 8, tmp_path, seed=7, workers=2).run(kills=5)
    assert result.tally.findings == []
    assert result.epochs[1] >= result.epochs[0] + 5
    assert sum(result.tally.jobs.values()) >= 2
