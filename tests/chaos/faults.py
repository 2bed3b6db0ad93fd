"""What the chaos runs do to a cluster of many hosts. Each fault strikes, lasts for a while, and is healed."""

from __future__ import annotations

import signal
import threading
from random import Random
from typing import ClassVar

from tests.chaos.network import HeadHost, HostsCluster, children, send_signal
from tests.hosts.hosts import Host

BRIEF_S = (1.5, 3.0)
"""Long enough for links to be given up, too short for a node to be called lost (`node_grace_ms`)."""
BEYOND_LEASE_S = (4.5, 7.0)


class Fault:
    """One fault; `active` is the head that leads when it strikes."""

    loss: ClassVar[str] = ""
    """How the active head is lost, if it is: its `process` (the lease is given up at once), its `host` (the lease runs
    out), or as `planned`."""
    lasts_s: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, cluster: HostsCluster, active: HeadHost, random: Random) -> None:
        self.cluster = cluster
        self.active = active
        self.random = random
        self.for_s = random.uniform(*self.lasts_s)

    def __str__(self) -> str:
        return f"{self.active.name} leads, for {self.for_s:.1f} s"

    def strike(self) -> None:
        """Do it."""
        raise NotImplementedError

    def heal(self) -> None:
        """Undo it."""


class HeadKilled(Fault):
    """The active head's process is killed."""

    loss = "process"

    def strike(self) -> None:
        send_signal([self.active.head_pid() or self.active.keeper_pid], signal.SIGKILL)


class KeeperKilled(Fault):
    """The active head's keeper is killed, and its head with it; both come back after a second."""

    loss = "host"

    def strike(self) -> None:
        self.cluster.kill(self.active.host, "bphead")


class HostCrashed(Fault):
    """All processes of the active head are killed at once, and do not come back for a while."""

    loss = "host"
    lasts_s = BEYOND_LEASE_S

    def strike(self) -> None:
        pids = self.active.pids()
        self.cluster.kill(self.active.host, "bphead", hold=True)
        send_signal(pids, signal.SIGKILL)

    def heal(self) -> None:
        self.cluster.release(self.active.host, "bphead")


class HostPaused(Fault):
    """All processes of the active head stop, and go on after their lease has run out."""

    loss = "host"
    lasts_s = BEYOND_LEASE_S

    def strike(self) -> None:
        self.pids = self.active.pids()
        send_signal(self.pids, signal.SIGSTOP)

    def heal(self) -> None:
        # The head first: it has a moment in which its keeper does not know either.
        send_signal(self.pids[::-1], signal.SIGCONT)


class _Cut(Fault):
    """The active head's host and `others` do not hear each other."""

    outward: ClassVar[bool] = True
    inward: ClassVar[bool] = True

    def others(self) -> list[Host]:
        """Return who is cut off from it."""
        return [host for host in self.cluster.network.hosts.values() if host is not self.active.host]

    def strike(self) -> None:
        network, own = self.cluster.network, self.active.host
        self.far = self.others()
        if self.outward:
            network.cut(own, self.far)
        if self.inward:
            for host in self.far:
                network.cut(host, [own])

    def heal(self) -> None:
        network, own = self.cluster.network, self.active.host
        if self.outward:
            network.mend(own, self.far)
        if self.inward:
            for host in self.far:
                network.mend(host, [own])


class HostCut(_Cut):
    """The active head's host is cut off from everything."""

    loss = "host"
    lasts_s = BEYOND_LEASE_S

    def strike(self) -> None:
        self.cluster.network.unplug(self.active.host)

    def heal(self) -> None:
        self.cluster.network.unplug(self.active.host, back=True)


class HostMute(_Cut):
    """Nobody hears the active head's host; it hears all others."""

    loss = "host"
    lasts_s = BEYOND_LEASE_S
    inward = False


class HostDeaf(_Cut):
    """The active head's host hears nobody; all others hear it."""

    loss = "host"
    lasts_s = BEYOND_LEASE_S
    outward = False


class CutFromEtcd(_Cut):
    """The active head's host is cut off from the store, and from nothing else."""

    lasts_s = BEYOND_LEASE_S

    def others(self) -> list[Host]:
        return self.cluster.etcds


class CutFromNodes(_Cut):
    """The active head's host is cut off from the nodes for a short time, and keeps its lease."""

    lasts_s = BRIEF_S

    def others(self) -> list[Host]:
        return self.cluster.nodes


