"""The short form of ``make chaos CHAOS_OPTIONS=--hosts``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.deposed import PausedHeads
from tests.chaos.faults import (
    AgentsKilled,
    CutFromEtcd,
    HeadAdded,
    HeadKilled,
    HeadRemoved,
    HostCut,
    MemberKilled,
    NodesPaused,
    Switched,
)
from tests.chaos.hosts_report import outlive_the_first_head
from tests.chaos.network import hosts_cluster
from tests.chaos.rounds import HostsChaos

pytestmark = pytest.mark.slow


def test_nothing_is_lost_when_hosts_are_cut_killed_and_paused_under_load(tmp_path: Path) -> None:
    network, work = tmp_path / "network", tmp_path / "work"
    network.mkdir()
    work.mkdir()
    with hosts_cluster(network, heads=2, nodes=6, lease_ms=2000) as cluster:
        with HostsChaos(cluster, work, seed=3, workers=2) as chaos:
            for faults in ([HeadKilled], [HostCut], [Switched], [CutFromEtcd, MemberKilled, NodesPaused]):
                chaos.strike(faults)
            paused = PausedHeads(chaos, work)
            paused.pause()
        assert chaos.seen.tally.findings == []
        assert (paused.seen.acknowledged, paused.seen.obeyed) == ([], [])
        assert chaos.seen.epochs[1] >= chaos.seen.epochs[0] + 4
        assert sum(chaos.seen.tally.jobs.values()) >= 2


def test_nothing_is_lost_while_heads_are_added_and_removed_under_load(tmp_path: Path) -> None:
    network, work = tmp_path / "network", tmp_path / "work"
    network.mkdir()
    work.mkdir()
    with hosts_cluster(network, heads=1, nodes=5, lease_ms=2000) as cluster:
        outlive_the_first_head(cluster)
        with HostsChaos(cluster, work, seed=4, workers=2, homes=cluster.heads[:1]) as chaos:
            for faults in ([HeadRemoved, HeadKilled], [HeadAdded, HostCut], [HeadAdded, CutFromEtcd, AgentsKilled]):
                chaos.strike(faults)
        assert chaos.seen.tally.findings == []
        assert [head.name for head in cluster.heads][2:] == ["h4", "h5"]
