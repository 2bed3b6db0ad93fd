"""Slurm: a slurmd for each node, all on this machine, with a controller and a munged of their own."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from bench.peers import processes
from bench.peers.peer import START_LIMIT_S, CommandPeer, PeerError
from bench.peers.results import KINDS

FIRST_PORT, LAST_PORT = 20000, 32000
"""Ports are taken from below those that the kernel gives to clients."""
POLL_S = 0.2
ASK_LIMIT_S = 30.0

CONFIGURATION = """\
ClusterName=peers
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
NodeName=n[0-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs=1 RealMemory=64
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> int:
    """Return the first of so many neighbouring TCP ports that nobody listens on. Raises PeerError."""
    first = FIRST_PORT
    for port in range(FIRST_PORT, LAST_PORT):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                first = port + 1
        if port + 1 - first == count:
            return first
    raise PeerError(f"did not start: there are no {count} free ports beside each other")


class Slurm(CommandPeer):
    """One allocation of all nodes, held; each work is a step in it."""

    key, name = "slurm", "Slurm"
    how = "`srun` and `sbcast` within one allocation of all nodes, a slurmd each, munge, no cgroups"
    kinds = KINDS
    commands = (
        ("munged", "munge"),
        ("slurmctld", "slurmctld"),
        ("slurmd", "slurmd"),
        ("srun", "slurm-client"),
        ("sbcast", "slurm-client"),
    )
    version_command = ("slurmd", "-V")

    def start(self) -> None:
        """Start munged, controller and nodes; wait until all are idle, and allocate them."""
        directory = self.place.directory
        host = socket.gethostname()
        first = free_ports(self.nodes + 1)
        (directory / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host,
                port=first,
                user=pwd.getpwuid(os.getuid()).pw_name,
                directory=directory,
                last=self.nodes - 1,
                first_port=first + 1,
                last_port=first + self.nodes,
            )
        )
        (directory / "state").mkdir()
        self.place.environment |= {"SLURM_CONF": str(directory / "slurm.conf")}
        self._start_munged(directory)
        self.daemon(["slurmctld", "-D"], "slurmctld.log")
        self._nodes = [self.daemon(["slurmd", "-D", "-N", f"n{number}"], "slurmd.log") for number in range(self.nodes)]
        self._await_idle()
        said = self._ask("salloc", "--no-shell", "-N", str(self.nodes), "-n", str(self.nodes))
        numbers = [word for word in said.split() if word.isdigit()]
        if not numbers:
            raise PeerError("did not start: the nodes could not be allocated", said)
        self.place.environment |= {"SLURM_JOB_ID": numbers[0]}

    def _start_munged(self, directory: Path) -> None:
        key = directory / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        options = [f"--{kind}-file={directory}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
        socket_path = directory / "munge.socket"
        self.daemon(["munged", "--foreground", "--force", f"--socket={socket_path}", *options], "munged.log")
        deadline = time.monotonic() + ASK_LIMIT_S
        while not socket_path.exists():
            if time.monotonic() > deadline:
                raise PeerError("did not start: munged has no socket", self.said("munged.log"))
            time.sleep(POLL_S)

    def _await_idle(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        states = ""
        while time.monotonic() < deadline:
            states = self._ask("sinfo", "--noheader", "--format=%D %T").strip()
            if states == f"{self.nodes} idle":
                return
            for process in self.running:
                if process.poll() is not None:
                    raise PeerError(
                        f"did not start: {Path(str(process.args[0])).name} ended with {process.returncode}",  # type: ignore[index]
                        self.said("slurmctld.log") + self.said("slurmd.log"),
                    )
            time.sleep(POLL_S)
        raise PeerError(f"did not start: not all nodes came up in {START_LIMIT_S:.0f} s", states)

    def _ask(self, *argv: str) -> str:
        """Return all that one of Slurm's commands says; nothing if it takes too long."""
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                argv,
                env=self.place.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=ASK_LIMIT_S,
                check=False,
            )
            return done.stdout
        return ""

    def stop(self) -> None:
        """Give the nodes back, then end nodes, controller and munged."""
        if job := self.place.environment.pop("SLURM_JOB_ID", ""):
            self._ask("scancel", job)
        running, self.running = self.running, []
        processes.end(reversed(running))

    def daemon_pids(self) -> list[list[int]]:
        """Return the slurmd of each node."""
        return [[process.pid] for process in self._nodes]

    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed: a step on all nodes of the allocation."""
        return ["srun", "-N", str(self.nodes), "-n", str(self.nodes), *command]

    def copy_argv(self, source: Path, target: Path) -> list[str]:
        """Return what is typed."""
        return ["sbcast", "-f", str(source), str(target)]
