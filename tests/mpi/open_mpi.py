"""Open MPI by its own launcher, which starts a daemon on each node by `bprsh` in place of ssh."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cluster.harness import Cluster, Finished, Running, await_that, command
from tests.cluster.test_failover import kill_head
from tests.mpi.failed import Failed

NODES = 8
RANKS = 2 * NODES
DEADLINE_S = 120


class OpenMpi:
    """Programs on a cluster of eight nodes with two heads."""

    def __init__(self, made: Cluster, prefix: Path, directory: Path) -> None:
        self.cluster = made
        self.prefix = prefix
        self.ring = str(directory / "ring-open-mpi")
        source = Path(__file__).resolve().parent / "ring.c"
        subprocess.run([prefix / "bin" / "mpicc", "-O2", "-o", self.ring, source], check=True)
        agent = directory / "bprsh"
        agent.write_text(f'#!/bin/sh\nexec {" ".join(command("bprsh"))} "$@"\n')
        agent.chmod(0o755)
        self.environment = {
            **made.environment,
            "PRTE_MCA_plm_ssh_agent": str(agent),
            "PRTE_MCA_prte_leave_session_attached": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }

    def start(self, *words: str) -> Running:
        """Start sixteen ranks by mpirun."""
        hosts = ",".join(f"n{number}:2" for number in range(NODES))
        return Running(
            [str(self.prefix / "bin" / "mpirun"), "--host", hosts, "-np", str(RANKS), self.ring, *words],
            bufsize=0, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> Finished:
        """Run sixteen ranks to their end, and see that nothing of them is left."""
        with self.start(*words) as process:
            return self.outcome(process)

    def outcome(self, process: Running) -> Finished:
        """Wait for the end of a program, and until nothing of it is left."""
        output, errors = process.communicate(timeout=DEADLINE_S)
        await_that(lambda: not self.cluster.processes(), "nothing left of what mpirun has started")
        return Finished((), process.returncode, output, errors)

    def expect_all(self, done: Finished) -> None:
        """See that all ranks have said the right sum."""
        wanted = {b"rank %d of %d: sum %d" % (rank, RANKS, RANKS * (RANKS - 1) // 2) for rank in range(RANKS)}
        if done.returncode or set(done.stdout.splitlines()) != wanted:
            raise Failed(f"status {done.returncode}: {done.stdout.decode()}{done.stderr.decode()}")

    # ------------------------------------------------------------------ checks

    def sums(self) -> str:
        """Open MPI's mpirun over bprsh: ring and sum, 16 ranks on 8 nodes."""
        self.expect_all(self.run())
        return ""

    def abort(self) -> str:
        """Open MPI's mpirun over bprsh: MPI_Abort with 7."""
        done = self.run("abort", "7")
        if done.returncode != 7:
            raise Failed(f"status {done.returncode}: {done.stderr.decode()}")
        return "status 7"

    def head_dies(self) -> str:
        """Open MPI's mpirun over bprsh: the active head is killed between barriers."""
        with self.start("steps", "100") as process:
            await_that(lambda: len(self._ranks()) == RANKS, "all ranks running")
            kill_head(self.cluster)
            self.expect_all(self.outcome(process))
        return ""

    def rank_dies(self) -> str:
        """Open MPI's mpirun over bprsh: a rank is killed between barriers."""
        with self.start("steps", "1000") as process:
            await_that(lambda: len(self._ranks()) == RANKS, "all ranks running")
            self.cluster.check("bpkill", "-9", str(self._ranks()[0]))
            done = self.outcome(process)
        if done.returncode != 137:
            raise Failed(f"status {done.returncode}: {done.stderr.decode()}")
        return "status 137"

    def node_is_down(self) -> str:
        """Open MPI's mpirun over bprsh: a node is down."""
        os.kill(self.cluster.node(3)["init_pid"], 9)
        await_that(lambda: self.cluster.node(3)["state"] == "down", "n3 down")
        done = self.run()
        self.cluster.check("heorot", "node", "start", "n3")
        self.cluster.await_up()
        if done.returncode != 255 or b"n3 is down" not in done.stderr:
            raise Failed(f"status {done.returncode}: {done.stderr.decode()}")
        return "status 255, n3 is named"

    def _ranks(self) -> list[int]:
        return [row["pid"] for row in self.cluster.processes() if row["argv"][:1] == [self.ring]]

    @property
    def checks(self) -> list[Callable[[], str]]:
        """All of them."""
        return [self.sums, self.abort, self.head_dies, self.rank_dies, self.node_is_down]
