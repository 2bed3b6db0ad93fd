"""ClusterShell: a local process for each node."""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import CommandPeer
from bench.peers.results import KINDS

FANOUT = 64


class Clush(CommandPeer):
    """The command runs on this machine instead of through ssh, so that only clush's own cost is seen."""

    key, name, how = "clush", "clush", f"`clush -R exec -f {FANOUT} -N`, without daemons, no ssh; `--copy` is `cp`"
    kinds = KINDS
    commands = (("clush", "clustershell"),)
    version_command = ("clush", "--version")

    def _start(self) -> list[str]:
        return ["clush", "-R", "exec", "-f", str(FANOUT), "-w", f"n[0-{self.nodes - 1}]"]

    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed."""
        return [*self._start(), "-N", *command]

    def copy_argv(self, source: Path, target: Path) -> list[str]:
        """Return what is typed."""
        return [*self._start(), "--copy", str(source), "--dest", f"{target}.%h"]

    def targets(self, target: Path) -> list[Path]:
        """Return a file for each node: `cp` would not write all into one at the same time."""
        return [Path(f"{target}.n{number}") for number in range(self.nodes)]
