"""How long it takes on 64 nodes from the command to the end of what MPI_Init does, by turns with others."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from tests.cluster.harness import Cluster, cluster, command

NODES = 64
PLAIN, BARRIERS, WHOLE = "plain launch (bpsh -a)", "bpsh --mpi -a, barriers", "bpsh --mpi -a"
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
        PLAIN: [*command("bpsh"), "-a", program, "0"],
        BARRIERS: [*command("bpsh"), "--mpi", "-a", program, "0"],
        WHOLE: [*command("bpsh"), "--mpi", "-a", program, "3"],
        "mpiexec over bpsrun": [str(prefix / "bin" / "mpiexec"), *launcher, program],
    }
    with cluster(NODES, "--fanout", "8") as made:
        times = {way: [_seconds(made, words)] for way, words in ways.items()}
        for _ in range(turns):
            for way, words in ways.items():
                times[way].append(_seconds(made, words))
        shares = {way: _shares(made, [*ways[way], "used"], turns) for way in (PLAIN, BARRIERS, WHOLE)}
    plain = statistics.median(times[PLAIN][1:])
    for way, taken in times.items():
        median = statistics.median(taken[1:])
        print(f"{way:24} median {median:6.3f} s, best {min(taken[1:]):6.3f} s, {median / plain:5.2f} x a plain launch")
    for way, parts in shares.items():
        print(f"{way:24} CPU time: {', '.join(f'{part} {taken_s:.3f} s' for part, taken_s in parts.items())}")


def _shares(made: Cluster, words: list[str], turns: int) -> dict[str, float]:
    """Return how much CPU time a run takes on average, by who takes it; its ranks say their own."""
    status = made.status()
    of_part = {
        "head": [made.head_pid()],
        "agents": [node["agent_pid"] for node in status["nodes"]],
        "bpinits": [node["init_pid"] for node in status["nodes"]],
    }
    before = {part: sum(map(_ran_s, pids)) for part, pids in of_part.items()}
    ranks_ns = sum(sum(map(int, _run(made, words).split())) for _ in range(turns))
    shares = {part: (sum(map(_ran_s, pids)) - before[part]) / turns for part, pids in of_part.items()}
    return {**shares, "ranks": ranks_ns / 1e9 / turns}


def _ran_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _seconds(made: Cluster, words: list[str]) -> float:
    begun = time.monotonic()
    _run(made, words)
    return time.monotonic() - begun


def _run(made: Cluster, words: list[str]) -> bytes:
    done = subprocess.run(
        words, env=made.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=True
    )
    return done.stdout
