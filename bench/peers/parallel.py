"""GNU parallel: a job for each node."""

from __future__ import annotations

from bench.peers.peer import CommandPeer

JOBS = 64


class Parallel(CommandPeer):
    """Jobs on this machine."""

    key, name, how = "parallel", "GNU parallel", f"`parallel -j {JOBS}`, without daemons, no ssh"
    commands = (("parallel", "parallel"),)
    version_command = ("parallel", "--version")

    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed."""
        numbers = [str(number) for number in range(self.nodes)]
        return ["parallel", "--will-cite", "-j", str(JOBS), "-N0", *command, ":::", *numbers]
