"""The short form of ``make chaos CHAOS_OPTIONS=--hosts``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.deposed import PausedHeads
from tests.chaos.faults import CutFromEtcd, HeadKilled, HostCut, MemberKilled, Switched
from tests.chaos.network import hosts_cluster
from tests.chaos.rounds import HostsChaos


def test_nothing_is_lost_when_hosts_are_cut_killed_and_paused_under_load(tmp_path: Path) -> None:
    network, work = tmp_path / "network", tmp_path / "work"
    network.mkdir()
    work.mkdir()
    with hosts_cluster(network, heads=2, nodes=6, lease_ms=2000) as cluster:
        with HostsChaos(cluster, work, seed=3, workers=2) as chaos:
            for faults in ([HeadKilled], [HostCut], [Switched], [CutFromEtcd, MemberKilled]):
                chaos.strike(faults)
            paused = PausedHeads(chaos, work)
            paused.pause()
        assert chaos.seen.tally.findings == []
        assert (paused.seen.acknowledged, paused.seen.obeyed) == ([], [])
        assert chaos.seen.epochs[1] >= chaos.seen.epochs[0] + 4
        assert sum(chaos.seen.tally.jobs.values()) >= 2
