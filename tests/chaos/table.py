"""``python -m tests.chaos.table``: how soon a new head knows every process, and whether what it knows is the truth."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time

from tests.cluster.harness import Cluster, await_that, cluster, host_pids

SECONDS = 86_000
"""The argument of the sleeping processes, by which they are found in /proc."""


def _running(made: Cluster, job: str) -> int:
    finished = made.run("bpjob", "list", "--json")
    if finished.returncode != 0:
        return 0
    return next((row["running"] for row in json.loads(finished.stdout) if row["job"] == job), 0)


def _table(made: Cluster, job: str) -> set[tuple[int, int, int]]:
    rows = made.processes("--job", job)
    return {(row["node"], row["rank"], row["pid"]) for row in rows}


def main() -> int:
    """Measure; return 1 if a table is not the truth."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.table", description=__doc__.partition(":")[0])
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--processes", type=int, default=200, help="on each node")
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    total = options.nodes * options.processes
    wrong = 0
    with cluster(options.nodes, "--heads", "2") as made:
        job = made.detach(",".join([f"0-{options.nodes - 1}"] * options.processes), "/bin/sleep", str(SECONDS))
        await_that(lambda: _running(made, job) == total, "all processes started")
        truth = len(host_pids(str(SECONDS)))
        before = _table(made, job)
        for _ in range(options.kills):
            await_that(lambda: len([head for head in made.status()["heads"] if head["pid"]]) == 2, "two heads")
            os.kill(made.head_pid(), signal.SIGKILL)
            killed_s = time.monotonic()
            await_that(lambda: _running(made, job) == total, "the table rebuilt")
            rebuilt_s = time.monotonic() - killed_s
            same = _table(made, job) == before and len(before) == truth == total
            wrong += not same
            print(
                f"{rebuilt_s:.3f} s until the new head knew all {total} processes; the table is the same: {same}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
