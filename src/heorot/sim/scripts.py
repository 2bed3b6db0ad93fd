"""What virtual processes do.

It follows from the command line and the rank alone, so that the same job behaves in the same way wherever and whenever
it is started.
"""

from __future__ import annotations

from random import Random
from typing import TypeAlias

Action: TypeAlias = tuple[str, int, int]
"""What to do (``write``, ``read``, ``wait``, ``close``, ``stop``, ``exit``), and its two parameters."""
MPI_INIT, MPI_BARRIER, MPI_FINALIZE, MPI_ABORT = range(4)
"""The parameter of ``mpi``; the other one is the number of the barrier, or a status."""


def script_of(argv: list[bytes], rank: int) -> list[Action]:
    """Return what a process with this command line does. ``kind variation largest-write``, and perhaps ``stops``.

    Nothing is drawn for ``sleep seconds exit-code``, ``count lines bytes-a-line`` and ``read 0 0``, which reads input
    to the end: they are for stories that are written.
    """
    kind, variation, largest = argv[0].decode(), argv[1].decode(), int(argv[2])
    random = Random(f"{kind} {variation} {rank}")
    script: list[Action] = []
    if kind == "sleep":
        return [("wait", int(variation) * 1_000_000, 0), ("exit", largest << 8, 0)]
    if kind == "count":
        return [("write", 1, largest), ("wait", 1_000_000, 0)] * int(variation) + [("exit", 0, 0)]
    if kind == "read":
        return [("read", 1 << 62, 0), ("exit", 0, 0)]
    if kind == "true":
        return [("wait", random.randint(0, 5_000), 0), ("exit", 0, 0)]
    if kind == "writer":
        for _ in range(random.randint(1, 12)):
            script.append(("write", random.randint(1, 2), random.randint(1, largest)))
            script.append(("wait", random.choice((0, 0, 500, 20_000, 400_000)), 0))
    elif kind == "reader":
        script.append(("wait", random.randint(0, 50_000), 0))
        if random.random() < 0.2:
            script.append(("read", random.randint(0, largest), 0))
            if random.random() < 0.5:
                script += [("close", 0, 0), ("wait", random.randint(0, 1_000_000), 0)]
        else:
            script += [("read", 1 << 62, 0), ("write", 1, random.randint(1, largest))]
    elif kind == "sleeper":
        script.append(("write", 1, random.randint(1, largest)))
        script.append(("wait", 3_600_000_000, 0))
    elif kind == "mpi":
        script += _mpi_script(variation, rank, random)
    elif kind == "parent":
        # Drawn apart, as what a process leaves may end by itself.
        life_us = Random(f"{variation} {rank}").choice((2_000, 50_000, 1_000_000, 6_000_000))
        script += [("fork", random.randint(0, 1), life_us), ("write", 1, random.randint(1, largest))]
    script.append(("wait", random.choice((0, 1_000, 300_000, 2_000_000)), 0))
    script.append(("exit", random.choice((0, 0, 1, 42)) << 8 if random.random() < 0.8 else random.choice((6, 11)), 0))
    if argv[3:] == [b"stops"]:
        _put_stops_in(script, Random(f"stops {variation} {rank}"))
    return script


def _mpi_script(variation: str, rank: int, random: Random) -> list[Action]:
    """Return the part of a rank of MPI: all ranks of a job come to the same barriers, each at its own time."""
    of_job = Random(f"mpi {variation}")
    script: list[Action] = [("mpi", MPI_INIT, 0)]
    for number in range(of_job.randint(1, 5)):
        script.append(("wait", random.choice((0, 0, 1_000, 200_000, 1_500_000)), 0))
        script.append(("mpi", MPI_BARRIER, number))
    fate = of_job.random()
    if fate < 0.1 and rank == 0:
        script.append(("mpi", MPI_ABORT, 5))
    elif fate < 0.2 and rank == 0:
        # It ends without a word to PMI.
        return script
    return [*script, ("mpi", MPI_FINALIZE, 0)]


def _put_stops_in(script: list[Action], random: Random) -> None:
    """Let a process stop itself now and then; mostly somebody lets it go on after so many microseconds."""
    for _ in range(random.randint(1, 4)):
        for_us = random.choice((0, 100, 100, 20_000, 20_000, 400_000, 400_000, 400_000, 3_000_000, -1))
        script.insert(random.randint(0, len(script) - 1), ("stop", random.choice((19, 20)), for_us))
