"""What BProc's library says of nodes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from errno import ENODATA
from typing import Any, NamedTuple

from heorot.bproc.errors import BprocError, InvalidNodeError, NodeDownError
from heorot.bproc.opened import ask_cluster
from heorot.core.errors import RequestError

NODE_MASTER, NODE_SELF = -1, -2


class NodeInfo(NamedTuple):
    """A node, as ``struct bproc_node_info_t``."""

    node: int
    status: str
    mode: int
    """Who may start processes there: x bits of chmod(1)."""
    user: int
    group: int
    address: tuple[str, int] | None
    """Where its agent listens; None: not known."""


def numnodes() -> int:
    """Return how many nodes the cluster has, whatever their states."""
    return len(nodelist())


def currnode() -> int:
    """Return the number of the node that this process runs on; `NODE_MASTER`: it was not started on a node."""
    return int(os.environ.get("HEOROT_NODE", NODE_MASTER))


def nodestatus(node: int) -> str:
    """Return a node's state."""
    return nodeinfo(node).status


def nodeaddr(node: int) -> tuple[str, int]:
    """Return where a node's agent listens, host and port. Raises NodeDownError while nobody knows."""
    address = nodeinfo(node).address
    if address is None:
        raise NodeDownError(f"the address of n{node} is not known: it has not attached to this head")
    return address


def nodeinfo(node: int) -> NodeInfo:
    """Return what is known of a node."""
    if node == NODE_SELF:
        node = currnode()
    if node == NODE_MASTER:
        return NodeInfo(NODE_MASTER, "up", 0o111, 0, 0, None)
    found = {info.node: info for info in nodelist()}
    if node not in found:
        raise InvalidNodeError(f"there is no node {node}; the cluster has {len(found)}")
    return found[node]


def nodelist() -> list[NodeInfo]:
    """Return all nodes, by number."""
    return [_info(row) for row in ask_cluster(lambda cluster: cluster.nodes())]


def _info(row: Mapping[str, Any]) -> NodeInfo:
    host, _, port = row["address"].rpartition(":")
    address = (host.strip("[]"), int(port)) if host else None
    return NodeInfo(row["id"], row["state"], row["mode"], row["uid"], row["gid"], address)


def getnodeattr(node: int, name: str) -> Any:
    """Return a node's ``state``, ``addr``, ``mode``, ``user`` or ``group``, or a field of ``bpstat --json``.

    Raises OSError with ``ENODATA`` if nodes have none of that name.
    """
    info = nodeinfo(node)
    own = {"state": info.status, "addr": info.address, "mode": info.mode, "user": info.user, "group": info.group}
    if name in own:
        return own[name]
    rows = ask_cluster(lambda cluster: cluster.nodes(info.node)) if info.node >= 0 else []
    if not rows or name not in rows[0]:
        raise BprocError(ENODATA, f"a node has no attribute {name!r}")
    return rows[0][name]


def access(node: int, mode: int = os.X_OK) -> bool:
    """Say whether this process's user may start processes on a node; with `os.F_OK`, only see that it exists."""
    info = nodeinfo(node)
    if not mode & os.X_OK:
        return not mode
    if os.geteuid() == 0:
        return bool(info.mode & 0o111)
    if os.geteuid() == info.user:
        return bool(info.mode & 0o100)
    return bool(info.mode & (0o010 if info.group in (os.getegid(), *os.getgroups()) else 0o001))


def nodespec(text: str) -> list[NodeInfo]:
    """Return the nodes that a list names, in order, repeats included; unlike BProc's, unknown nodes are an error."""
    try:
        numbers = ask_cluster(lambda cluster: cluster.resolve(text))
    except InvalidNodeError as error:
        if isinstance(error.__cause__, RequestError) and error.__cause__.code == "no-nodes":
            return []
        raise
    found = {info.node: info for info in nodelist()} | {NODE_MASTER: nodeinfo(NODE_MASTER)}
    return [found[number] for number in numbers if number in found]


def nodefilter(nodes: Iterable[NodeInfo], text: str) -> list[NodeInfo]:
    """Return those of the nodes that a list names, in its order."""
    given = {info.node: info for info in nodes}
    return [given[info.node] for info in nodespec(text) if info.node in given]
