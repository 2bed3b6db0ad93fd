"""``python -m tests.chaos --hosts``: faults of hosts, links and etcd on a cluster of many hosts; counts and times."""

from __future__ import annotations

import time
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp

from tests.chaos.deposed import PausedHeads
from tests.chaos.faults import Switched
from tests.chaos.network import HostsCluster, hosts_cluster
from tests.chaos.rounds import HostsChaos, Seen

NAMES = {
    "process": "head process killed",
    "host": "head host lost, cut off or paused",
    "planned": "handed over on purpose",
}


def quantile_s(values_s: list[float], share: float) -> float:
    """Return the value that this share of all values does not exceed (nearest rank)."""
    ordered = sorted(values_s)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)]


def report(seen: Seen, pauses: PausedHeads | None) -> None:
    """Print what a run has shown."""
    tally = seen.tally
    print(f"epochs {seen.epochs[0]} to {seen.epochs[1]}; took {seen.elapsed_s:.0f} s")
    for name, count in sorted(seen.faults.items()):
        print(f"  {count:4d} x {name}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.jobs.items()))
    print(f"jobs: {sum(tally.jobs.values())} ({kinds}), {tally.ranks} ranks, {tally.checked_bytes} bytes compared")
    print(f"commands refused on a host that was down: {tally.away}")
    print("until the first new command on another host was over:")
    for kind, values_s in seen.times_s.items():
        if values_s:
            shares = ", ".join(f"p{share * 100:g} {quantile_s(values_s, share):.2f} s" for share in (0.5, 0.9, 0.99))
            print(f"  {NAMES[kind]}: {len(values_s)} times, {shares}, longest {max(values_s):.2f} s")
    if pauses is not None:
        was = pauses.seen
        print(
            f"heads woken beyond their lease: {was.count}; commands for them: {was.commands}, refused {was.refused}, "
            f"unanswered {was.unanswered}, acknowledged {len(was.acknowledged)}, obeyed by a node {len(was.obeyed)}"
        )
    print(f"findings: {len(tally.findings)}")
    for finding in tally.findings:
        print(f"  {finding}")


def grown(rounds: int, seed: int, workers: int) -> int:
    """Run so many rounds in which heads are added or removed, on nodes that joined when there was none of these."""
    with (
        TemporaryDirectory(prefix="heorot-net-") as network,
        TemporaryDirectory(prefix="heorot-chaos-") as work,
        hosts_cluster(Path(network), heads=1) as cluster,
    ):
        outlive_the_first_head(cluster)
        with HostsChaos(cluster, Path(work), seed, workers, cluster.heads[:1]) as chaos:
            for _ in range(rounds):
                chaos.grow()
        report(chaos.seen, None)
    return 1 if chaos.seen.tally.findings else 0


def outlive_the_first_head(cluster: HostsCluster) -> None:
    """Add heads and remove the only one that the nodes' configurations name."""
    (first,) = cluster.heads
    for _ in range(3):
        cluster.add_head(first)
    cluster.await_calm()
    first.clients.check("heorot", "head", "switch")
    cluster.remove_head(cluster.await_calm(), first)
    cluster.switch_off(first)
    cluster.await_calm()


def dozing(minutes: float, seed: int, workers: int) -> int:
    """Run for so long in rounds in which nodes' daemons are paused for up to four seconds.

    What the hosts have in their directories stays if anything was wrong.
    """
    end_s = time.monotonic() + 60 * minutes
    network = Path(mkdtemp(prefix="heorot-net-"))
    with TemporaryDirectory(prefix="heorot-chaos-") as work, hosts_cluster(network) as cluster:
        with HostsChaos(cluster, Path(work), seed, workers) as chaos:
            while time.monotonic() < end_s:
                chaos.doze()
        report(chaos.seen, None)
    if chaos.seen.tally.findings:
        print(f"logs: {network}")
        return 1
    rmtree(network)
    return 0


def run(rounds: int, pauses: int, switches: int, seed: int, workers: int) -> int:
    """Run so many rounds of random faults, pauses and planned hand-overs; return 1 if anything was wrong."""
    with (
        TemporaryDirectory(prefix="heorot-net-") as network,
        TemporaryDirectory(prefix="heorot-chaos-") as work,
        hosts_cluster(Path(network)) as cluster,
    ):
        with HostsChaos(cluster, Path(work), seed, workers) as chaos:
            woken = PausedHeads(chaos, Path(work)) if pauses else None
            for _ in range(switches):
                chaos.strike([Switched])
            for _ in range(rounds):
                chaos.round()
            for _ in range(pauses):
                assert woken is not None
                woken.pause()
            if woken is not None:
                for what in (*woken.seen.acknowledged, *woken.seen.obeyed):
                    chaos.found(what)
        report(chaos.seen, woken)
    return 1 if chaos.seen.tally.findings else 0
