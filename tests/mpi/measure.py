"""How long it takes on 64 nodes from the command to the end of what MPI_Init does, by turns with others."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from tests.cluster.harness import Cluster, cluster, command

NODES = 64
HERE = Path(__file__).resolve().parent


def measure(prefix: Path, directory: Path, turns: int) -> None:
    """Print the medians, and what they are beside each other.

    ``start.c`` asks for what a library asks for in MPI_Init, so that the time of a library, which is the same in all
    cases, hides nothing: for each rank three puts, 192 gets and two barriers, or the barriers alone.
    """
    program = str(directory / "start")
    subprocess.run(["cc", "-O2", "-o", program, HERE / "start.c"], check=True)
    srun = directory / "bpsrun"
    srun.write_text(f'#!/bin/sh\nexec {" ".join(command("bpsrun"))} "$@"\n')
    srun.chmod(0o755)
    hosts = ",".join(f"n{number}" for number in range(NODES))
    launcher = ["-launcher", "slurm", "-launcher-exec", str(srun), "-hosts", hosts, "-iface", "lo", "-n", str(NODES)]
    ways = {
        "plain launch (bpsh -a)": [*command("bpsh"), "-a", program],
        "bpsh --mpi -a, barriers": [*command("bpsh"), "--mpi", "-a", program, "0"],
        "bpsh --mpi -a": [*command("bpsh"), "--mpi", "-a", program],
        "mpiexec over bpsrun": [str(prefix / "bin" / "mpiexec"), *launcher, program],
    }
    with cluster(NODES, "--fanout", "8") as made:
        times = {way: [_seconds(made, words)] for way, words in ways.items()}
        for _ in range(turns):
            for way, words in ways.items():
                times[way].append(_seconds(made, words))
    plain = statistics.median(times["plain launch (bpsh -a)"][1:])
    for way, taken in times.items():
        median = statistics.median(taken[1:])
        print(f"{way:24} median {median:6.3f} s, best {min(taken[1:]):6.3f} s, {median / plain:5.2f} x a plain launch")


def _seconds(made: Cluster, words: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(words, env=made.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=True)
    return time.monotonic() - begun
