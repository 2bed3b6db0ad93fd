"""What BProc's library does to nodes: it sets their states and who may use them, and ends them."""

from __future__ import annotations

from collections.abc import Callable
from errno import ENODATA
from typing import Any, NoReturn

from heorot.bproc.errors import BprocError, ComesLaterError
from heorot.bproc.nodes import nodeinfo
from heorot.bproc.opened import ask_cluster

NOT_YET = "is not in this release: what processes see on a node is what it has, and what is sent"


def nodesetstatus(node: int, status: str) -> None:
    """Set a node to a state: ``up``, ``drain``, ``error``, ``unavailable``, or a word of up to 15 characters."""
    number = nodeinfo(node).node
    ask_cluster(lambda cluster: cluster.set_node_state(number, status))


def chmod(node: int, mode: int) -> None:
    """Say who may start processes on a node: x bits for its user, its group and others."""
    number = nodeinfo(node).node
    ask_cluster(lambda cluster: cluster.set_node_mode(number, mode))


def chown(node: int, user: int) -> None:
    """Give a node to a user."""
    number = nodeinfo(node).node
    ask_cluster(lambda cluster: cluster.set_node_owner(number, user))


def chgrp(node: int, group: int) -> None:
    """Give a node to a group."""
    number = nodeinfo(node).node
    ask_cluster(lambda cluster: cluster.set_node_group(number, group))


def setnodeattr(node: int, name: str, value: Any) -> None:
    """Set an attribute of a node: ``state``, ``mode``, ``user`` or ``group``. OSError with ``ENODATA`` for others."""
    setters: dict[str, Callable[[int, Any], None]] = {
        "state": nodesetstatus, "mode": chmod, "user": chown, "group": chgrp,
    }  # fmt: skip
    if name not in setters:
        raise BprocError(ENODATA, f"a node has no attribute {name!r} that can be set")
    setters[name](node, value)


def nodechroot(node: int, path: str) -> NoReturn:
    """Raises ComesLaterError: nodes keep their root."""
    raise ComesLaterError("nodechroot", NOT_YET)


def nodereboot(node: int) -> None:
    """Reboot a node, by the site's command for it, as ``bpctl -R`` does; it is ``reboot`` until it is back.

    Raises BprocError with ``EOPNOTSUPP`` if there is none, as in an embedded cluster; NodeDownError.
    """
    _end(node, "reboot")


def nodehalt(node: int) -> None:
    """Halt a node, as ``bpctl -H`` does. See `nodereboot`."""
    _end(node, "halt")


def nodepwroff(node: int) -> None:
    """Power a node off, as ``bpctl -P`` does. See `nodereboot`."""
    _end(node, "pwroff")


def _end(node: int, how: str) -> None:
    number = nodeinfo(node).node
    ask_cluster(lambda cluster: cluster.end_nodes(number, how))


def nodereconnect(node: int, head: str) -> NoReturn:
    """Raises ComesLaterError: nodes find the heads that there are by themselves."""
    raise ComesLaterError("nodereconnect", "is not in this release: nodes find the active head by themselves")
