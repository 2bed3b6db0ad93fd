"""What an embedded cluster is made of: its directory, its authority and identities, the settings of its daemons."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heorot.bpinit.namespace import pid_range
from heorot.config.files import StoreSection
from heorot.config.hosts import MASTER, loopback_address, own_text, with_part
from heorot.config.layout import HOSTS_NAME, Layout
from heorot.coord.port import Store
from heorot.coord.stores import open_store
from heorot.core.errors import HeorotError
from heorot.core.space.events import SpaceConfig
from heorot.core.tickets import seal_placement
from heorot.core.tree import shape
from heorot.core.wire.tree import Hop, Placement
from heorot.daemons.agent import KEPT, NodeSettings
from heorot.daemons.head import HeadSettings
from heorot.linux.slot_file import SlotFile
from heorot.runtime.shared_page import SharedPage
from heorot.runtime.sockets import bind_tcp, listen_unix
from heorot.runtime.tls_codec import TlsCodec
from heorot.security import tls
from heorot.security.authority import Authority
from heorot.security.files import write_atomically
from heorot.security.wishes import WishFile

HOST = "127.0.0.1"
CONNECT_TIMEOUT_MS = 10_000
"""All nodes of an embedded cluster share a few cores: while a thousand start, an answer may take its time."""

BECOME_MASTER = "'heorot up --master' makes one for it, in a new cluster"


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What ``heorot up`` was asked for."""

    root: str
    nodes: int
    heads: int
    fanout: int
    log_level: str = "info"
    machine: dict[str, int] = field(default_factory=dict)
    """Overrides of the machines' times, for tests: ``heartbeat_ms``, ``link_timeout_ms``, ``node_grace_ms``."""
    etcd: list[str] = field(default_factory=list)
    """The members of etcd to use as the store; empty: the local store."""
    lease_ms: int = 3_000
    hang_ms: int = 10_000
    bare: bool = False
    """The nodes see an empty file system."""
    master: bool = False
    """The last of the nodes is the one on the host of the heads: `master` in node lists."""
    image_cache_bytes: int = 1 << 30


@dataclass(slots=True)
class NodeSlot:
    """One node as its supervisor sees it."""

    number: int
    wanted: bool = True
    """False: stopped on purpose."""
    init_pid: int = 0
    agent_pid: int = 0
    port: int = 0
    agent_started_s: float = 0.0
    quick_ends: int = 0
    """How many times in a row the agent ended soon after its start."""
    page: SharedPage = field(default_factory=SharedPage)
    """What the agent says is wrong."""
    init_page: SharedPage = field(default_factory=SharedPage)
    """Why the bpinit has ended."""

    @property
    def problem(self) -> str:
        """What is wrong with it; empty: nothing, or it was stopped on purpose."""
        if not self.wanted:
            return ""
        return (self.init_page.problem if not self.init_pid else "") or self.page.problem


@dataclass(slots=True)
class HeadSlot:
    """One head as its supervisor sees it: the keeper, which runs the head's process when it is elected."""

    name: str
    wanted: bool = True
    """False: stopped on purpose."""
    pid: int = 0
    """The keeper's."""
    port: int = 0
    started_s: float = 0.0
    quick_ends: int = 0
    page: SharedPage = field(default_factory=SharedPage)
    """What the keeper says of itself and its head."""


