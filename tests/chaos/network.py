"""A cluster of many hosts for the chaos runs: etcd, heads and nodes, each on a network of its own, under supervision.

Hosts are network namespaces on a bridge. Three have a member of etcd each, the next ones a head (`bphead`, and the
users' commands), all others are nodes (`bpinit` and `bpnode`). What dies is started again as a service manager
would do it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from heorot.config.files import Address
from heorot.config.text import render_head, render_node
from heorot.runtime import state
from heorot.security.authority import Authority
from heorot.security.registry import NodeRecord, Registry
from tests.cluster.harness import Cluster, await_that, is_alive
from tests.hosts.hosts import Host, Network

ETCD_MEMBERS = 3
HEAD_PORT, NODE_PORT, ETCD_PORT, ETCD_PEER_PORT = 7733, 7734, 2379, 2380
RESTART_S = {"bphead": 1.0, "bpnode": 0.2, "etcd": 1.0}
"""As in the units of systemd that come with Heorot."""
TEND_S = 0.02
END_S = 10.0
YOUNG_S = 5.0
"""A launch on a node that began less than a second before it is refused, and rightly so, when the head is lost then; a
bpinit counts from its agent's first word, up to two seconds after its own start."""
CALM_S = 60.0
"""How long a cluster that was healed may take to be whole again before that is called hanging."""


def children(pid: int) -> list[int]:
    """Return the PIDs of a process's children."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class HeadHost:
    """One host with a head."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.directory = host.directory / "heads" / name
        self.clients = Cluster(host.directory)
        """For the commands of this host's users. They speak to a socket in its directory only, so that they need not
        run in its namespace."""

    @property
    def keeper_pid(self) -> int:
        """The keeper's PID; 0 while it is gone."""
        process = self.host.daemons.get("bphead")
        return process.pid if process is not None and process.poll() is None else 0

    def pids(self) -> list[int]:
        """Return all processes of the head here, the keeper first."""
        keeper = self.keeper_pid
        return [keeper, *children(keeper)] if keeper else []

    def head_pid(self) -> int:
        """Return the PID of the head's process if it leads, or thinks so; else 0."""
        with suppress(OSError, ValueError):
            known = json.loads(state.recall(self.directory, "keeper.json"))
            pid = int(known["head_pid"])
            if known["role"] == "active" and pid in self.pids() and is_alive(pid):
                return pid
        return 0

    def epoch(self) -> int:
        """Return the last epoch that this head has led in."""
        return int(state.recall(self.directory, "epoch") or 0)


