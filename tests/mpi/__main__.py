"""``python -m tests.mpi``: unchanged MPI libraries on a real cluster. ``make mpi`` runs it.

MPICH with mpi4py, and Open MPI come from the package index, pinned by hash, into environments of their own;
``--prefix`` names another installation of MPICH, such as ``/usr``. With ``--measure`` it tells how long a start takes,
by turns with a plain launch and with mpiexec of that installation.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.harness import Cluster, Finished, await_that, cluster, command
from tests.cluster.test_failover import kill_head
from tests.mpi.failed import Failed
from tests.mpi.measure import measure
from tests.mpi.open_mpi import OpenMpi

HERE = Path(__file__).resolve().parent
WHERE = HERE.parents[1] / "build" / "mpi"
OPEN_MPI = HERE.parents[1] / "build" / "open-mpi"
TIMEOUT_S = 400
STEPS = "40"
ONE_HOST = {"UCX_TLS": "tcp,self", "FI_PROVIDER": "tcp"}
"""Nodes of an embedded cluster are on one host, and share no memory."""
SUM = "from mpi4py import MPI; c = MPI.COMM_WORLD; print('rank', c.rank, 'of', c.size, 'sum', c.allreduce(c.rank))"


def install(prefix: Path, requirements: str) -> None:
    """Fetch what is not there yet."""
    if not (prefix / "bin" / "mpicc").exists():
        print(f"installing what {requirements} names into {prefix}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
        pip = [str(prefix / "bin" / "python"), "-m", "pip", "-qq", "--no-input", "install"]
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(HERE / requirements)], check=True)


class Suite:
    """Programs on a cluster of eight nodes in a tree of fan-out two, with two heads."""

    def __init__(self, made: Cluster, prefix: Path, directory: Path) -> None:
        self.cluster = made
        self.prefix = prefix
        self.ring = str(directory / "ring")
        compiler, source = str(prefix / "bin" / "mpicc"), str(HERE / "ring.c")
        subprocess.run([compiler, "-O2", "-o", self.ring, source, f"-Wl,-rpath,{prefix}/lib"], check=True)
        srun = directory / "bpsrun"
        srun.write_text(f'#!/bin/sh\nexec {" ".join(command("bpsrun"))} "$@"\n')
        srun.chmod(0o755)
        self.srun = str(srun)

    def run(self, name: str, *words: str) -> Finished:
        """Run one of Heorot's commands."""
        return self.cluster.run(name, *words, deadline_s=TIMEOUT_S)

    def expect_ranks(self, done: Finished, ranks: int) -> None:
        """See that all ranks have said the right sum."""
        wanted = {b"rank %d of %d: sum %d" % (rank, ranks, ranks * (ranks - 1) // 2) for rank in range(ranks)}
        found = {line.replace(b" sum", b": sum") if b":" not in line else line for line in done.stdout.splitlines()}
        if done.returncode or found != wanted:
            raise Failed(f"status {done.returncode}, {len(found & wanted)} of {ranks} ranks: {done.stderr.decode()}")

    # ------------------------------------------------------------------ checks, each with the number of its ranks

    def ring_on_eight(self) -> str:
        """Ring and sum, 8 ranks on 8 nodes."""
        self.expect_ranks(self.run("bpsh", "--mpi", "n[0-7]", self.ring), 8)
        return ""

    def ring_of_128(self) -> str:
        """Ring and sum, 128 ranks on 8 nodes."""
        self.expect_ranks(self.run("mpprun", "-np", "128", self.ring), 128)
        return ""

    def latency(self) -> str:
        """A byte there and back, 2 ranks on 2 nodes."""
        done = self.run("bpsh", "--mpi", "n[0-1]", self.ring, "latency", "2000")
        self.expect_ranks(done, 2)
        return done.stderr.decode().strip()

    def python(self) -> str:
        """mpi4py: a sum, 8 ranks on 8 nodes."""
        python = self.prefix / "bin" / "python"
        if not python.exists():
            return "there is no Python in this installation"
        self.expect_ranks(self.run("bpsh", "--mpi", "n[0-7]", str(python), "-c", SUM), 8)
        return ""

    def abort(self) -> str:
        """MPI_Abort with 7, 8 ranks."""
        done = self.run("bpsh", "--mpi", "n[0-7]", self.ring, "abort", "7")
        if done.returncode != 7:
            raise Failed(f"status {done.returncode}: {done.stderr.decode()}")
        return "status 7"

    def heads_die(self) -> str:
        """The active head is killed in MPI_Init, between barriers and in MPI_Finalize, 8 ranks."""
        killed = 0
        with self.cluster.start("bpsh", "--mpi", "n[0-7]", self.ring, "steps", STEPS) as process:
            while process.poll() is None and killed < 3:
                kill_head(self.cluster)
                killed += 1
            self.expect_ranks(Finished((), *process.outcome()), 8)
        return f"{killed} heads"

    def node_dies(self) -> str:
        """A node is killed between barriers, 8 ranks."""
        with self.cluster.start("bpsh", "--mpi", "n[0-7]", self.ring, "steps", "1000") as process:
            await_that(lambda: any(row["running"] == 8 for row in self.cluster.jobs()), "all ranks running")
            os.kill(self.cluster.node(5)["init_pid"], 9)
            status, _, errors = process.outcome()
        if status != 255 or b"n5 went down" not in errors:
            raise Failed(f"status {status}: {errors.decode()}")
        self.cluster.check("heorot", "node", "start", "n5")
        self.cluster.await_up()
        return "status 255, n5 is named"

    def hydra(self) -> str:
        """mpiexec -launcher slurm -launcher-exec bpsrun, 16 ranks on 8 nodes."""
        hosts = ",".join(f"n{number}" for number in range(8))
        words = ["-launcher", "slurm", "-launcher-exec", self.srun, "-hosts", hosts, "-iface", "lo", "-n", "16"]
        before = len(self.cluster.jobs())
        done = subprocess.run(
            [self.prefix / "bin" / "mpiexec", *words, self.ring],
            env=self.cluster.environment, capture_output=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        self.expect_ranks(Finished((), done.returncode, done.stdout, done.stderr), 16)
        return f"{len(self.cluster.jobs()) - before} job"

    @property
    def checks(self) -> list[Callable[[], str]]:
        """All of them."""
        return [
            self.ring_on_eight, self.ring_of_128, self.latency, self.python, self.abort, self.heads_die, self.node_dies,
            self.hydra,
        ]  # fmt: skip


def ring_of_64(made: Cluster, ring: str) -> None:
    """Ring and sum, 64 ranks on 64 nodes."""
    done = made.run("bpsh", "--mpi", "-a", ring, deadline_s=TIMEOUT_S)
    if done.returncode or len(done.stdout.splitlines()) != 64:
        raise Failed(f"status {done.returncode}: {done.stderr.decode()}")


def run_all(prefix: Path, directory: Path, repeat: int) -> int:
    """Run all checks; return how many failed."""
    failed = 0

    def check(what: str, act: Callable[[], str | None]) -> None:
        nonlocal failed
        begun, found = time.monotonic(), "ok"
        try:
            more = act()
        except (Failed, AssertionError, subprocess.TimeoutExpired) as error:
            failed += 1
            found, more = "FAILED", str(error)[:2000]
        print(f"{found:7} {time.monotonic() - begun:6.1f} s  {what}  {more or ''}", flush=True)

    with cluster(8, "--fanout", "2", "--heads", "2", environment=ONE_HOST) as made:
        suite = Suite(made, prefix, directory)
        for _ in range(repeat):
            for act in suite.checks:
                check(act.__doc__ or "", act)
            for act in OpenMpi(made, OPEN_MPI, directory).checks:
                check(act.__doc__ or "", act)
    with cluster(64, "--fanout", "8", environment=ONE_HOST) as made:
        check(ring_of_64.__doc__ or "", lambda: ring_of_64(made, str(directory / "ring")))
    return failed


def main() -> int:
    """Return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.mpi", description=__doc__)
    parser.add_argument("--prefix", type=Path, default=WHERE, help="where bin/mpicc and bin/mpiexec are")
    parser.add_argument("--repeat", type=int, default=1, help="how often each check is made")
    parser.add_argument("--measure", type=int, default=0, metavar="TURNS", help="measure starts on 64 nodes instead")
    options = parser.parse_args()
    if options.prefix == WHERE:
        install(WHERE, "requirements.txt")
    if not options.measure:
        install(OPEN_MPI, "requirements_open_mpi.txt")
    with tempfile.TemporaryDirectory(prefix="mpi.") as directory:
        if options.measure:
            measure(options.prefix, Path(directory), options.measure)
            return 0
        return min(1, run_all(options.prefix, Path(directory), options.repeat))


if __name__ == "__main__":
    sys.exit(main())
