"""Hosts whose links have a limited speed: network namespaces on a bridge, each with a token bucket in both directions.

The daemons are the real ones with real configuration files. They are forked from one process that has imported them
already, because 512 new interpreters would take minutes to start.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from bench.cluster import BenchError, run
from heorot.config.files import Address
from heorot.config.text import render_head, render_node
from heorot.core.tree.shape import parent_of
from heorot.security.authority import Authority
from heorot.security.registry import NodeRecord, Registry
from heorot.start import run as run_daemon
from tests.hosts.hosts import Host, Network, environment

HEAD_PORT, NODE_PORT = 7733, 7734
UP_DEADLINE_S = 300.0
END_S = 20.0
CLONE_NEWNET = 0x40000000
BURST_BYTES = 65_536
"""The largest packet that the sender's kernel hands over at once."""
QUEUE_BYTES = 1_000_000
NEVER_MS = 86_400_000
NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh/default")
MAX_NEIGHBOURS = 65_536
"""All hosts share one table of neighbours, whatever their namespaces; it is full at 1,024, and links time out then."""


def limit(host: Host, port: str, switch: str, kbit: int) -> None:
    """Limit what a host sends and what it receives, each to `kbit` kbit/s."""
    for namespace, device in ((host.namespace, "eth0"), (switch, port)):
        words = f"tc -n {namespace} qdisc add dev {device} root tbf rate {kbit}kbit"
        words += f" burst {BURST_BYTES} limit {QUEUE_BYTES}"
        subprocess.run(words.split(), check=True, capture_output=True, env=environment(sbin=True))


class LimitedCluster:
    """A head and nodes, each behind a link of `kbit` kbit/s; all is removed at the end.

    Parameters
    ----------
    fanout
        Of the tree.
    peers
        Whether nodes may have images from each other.
    """

    def __init__(self, nodes: int, kbit: int, fanout: int = 32, *, peers: bool = True) -> None:
        self.nodes = nodes
        self.directory = Path(tempfile.mkdtemp(prefix="heorot-bench-"))
        self._network = Network(self.directory)
        self._kbit = kbit
        self._fanout = fanout
        self._gain_ms = 200 if peers else NEVER_MS
        self._pids: list[int] = []
        self._head: Host | None = None
        self._thresholds: dict[str, str] = {}

    def __enter__(self) -> LimitedCluster:
        try:
            self._allow_neighbours()
            self._network.__enter__()
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command on the head."""
        assert self._head is not None
        return os.environ | {"HEOROT_DIR": str(self._head.directory)}

    def _allow_neighbours(self) -> None:
        for name in ("gc_thresh3", "gc_thresh2", "gc_thresh1"):
            path = NEIGHBOURS / name
            self._thresholds[name] = path.read_text()
            path.write_text(str(MAX_NEIGHBOURS))

    def _start(self) -> None:
        head = self._head = self._network.host("head")
        nodes = [self._network.host(f"n{number}") for number in range(self.nodes)]
        self._configure(head, nodes)
        for name in ("bphead", "head", "bpnode", "agent", "bpinit"):
            __import__(f"heorot.daemons.{name}")
        gc.collect()
        gc.freeze()
        self._pids.append(_fork(head, "bphead"))
        for node in nodes:
            self._pids.append(_fork(node, "bpinit"))
        for number, node in enumerate(nodes):
            socket = node.directory / "nodes" / f"n{number}" / "init.sock"
            _await(socket.exists, f"bpinit of n{number}")
            self._pids.append(_fork(node, "bpnode"))
        _await(self._is_up, f"{self.nodes} nodes are up, each below its parent")
        # Each must have done something once: the first launch of a node is no part of what is measured.
        self.run("bpsh", f"0-{self.nodes - 1}", "/bin/true")
        for number, host in enumerate([head, *nodes], 1):
            limit(host, f"port{number}", f"{self._network.prefix}switch", self._kbit)

    def _is_up(self) -> bool:
        try:
            nodes = json.loads(self.run("heorot", "status", "--json"))["nodes"]
        except BenchError:
            return False
        return len(nodes) == self.nodes and all(
            node["state"] == "up" and node["parent"] == parent_of(int(node["name"][1:]), self._fanout) for node in nodes
        )

    def cached_bytes(self) -> int:
        """Return how many bytes of sent files the head keeps."""
        assert self._head is not None
        files = self._head.directory.glob("heads/head/images/files/*")
        return sum(path.stat().st_size for path in files)

    def _configure(self, head: Host, nodes: list[Host]) -> None:
        authority = Authority.create(head.directory / "ca", "bench")
        address = Address(head.address, HEAD_PORT)
        registry = Registry(head.directory)
        images = f"\n[images]\nswarm_gain_ms = {self._gain_ms}\n"
        authority.issue_head("head").write(head.directory / "heads" / "head")
        for number, host in enumerate(nodes):
            authority.issue_node(number).write(host.directory / "nodes" / f"n{number}")
            registry.put(NodeRecord(number, f"n{number}", f"{number:064x}", "", 0))
            text = render_node(
                cluster=authority.cluster,
                directory=str(host.directory),
                number=number,
                listen=Address(host.address, NODE_PORT),
                heads=[address],
                capacity=1023,
                socket="",
            )
            host.config.write_text(text + images)
        text = render_head(
            cluster=authority.cluster,
            directory=str(head.directory),
            name="head",
            listen=address,
            addresses=[address],
            socket=str(head.directory / "head.sock"),
        )
        head.config.write_text(text.replace("[tree]\n", f"[tree]\nfanout = {self._fanout}\n") + images)

    def run(self, name: str, *arguments: str) -> bytes:
        """Run one of Heorot's commands on the head and return what it printed. Raises BenchError."""
        return run(self.environment, name, *arguments, timeout_s=UP_DEADLINE_S * 4)

    def sent_bytes(self) -> list[int]:
        """Return what the head and each node have sent so far, as their network cards count it."""
        return [
            _counter(f"{self._network.prefix}switch", f"port{number}", "rx_bytes")
            for number in range(1, self.nodes + 2)
        ]

    def _end(self) -> None:
        for pid in reversed(self._pids):
            os.kill(pid, signal.SIGTERM)
        end_s = time.monotonic() + END_S
        for pid in self._pids:
            while not os.waitpid(pid, os.WNOHANG)[0]:
                if time.monotonic() > end_s:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.01)
        self._pids.clear()
        self._network.close()
        for name, value in reversed(self._thresholds.items()):
            (NEIGHBOURS / name).write_text(value)
        shutil.rmtree(self.directory, ignore_errors=True)


def _counter(namespace: str, device: str, name: str) -> int:
    words = f"ip netns exec {namespace} cat /sys/class/net/{device}/statistics/{name}"
    done = subprocess.run(words.split(), check=True, capture_output=True, env=environment(sbin=True))
    return int(done.stdout)


def _await(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + UP_DEADLINE_S
    while not condition():
        if time.monotonic() > end_s:
            raise BenchError(f"in {UP_DEADLINE_S:.0f} s it never came to this: {what}")
        time.sleep(0.05)


def _fork(host: Host, daemon: str) -> int:
    """Start a daemon in the host's network namespace and return its PID."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        fd = os.open(f"/run/netns/{host.namespace}", os.O_RDONLY | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {host.namespace}")
        null = os.open(os.devnull, os.O_RDONLY)
        errors = os.open(host.directory / f"{daemon}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((null, 0), (errors, 1), (errors, 2)):
            os.dup2(source, target)
        sys.argv = [daemon, "--config", str(host.config)]
        run_daemon(daemon)
    finally:
        os._exit(1)
