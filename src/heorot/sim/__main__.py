"""``python -m heorot.sim``: simulate many seeds, or tell the story of one."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from heorot.sim.checks import INVARIANTS
from heorot.sim.cluster import SimulatedCluster
from heorot.sim.faults import KINDS
from heorot.sim.settings import draw
from heorot.sim.world import Violation


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if no invariant was violated, else 1."""
    parser = argparse.ArgumentParser(prog="python -m heorot.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to simulate (default: 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--minutes", type=float, help="stop after this time, whatever --seeds says")
    parser.add_argument(
        "--length",
        type=float,
        default=0.0,
        help="virtual minutes of each run, with bursts of load and faults (default: one)",
    )
    parser.add_argument("--seed", type=int, help="simulate this seed only")
    parser.add_argument("--story", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    parser.add_argument("--digest", action="store_true", help="print the digest of each trace")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    gc.disable()  # the machines make few cycles and many objects: it is enough to collect between the seeds
    try:
        return _simulate(options, seeds)
    finally:
        gc.enable()


def _length(options: argparse.Namespace) -> str:
    return f" --length {options.length:g}" if options.length else ""


def _simulate(options: argparse.Namespace, seeds: Iterable[int]) -> int:
    began, virtual_us, steps, bad, count, ranks = time.monotonic(), 0, 0, 0, 0, 0
    terms = resumed = again = 0
    faults = dict.fromkeys(KINDS, 0)
    for seed in seeds:
        if options.minutes and time.monotonic() - began > options.minutes * 60:
            break
        count += 1
        cluster = SimulatedCluster(
            seed, replace(draw(seed), minutes=options.length), tell_to=print if options.story else None
        )
        try:
            cluster.run()
        except Violation as violation:
            bad += 1
            if not (options.story or options.keep_going):
                print("\n".join(violation.story))
            print(violation)
            if not options.keep_going:
                print(f"whole story: python -m heorot.sim --seed {seed}{_length(options)} --story")
                break
        if options.digest:
            print(seed, cluster.world.digest)
        gc.collect()
        virtual_us += cluster.world.now_us
        steps += cluster.world.steps
        ranks += len(cluster.truth.ranks)
        terms += cluster.checks.terms
        resumed += sum(client.resumed for client in cluster.clients)
        again += sum(client.asked_again for client in cluster.clients)
        for kind, times in cluster.faults.counts.items():
            faults[kind] += times
    seconds = time.monotonic() - began
    print(f"{terms} terms of office; clients went on {resumed} times and asked {again} times for a launch again")
    print(f"{ranks} processes started; faults: {', '.join(f'{times} {kind}' for kind, times in faults.items())}")
    print(
        f"{count} seeds, {virtual_us / 6e7:.1f} virtual minutes, {steps} steps in {seconds:.1f} s"
        f" ({virtual_us / 6e7 / max(seconds, 1e-9):.2f} virtual minutes a second): "
        + (f"{bad} seeds with a violation" if bad else f"no violation of {', '.join(INVARIANTS)}")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
