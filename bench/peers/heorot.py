"""Heorot itself, as a command and as a library: one cluster for both."""

from __future__ import annotations

import json
from pathlib import Path

from bench.cluster import BenchError, Cluster, command
from bench.peers.peer import CommandPeer, DrivenPeer, PeerError, own_python
from bench.peers.results import KINDS
from heorot import __version__


class Shared:
    """The cluster that both use: the first that begins starts it, the last that stops ends it."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self._users = 0

    def start(self, nodes: int) -> Cluster:
        """Return the cluster, started if it was not. Raises PeerError."""
        self._users += 1
        if self.cluster is None:
            cluster = Cluster(nodes)
            try:
                cluster.__enter__()
            except BenchError as error:
                raise PeerError("heorot up failed", str(error)) from None
            self.cluster = cluster
        return self.cluster

    def stop(self) -> None:
        """End it if nobody else uses it."""
        self._users -= 1
        if self._users <= 0 and self.cluster is not None:
            cluster, self.cluster = self.cluster, None
            cluster.__exit__(None, None, None)


def _pids(cluster: Cluster) -> list[list[int]]:
    pids = cluster.daemon_pids()
    return [list(pair) for pair in zip(pids["agents"], pids["inits"], strict=True)]


class HeorotCommand(CommandPeer):
    """``bpsh`` and ``bpcp``."""

    key, name, how = "heorot-command", "Heorot, command", "`bpsh -a`, `bpcp FILE all:FILE`"
    kinds = KINDS

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def version(self) -> str:
        """Return that of the package."""
        return __version__

    def start(self) -> None:
        """Start the cluster."""
        cluster = self._shared.start(self.nodes)
        self.place.environment |= {"HEOROT_DIR": str(cluster.directory)}

    def stop(self) -> None:
        """End the cluster, unless the library uses it still."""
        self._shared.stop()

    def daemon_pids(self) -> list[list[int]]:
        """Return agent and bpinit of each node."""
        return _pids(self._shared.cluster) if self._shared.cluster is not None else []

    def argv(self, command_line: list[str]) -> list[str]:
        """Return what is typed."""
        return [command("bpsh"), "-a", *command_line]

    def copy_argv(self, source: Path, target: Path) -> list[str]:
        """Return what is typed."""
        return [command("bpcp"), "-q", str(source), f"all:{target}"]


class HeorotLibrary(DrivenPeer):
    """A program that is connected and runs job after job."""

    key, name, how = "heorot-library", "Heorot, library", "`spawn` and `copy_to` over one connection"
    kinds = KINDS
    driver = "heorot"

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def version(self) -> str:
        """Return that of the package."""
        return __version__

    def interpreter(self) -> str:
        """Return the Python that has Heorot."""
        return own_python()

    def arguments(self) -> list[str]:
        """Return the cluster's directory and the PIDs."""
        assert self._shared.cluster is not None
        return [str(self._shared.cluster.directory), json.dumps(_pids(self._shared.cluster))]

    def start(self) -> None:
        """Start the cluster if it is not there, and the driver."""
        self._shared.start(self.nodes)
        super().start()

    def stop(self) -> None:
        """End the driver, then the cluster unless the commands use it still."""
        super().stop()
        self._shared.stop()