class MuteToNodes(CutFromNodes):
    """The nodes do not hear the active head; it hears them."""

    inward = False


class DeafToNodes(CutFromNodes):
    """The active head does not hear the nodes; they hear it."""

    outward = False


class NodesCut(Fault):
    """Some nodes are cut off from everything for a short time."""

    lasts_s = BRIEF_S

    def strike(self) -> None:
        self.hosts = self.random.sample(self.cluster.nodes, min(3, len(self.cluster.nodes)))
        for host in self.hosts:
            self.cluster.network.unplug(host)

    def heal(self) -> None:
        for host in self.hosts:
            self.cluster.network.unplug(host, back=True)


class NodesPaused(Fault):
    """The daemons of some nodes stop for a while: no host is gone, and no rank is lost."""

    lasts_s = (2.0, 4.0)

    def __init__(self, cluster: HostsCluster, active: HeadHost, random: Random) -> None:
        super().__init__(cluster, active, random)
        self.hosts = random.sample(cluster.nodes, min(4, len(cluster.nodes)))

    def __str__(self) -> str:
        return f"{super().__str__()} {[host.directory.name for host in self.hosts]}"

    def strike(self) -> None:
        own = [daemon.pid for host in self.hosts for daemon in host.daemons.values()]
        self.pids = [pid for parent in own for pid in (parent, *children(parent))]
        # They wake up at their time, however long another fault lasts.
        self._waking = threading.Timer(self.for_s, send_signal, (self.pids[::-1], signal.SIGCONT))
        send_signal(self.pids, signal.SIGSTOP)
        self._waking.start()

    def heal(self) -> None:
        self._waking.join()


class AgentsKilled(Fault):
    """Some agents are killed."""

    def strike(self) -> None:
        for host in self.random.sample(self.cluster.nodes, min(4, len(self.cluster.nodes))):
            self.cluster.kill(host, "bpnode")


class StandbyKilled(Fault):
    """A standby head is killed with all that it has."""

    def strike(self) -> None:
        head = self.random.choice([head for head in self.cluster.heads if head is not self.active])
        pids = head.pids()
        self.cluster.kill(head.host, "bphead")
        send_signal(pids, signal.SIGKILL)


class StandbyCut(Fault):
    """A standby head's host is cut off from everything."""

    lasts_s = BEYOND_LEASE_S

    def strike(self) -> None:
        self.head = self.random.choice([head for head in self.cluster.heads if head is not self.active])
        self.cluster.network.unplug(self.head.host)

    def heal(self) -> None:
        self.cluster.network.unplug(self.head.host, back=True)


class MemberKilled(Fault):
    """A member of etcd is killed, and comes back with its data."""

    def strike(self) -> None:
        self.cluster.kill(self.random.choice(self.cluster.etcds), "etcd")


class MajorityLost(Fault):
    """Two of the three members of etcd are killed, and come back after a while."""

    lasts_s = BEYOND_LEASE_S

    def strike(self) -> None:
        self.hosts = self.random.sample(self.cluster.etcds, 2)
        for host in self.hosts:
            self.cluster.kill(host, "etcd", hold=True)

    def heal(self) -> None:
        for host in self.hosts:
            self.cluster.release(host, "etcd")


class Switched(Fault):
    """The active head hands over on purpose."""

    loss = "planned"

    def strike(self) -> None:
        self.active.clients.check("heorot", "head", "switch")


class HeadAdded(Fault):
    """Another host becomes a head."""

    def strike(self) -> None:
        self.cluster.add_head(self.active)


class HeadRemoved(Fault):
    """A head that does not lead is removed for good, from the active one's host: the oldest but the first of all."""

    def strike(self) -> None:
        self.gone = next(head for head in self.cluster.heads[1:] if head is not self.active)
        self.cluster.remove_head(self.active, self.gone)

    def heal(self) -> None:
        self.cluster.switch_off(self.gone)


LOSSES: list[type[Fault]] = [HeadKilled, KeeperKilled, HostCrashed, HostPaused, HostCut, HostMute, HostDeaf]
OTHERS: list[type[Fault]] = [
    CutFromNodes, MuteToNodes, DeafToNodes, NodesCut, NodesPaused, AgentsKilled, StandbyKilled, StandbyCut,
    MemberKilled, MajorityLost, CutFromEtcd,
]  # fmt: skip
