"""``python -m tests.chaos``: kill heads under load, count what goes wrong, print times. ``make chaos`` runs it."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.launches import ShortLaunches, Way
from tests.chaos.run import Chaos, Result
from tests.cluster.harness import cluster
from tests.support.etcd import etcd

BINS_S = [0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0]


def _histogram(values_s: list[float]) -> list[str]:
    lines, below = [], 0.0
    for bound in [*BINS_S, float("inf")]:
        count = sum(below <= value < bound for value in values_s)
        lines.append(f"  {below:5.2f} .. {bound:5.2f} s  {count:5d}  {'#' * round(60 * count / len(values_s))}")
        below = bound
    return lines


def _report(result: Result) -> None:
    tally = result.tally
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.jobs.items()))
    print(f"changes of heads: {len(result.takeovers_s)}; epochs {result.epochs[0]} to {result.epochs[1]}")
    print(f"jobs: {sum(tally.jobs.values())} ({kinds}), {tally.ranks} ranks, {tally.checked_bytes} bytes compared")
    print("from the kill or the order to switch until a command started right after it was over:")
    shares = ", ".join(f"p{share * 100:g} {result.quantile_s(share):.3f} s" for share in (0.5, 0.9, 0.99))
    print(f"  {shares}, longest {max(result.takeovers_s):.3f} s")
    print("\n".join(_histogram(result.takeovers_s)))
    print(f"took {result.elapsed_s:.0f} s; findings: {len(tally.findings)}")
    for finding in tally.findings:
        print(f"  {finding}")


def main() -> int:
    """Run; return 1 if anything was lost, doubled, wrong or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition(":")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--switch", action="store_true", help="have heads hand over on purpose, in place of killing them"
    )
    parser.add_argument("--etcd", action="store_true", help="let the heads agree through an etcd of three members")
    parser.add_argument(
        "--hosts",
        action="store_true",
        help="on many hosts (network namespaces) over etcd: --rounds, --pauses, --switches",
    )
    parser.add_argument(
        "--launches", action="store_true", help="with short launches on all nodes: --select, --detach, --by-command"
    )
    parser.add_argument("--select", default="up", help="with --launches: a node list that means all nodes")
    parser.add_argument("--detach", action="store_true", help="with --launches: detached, and attached to afterwards")
    parser.add_argument("--by-command", action="store_true", help="with --launches: with bpsh, not the library")
    parser.add_argument("--pause", type=float, default=2.0, help="with --launches: seconds between two kills")
    parser.add_argument("--fanout", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20, help="with --hosts: rounds of random faults")
    parser.add_argument("--pauses", type=int, default=0, help="with --hosts: heads that are paused beyond their lease")
    parser.add_argument("--switches", type=int, default=0, help="with --hosts: planned hand-overs")
    parser.add_argument(
        "--grow", type=int, default=0, help="with --hosts, in place of the others: rounds that add and remove heads"
    )
    parser.add_argument(
        "--doze",
        action="store_true",
        help="with --hosts, in place of the others: rounds in which nodes' daemons are paused for up to 4 s",
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="with --launches or --doze: go on for so long, however many kills"
    )
    options = parser.parse_args()
    if options.hosts:
        from tests.chaos.hosts_report import dozing, grown, run

        if options.doze:
            return dozing(options.minutes, options.seed, options.workers)
        if options.grow:
            return grown(options.grow, options.seed, options.workers)
        return run(options.rounds, options.pauses, options.switches, options.seed, options.workers)
    with ExitStack() as stack:
        directory, store = (Path(stack.enter_context(TemporaryDirectory(prefix="heorot-chaos-"))) for _ in range(2))
        up = ["--heads", str(options.heads), "--fanout", str(options.fanout)]
        if options.etcd:
            up += ["--etcd", ",".join(stack.enter_context(etcd(store)).urls)]
        made = stack.enter_context(cluster(options.nodes, *up))
        if options.launches:
            way = Way(options.select, options.detach, options.by_command)
            outcome = ShortLaunches(made, options.nodes, directory, way, options.workers).run(
                options.kills, options.pause, options.minutes
            )
            print(f"{outcome.launches} launches, {outcome.kills} heads killed; findings: {len(outcome.findings)}")
            print("\n".join(f"  {finding}" for finding in outcome.findings))
            return 1 if outcome.findings else 0
        chaos = Chaos(made, options.nodes, directory, options.seed, options.workers)
        result = chaos.run(options.kills, planned=options.switch)
    _report(result)
    return 1 if result.tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
