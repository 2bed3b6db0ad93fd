"""``python -m bench``: measure, print a table with verdicts, write JSON and a picture; ``python -m bench peers``."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from bench import bandwidth, launches, machine, picture, publish, resting, table
from bench.cluster import BenchError, Cluster
from bench.peers import command
from bench.results import Report

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Heorot on this machine.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller streams: about a minute")
    parser.add_argument("--nodes", default="64,256,1024", help="sizes of the clusters (default: %(default)s)")
    parser.add_argument("--only", choices=["launches", "resting", "bytes"], help="measure only this")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.png")
    options = parser.parse_args(arguments)
    try:
        options.nodes = [int(word) for word in options.nodes.split(",")]
    except ValueError:
        parser.error(f"--nodes takes numbers with commas between them, not {options.nodes!r}")
    return options


def _progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _measure(options: argparse.Namespace, report: Report) -> None:
    quick = options.quick
    head_costs: dict[int, dict[str, float]] = {}
    for index, nodes in enumerate(options.nodes):
        _progress(f"{nodes} nodes: heorot up")
        cluster = Cluster(nodes)
        with cluster:
            if options.only in (None, "resting"):
                _progress(f"{nodes} nodes: at rest")
                resting.memory(report, cluster)
                resting.idle_cpu(report, cluster, 1 if quick else 4)
            if options.only in (None, "launches"):
                _progress(f"{nodes} nodes: launches")
                launches.everywhere(report, cluster, 5 if quick else 15)
                if index == 0:
                    launches.one_node(report, cluster, 10 if quick else 30)
                head_costs[nodes] = launches.head_cost(report, cluster, 5 if quick else 20)
            if options.only in (None, "bytes") and nodes == 64:
                _progress(f"{nodes} nodes: output and input")
                bandwidth.output(report, cluster, (1 if quick else 16) * bandwidth.MB, 1 if quick else 3)
                bandwidth.broadcast(report, cluster, (10 if quick else 100) * bandwidth.MB, 1 if quick else 3)
        report.add(f"up-{nodes}", f"heorot up, {nodes} nodes", [cluster.up_s], "s")
        report.add(f"down-{nodes}", f"heorot down, {nodes} nodes", [cluster.down_s], "s")
    if 64 in head_costs and len(head_costs) > 1:
        most = max(head_costs)
        launches.head_growth(report, head_costs[64], head_costs[most], (64, most))


def _write(options: argparse.Namespace, report: Report) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")
    drawn = picture.draw(report, OUT / "bench.png")
    _progress(f"wrote bench/out/bench.json{' and bench/out/bench.png' if drawn else ' (no picture: needs matplotlib)'}")
    if options.publish:
        publish.publish(report, ROOT / "docs" / "benchmarks.md")
        if drawn:
            (ROOT / "docs" / "benchmarks.png").write_bytes((OUT / "bench.png").read_bytes())
        _progress("wrote docs/benchmarks.md")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 if all goals were met, 1 if some were missed, 2 if it could not be done."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["peers"]:
        return command.main(words[1:])
    options = _options(words)
    # A terminated benchmark must take its cluster down as an interrupted one does.
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(machine.describe())
    start = time.monotonic()
    try:
        _measure(options, report)
    except KeyboardInterrupt:
        _progress("interrupted; the cluster is down again")
        return 130
    except (BenchError, subprocess.TimeoutExpired) as error:
        _progress(str(error))
        return 2
    finally:
        if report.rows:
            print(table.text(report))
    _progress(f"took {time.monotonic() - start:.0f} s on {machine.sentence(report.machine)}")
    _write(options, report)
    missed = [row.what for row in report.rows if row.verdict == "MISSED"]
    for what in missed:
        _progress(f"goal missed: {what}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
