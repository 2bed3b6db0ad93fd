"""Hydra, the process manager of MPICH: a proxy for each node and launch."""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import CommandPeer

AGENT = """\
#!/bin/sh
# In place of ssh: -x HOST COMMAND..., which ssh's shell would parse, too; but each HOST is this machine.
shift 2
eval "exec $*"
"""


class Hydra(CommandPeer):
    """``mpiexec`` with an agent in place of ssh. Its own launcher ``fork`` dies of SIGPIPE above 16 hosts."""

    key, name = "hydra", "Hydra"
    how = (
        "`mpiexec -launcher-exec AGENT -hosts 127.0.0.1,... -ppn 1`,"
        " a proxy for each node and launch, started here; no ssh"
    )
    wheels = (("mpich", "bin/mpiexec.hydra"),)

    def start(self) -> None:
        """Write the agent."""
        self._agent = self.place.directory / "agent"
        self._agent.write_text(AGENT)
        self._agent.chmod(0o755)

    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed."""
        # Above 16 hosts proxies start proxies, and find each other by these names: any address of the loopback will do.
        hosts = ",".join(f"127.0.{number // 256}.{number % 256}" for number in range(1, self.nodes + 1))
        launcher = ["-launcher", "ssh", "-launcher-exec", str(self._agent)]
        program = str(Path(self.place.python).parent / "mpiexec.hydra")
        return [program, *launcher, "-hosts", hosts, "-ppn", "1", "-n", str(self.nodes), *command]
