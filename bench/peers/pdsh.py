"""pdsh: a thread and a local process for each node."""

from __future__ import annotations

from bench.peers.peer import CommandPeer

FANOUT = 64


class Pdsh(CommandPeer):
    """The command runs on this machine instead of through ssh, so that only pdsh's own cost is seen."""

    key, name, how = "pdsh", "pdsh", f"`pdsh -R exec -f {FANOUT} -N`, without daemons, no ssh"
    commands = (("pdsh", "pdsh"),)
    version_command = ("pdsh", "-V")

    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed."""
        return ["pdsh", "-S", "-N", "-R", "exec", "-f", str(FANOUT), "-w", f"n[0-{self.nodes - 1}]", *command]