class Embedded:
    """Makes the files of the cluster and the settings of its daemons."""

    def __init__(self, plan: ClusterPlan) -> None:
        self.plan = plan
        self.layout = Layout(plan.root)
        self.isolated = os.geteuid() == 0
        self.cluster = f"embedded-{secrets.token_hex(6)}"
        pages = SharedPage.several(plan.heads + 2 * plan.nodes)
        self.heads = [HeadSlot(f"h{index}", page=pages.pop()) for index in range(plan.heads)]
        self.nodes = [NodeSlot(number, page=pages.pop(), init_page=pages.pop()) for number in range(plan.nodes)]
        self._authority: Authority | None = None
        self._issued: set[int] = set()

    # ------------------------------------------------------------------ files

    def create(self) -> None:
        """Make directories, the authority and the heads' identities. Raises HeorotError."""
        try:
            for name in ("coord", "heads", "nodes"):
                os.mkdir(self.layout.path(name), 0o700)
            self._authority = Authority.create(Path(self.layout.path("ca")), self.cluster)
            for head in self.heads:
                self._authority.issue_head(head.name).write(Path(self.layout.head(head.name)))
            text = (
                f'cluster = "{self.cluster}"\nnodes = {self.plan.nodes}\nheads = {self.plan.heads}\n'
                f"fanout = {self.plan.fanout}\n"
            )
            Path(self.layout.path("cluster.toml")).write_text(text, encoding="utf-8")
            if self.isolated:
                self._write_hosts()
        except OSError as error:
            raise disk_error(error, self.layout.root) from error

    def _write_hosts(self) -> None:
        """Write what all nodes see as /etc/hosts. Raises OSError."""
        hosts = [(HOST, [MASTER])] + [(loopback_address(node.number), [f"n{node.number}"]) for node in self.nodes]
        text = with_part(own_text(), hosts).encode("utf-8", "surrogateescape")
        write_atomically(Path(self.layout.path(HOSTS_NAME)), text, mode=0o644)

    def warm_up(self) -> None:
        """Do once what every daemon does at its start, so that OpenSSL's tables are made before they are shared."""
        identity = self.layout.head(self.heads[0].name)
        ends = [
            TlsCodec(tls.client_context(identity), server_side=False),
            TlsCodec(tls.server_context(identity), server_side=True),
        ]
        for _ in range(3):
            for end, other in (ends, reversed(ends)):
                if not end.established:
                    end.handshake()
                other.feed(memoryview(end.pending()))
        ends[1].feed(memoryview(ends[0].encrypt([b"warm"])))
        plain = memoryview(bytearray(4))
        assert ends[1].decrypt_into(plain) == len(plain)
        assert bytes(plain) == b"warm"
        assert tls.peer_of(ends[0].object, self.cluster).kind == "head"
        assert self._authority is not None
        signer = self._authority.signer
        assert signer.verifier().verify(b"warm", signer.sign(b"warm"))

    def issue(self, node: NodeSlot) -> None:
        """Make a node's directory and identity, once. Raises HeorotError."""
        if node.number in self._issued:
            return
        assert self._authority is not None
        directory = Path(self.layout.node(node.number))
        try:
            self._authority.issue_node(node.number).write(directory)
            for name in ("state", "spool"):
                (directory / name).mkdir(mode=0o700)
            self._write_placement(node)
            for name in KEPT:
                # Not flushed, as the agent would: a cluster like this one does not outlive its machine.
                SlotFile(directory / "state" / name).reserve()
        except OSError as error:
            raise disk_error(error, self.layout.root) from error
        self._issued.add(node.number)

    def _write_placement(self, node: NodeSlot) -> None:
        # With a placement from the start a node goes to its parent at once and not by way of the head.
        hops = [
            Hop(number, loopback_address(number), self.nodes[number].port)
            for number in shape.ancestors_of(node.number, self.plan.fanout)
        ]
        assert self._authority is not None
        sealed = seal_placement(self._authority.signer.sign, Placement(self.cluster, node.number, hops, 1, 0))
        SlotFile(os.path.join(self.layout.node(node.number), "state", "placement")).write(sealed)

    def store(self, head: HeadSlot, make_room: Callable[[], bool]) -> Store:
        """Return the coordination store as this head uses it."""
        section = StoreSection(
            kind="etcd" if self.plan.etcd else "local",
            endpoints=tuple(self.plan.etcd),
            lease_ms=self.plan.lease_ms,
        )
        local, identity = Path(self.layout.path("coord")), Path(self.layout.head(head.name))
        return open_store(section, local, self.cluster, identity, head.name, make_room=make_room)

    def head_state(self, head: HeadSlot) -> dict[str, Any]:
        """Return what the head's keeper has last said of itself. One that is gone has only its reason left."""
        known = head.page.read()
        if head.pid and known.get("pid") == head.pid:
            return known
        return {"problem": known.get("problem", "")} if head.wanted else {}

    # ------------------------------------------------------------------ sockets

    def bind_head(self, head: HeadSlot) -> socket.socket:
        """Return the head's bound socket; its port stays the same."""
        sock = bind_tcp(HOST, head.port)
        head.port = sock.getsockname()[1]
        return sock

    def bind_agent(self, node: NodeSlot) -> socket.socket:
        """Return the agent's bound socket: with the port it had before, or another if that was taken meanwhile."""
        try:
            sock = bind_tcp(loopback_address(node.number), node.port)
        except HeorotError:
            if not node.port:
                raise
            sock = bind_tcp(loopback_address(node.number), 0)
        node.port = sock.getsockname()[1]
        return sock

    def listen_space(self, node: NodeSlot) -> socket.socket:
        """Return the listening socket of the node's bpinit."""
        return listen_unix(Path(self.layout.node(node.number)) / "init.sock", 0o600)

    # ------------------------------------------------------------------ settings

    @property
    def range_size(self) -> int:
        """How many PIDs each node owns; 0 without PID namespaces."""
        return pid_range(0, self.plan.nodes)[1] if self.isolated else 0

    def is_master(self, node: NodeSlot) -> bool:
        """Say whether it is the node on the host of the heads."""
        return self.plan.master and node.number == self.plan.nodes - 1

    def space_config(self, node: NodeSlot) -> SpaceConfig:
        """Return what the node's bpinit is told."""
        first, size = pid_range(node.number, self.plan.nodes) if self.isolated else (0, 0)
        return SpaceConfig(
            node=node.number,
            base_pid=first,
            range_size=size,
            spool_dir=os.path.join(self.layout.node(node.number), "spool"),
            cluster_dir=self.layout.root,
            marker=f"{self.cluster}-n{node.number}",
            die_with_parent=True,
            log_path=self.layout.log(f"n{node.number}-init"),
            bare=self.layout.root if self.plan.bare else "",
            host_name=os.uname().nodename if self.is_master(node) else f"n{node.number}",
            hosts_path=self.layout.path(HOSTS_NAME),
        )

    def node_settings(self, node: NodeSlot, listener: socket.socket) -> NodeSettings:
        """Return what the node's agent is told."""
        machine = {"connect_timeout_ms": CONNECT_TIMEOUT_MS} | {
            key: value for key, value in self.plan.machine.items() if key in ("heartbeat_ms", "link_timeout_ms")
        }
        return NodeSettings(
            directory=Path(self.layout.node(node.number)),
            log_path=Path(self.layout.log(f"n{node.number}")),
            cluster=self.cluster,
            node=node.number,
            host=loopback_address(node.number),
            port=node.port,
            heads=tuple((HOST, head.port) for head in self.heads),
            listener=listener,
            init_pid=node.init_pid,
            machine=machine,
            log_level=self.plan.log_level,
            image_cache_bytes=self.plan.image_cache_bytes,
            page=node.page,
            shared_content=self.layout.path("content"),
        )

    def head_settings(self, head: HeadSlot, listener: socket.socket) -> HeadSettings:
        """Return what a head is told."""
        return HeadSettings(
            directory=Path(self.layout.head(head.name)),
            socket_path=Path(self.layout.path("head.sock")),
            log_path=Path(self.layout.log(head.name)),
            cluster=self.cluster,
            name=head.name,
            host=HOST,
            port=head.port,
            nodes=lambda: tuple(range(self.plan.nodes)),
            fanout=self.plan.fanout,
            listener=listener,
            machine={
                "pid_range": self.range_size,
                "hosts": tuple((node.number, f"n{node.number}") for node in self.nodes) if self.isolated else (),
                "masters": tuple((node.number, head.name) for node in self.nodes if self.is_master(node)),
                "become_master": BECOME_MASTER,
                "lease_ms": self.plan.lease_ms if self.plan.etcd else 0,
                **self.plan.machine,
            },
            hang_ms=self.plan.hang_ms,
            log_level=self.plan.log_level,
            image_cache_bytes=self.plan.image_cache_bytes,
            page=head.page,
            shared_content=self.layout.path("content"),
            # All heads are on this host, whatever store they have.
            wishes=WishFile(Path(self.layout.root)),
        )


def disk_error(error: OSError, root: str) -> HeorotError:
    """Return what to tell the user about a failed write below `root`."""
    where = os.fspath(error.filename) if isinstance(error.filename, str) else root
    hint = {
        errno.ENOSPC: "; free some space, or choose another --dir",
        errno.EACCES: "; choose a --dir that you may write to",
        errno.EROFS: "; choose another --dir",
    }.get(error.errno or 0, "")
    return HeorotError(f"cannot write {where}: {error.strerror or error}{hint}")