class HostsCluster:
    """The hosts, and what runs on them."""

    def __init__(self, network: Network, heads: int, nodes: int, lease_ms: int, fanout: int) -> None:
        self.network = network
        self.etcds = [network.host(f"e{number}") for number in range(ETCD_MEMBERS)]
        self.heads = [HeadHost(network.host(f"h{number}"), f"h{number}") for number in range(heads)]
        self.nodes = [network.host(f"n{number}") for number in range(nodes)]
        self._heads_made = heads
        self._held: set[tuple[str, str]] = set()
        self._ended_s: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._configure(lease_ms, fanout)

    # ------------------------------------------------------------------ set up and down

    def _configure(self, lease_ms: int, fanout: int) -> None:
        """Write all that the daemons need; what commands do that on real hosts is shown by `tests/hosts`."""
        first = self.heads[0].host.directory
        authority = Authority.create(first / "ca", "chaos")
        addresses = [Address(head.host.address, HEAD_PORT) for head in self.heads]
        store = f'[store]\nkind = "etcd"\nendpoints = {json.dumps(self._urls())}\nlease_ms = {lease_ms}\n'
        registry = Registry(first)
        for number, host in enumerate(self.nodes):
            identity = authority.issue_node(number)
            identity.write(host.directory / "nodes" / f"n{number}")
            key = identity.certificate.public_key()
            assert isinstance(key, Ed25519PublicKey)
            registry.put(NodeRecord(number, f"n{number}", key.public_bytes_raw().hex(), "", 0))
            text = render_node(
                cluster=authority.cluster,
                directory=str(host.directory),
                number=number,
                listen=Address(host.address, NODE_PORT),
                heads=addresses,
                capacity=1023,
                socket="",
            )
            host.config.write_text(text)
        for head, address in zip(self.heads, addresses, strict=True):
            authority.issue_head(head.name).write(head.directory)
            if head.host.directory != first:
                shutil.copy(registry.path, head.host.directory)
            head.host.config = head.host.directory / "head.toml"
            text = render_head(
                cluster=authority.cluster,
                directory=str(head.host.directory),
                name=head.name,
                listen=address,
                addresses=addresses,
                socket=str(head.host.directory / "head.sock"),
            )
            text = text.replace("[store]\n", store)
            head.host.config.write_text(text.replace("[tree]\n", f"[tree]\nfanout = {fanout}\n"))

    def _urls(self) -> list[str]:
        return [f"http://{host.address}:{ETCD_PORT}" for host in self.etcds]

    def _etcd_argv(self, host: Host) -> list[str]:
        here, peers = f"http://{host.address}:{ETCD_PORT}", f"http://{host.address}:{ETCD_PEER_PORT}"
        everybody = ",".join(f"{other.directory.name}=http://{other.address}:{ETCD_PEER_PORT}" for other in self.etcds)
        return [
            shutil.which("etcd") or "etcd",
            *("--name", host.directory.name, "--data-dir", str(host.directory / "data"), "--logger", "zap"),
            *("--listen-client-urls", here, "--advertise-client-urls", here),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", everybody),
        ]

    def start(self) -> None:
        """Start everything and wait until it is whole."""
        for host in self.etcds:
            host.start("etcd", self._etcd_argv(host))
        for node in self.nodes:
            node.start("bpinit")
        for head in self.heads:
            head.host.start("bphead")
        for number, node in enumerate(self.nodes):
            socket = node.directory / "nodes" / f"n{number}" / "init.sock"
            await_that(socket.exists, f"bpinit of n{number} listens")
            node.start("bpnode")
        self._supervisor.start()
        self.await_calm()

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        processes = [process for host in self.network.hosts.values() for process in host.daemons.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for host in self.network.hosts.values():
            host.daemons.clear()

    # ------------------------------------------------------------------ growing and shrinking

    def add_head(self, by: HeadHost) -> HeadHost:
        """Make another host a head, as an administrator does on the host of `by`; nothing is restarted."""
        name = f"h{self._heads_made}"
        self._heads_made += 1
        with self._lock:
            host = self.network.host(name)
        host.config, bundle = host.directory / "head.toml", host.directory / "bundle"
        arguments = ("--address", host.address, "--config", by.host.config, "--output", bundle)
        self._administer(by.host, "add", name, *arguments)
        arguments = ("--listen", f"{host.address}:{HEAD_PORT}", "--dir", host.directory, "--config", host.config)
        self._administer(host, "join", bundle, *arguments, "--socket", host.directory / "head.sock")
        with self._lock:
            host.start("bphead")
        head = HeadHost(host, name)
        self.heads.append(head)
        return head

    def remove_head(self, by: HeadHost, gone: HeadHost) -> None:
        """Take a head out, on the host of `by`; its daemons run on until `switch_off`."""
        self._administer(by.host, "remove", gone.name, "--config", by.host.config)
        self.heads.remove(gone)

    def switch_off(self, gone: HeadHost) -> None:
        """End what runs on the host of a head that was removed, and cut its cable."""
        with self._lock:
            process = gone.host.daemons.pop("bphead")
        process.terminate()
        process.wait(END_S)
        self.network.unplug(gone.host)

    def _administer(self, host: Host, what: str, *arguments: object) -> None:
        done = host.run("heorot", "head", what, *arguments)
        assert done.returncode == 0, f"heorot head {what} on {host.directory.name}: {done.stderr}"

    # ------------------------------------------------------------------ supervision

    def _supervise(self) -> None:
        while not self._closing.wait(TEND_S):
            with self._lock:
                for host in self.network.hosts.values():
                    for daemon in list(host.daemons):
                        self._tend(host, daemon)

    def _tend(self, host: Host, daemon: str) -> None:
        key = (host.directory.name, daemon)
        if host.daemons[daemon].poll() is None or key in self._held or daemon not in RESTART_S:
            return
        now_s = time.monotonic()
        if now_s - self._ended_s.setdefault(key, now_s) >= RESTART_S[daemon]:
            del self._ended_s[key]
            host.start(daemon, self._etcd_argv(host) if daemon == "etcd" else ())

    def kill(self, host: Host, daemon: str, *, hold: bool = False) -> None:
        """Kill a daemon with -9; `hold`: it is started again only after `release`."""
        with self._lock:
            if hold:
                self._held.add((host.directory.name, daemon))
            host.daemons[daemon].kill()
            host.daemons[daemon].wait()

    def release(self, host: Host, daemon: str) -> None:
        """Have a daemon started again that was held."""
        with self._lock:
            self._held.discard((host.directory.name, daemon))

    # ------------------------------------------------------------------ how it is

    def active(self) -> HeadHost | None:
        """Return the head that leads: of those that think so, the one with the highest epoch."""
        leading = [head for head in self.heads if head.head_pid()]
        return max(leading, key=lambda head: head.epoch(), default=None)

    def node_epoch(self, number: int) -> int:
        """Return the highest epoch that a node has seen, as it is on its disk."""
        return int(state.recall(self.nodes[number].directory / "nodes" / f"n{number}" / "state", "epoch") or 0)

    def lacks(self) -> str:
        """Say what is not whole; empty: everything is."""
        down = [key for host in self.network.hosts.values() for key, process in host.daemons.items() if process.poll()]
        if down:
            return f"not running: {down}"
        active = self.active()
        if active is None:
            return "no head leads"
        status = active.clients.known()
        if not status:
            return f"no status from {active.name}"
        roles = {head["name"]: head["role"] for head in status["heads"]}
        wanted = {head.name: "active" if head is active else "standby" for head in self.heads}
        if roles != wanted:
            return f"heads: {roles}"
        if status["head_list"]["others"]:
            return f"nodes that know other heads than {roles}: {status['head_list']['others']}"
        if not status["store"]["reachable"]:
            return "the store cannot be reached"
        young = [host.namespace for host in self.nodes if time.monotonic() - host.started_s["bpinit"] < YOUNG_S]
        if young:
            return f"too young: {young}"
        away = {node["name"]: node["state"] for node in status["nodes"] if node["state"] != "up"}
        if away or len(status["nodes"]) != len(self.nodes):
            return f"nodes: {away or len(status['nodes'])}"
        # A node is called up until its grace is over: whether it is really there is seen when it has to do something.
        finished = active.clients.run("bpsh", "-a", "-n", "/bin/true")
        return "" if finished.returncode == 0 else f"a command on all nodes: {finished.stderr.decode()}"

    def await_calm(self) -> HeadHost:
        """Wait until the cluster is whole, and return the active head."""
        lacking = ""

        def is_whole() -> bool:
            nonlocal lacking
            lacking = self.lacks()
            return not lacking

        try:
            await_that(is_whole, "a whole cluster", CALM_S)
        except AssertionError:
            raise AssertionError(f"not whole {CALM_S:.0f} s after it was healed: {lacking}") from None
        active = self.active()
        return active if active is not None else self.await_calm()

    def strays(self) -> list[str]:
        """Return the processes in the nodes' process spaces, those of the spaces themselves left out."""
        found = []
        for number, node in enumerate(self.nodes):
            for space in children(node.daemons["bpinit"].pid):
                own = os.readlink(f"/proc/{space}/ns/pid")
                for name in os.listdir("/proc"):
                    with suppress(OSError):
                        if name.isdigit() and int(name) != space and os.readlink(f"/proc/{name}/ns/pid") == own:
                            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                            found.append(f"n{number}: {name} {command}")
        return found


@contextmanager
def hosts_cluster(
    directory: Path, heads: int = 3, nodes: int = 16, lease_ms: int = 3000, fanout: int = 4
) -> Iterator[HostsCluster]:
    """Run a cluster of so many hosts below `directory`; afterwards nothing is left of it."""
    with Network(directory) as network:
        made = HostsCluster(network, heads, nodes, lease_ms, fanout)
        try:
            made.start()
            yield made
        finally:
            made.close()
