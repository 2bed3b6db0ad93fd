"""What this host is in a cluster of many machines, for errors that say what to do where no head answers.

Such a host is recognised by the configuration that ``heorot head init``, ``heorot head join`` and ``heorot node join``
write. It is read after something has failed, never before.
"""

from __future__ import annotations

import os

from heorot.config.places import CLIENT_DIRECTORY, HEAD_PATH, NODE_PATH, STATE_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.config.files import HeadFile, NodeFile


def without_head(directory: str) -> str:
    """Return why commands reach no head at `directory`, and what helps.

    Empty on a host without a configuration, and for a directory that no configuration is about: there ``heorot up``
    makes a cluster.
    """
    from heorot.core.errors import HeorotError

    try:
        head, node = _head(), _node()
    except HeorotError as error:
        return f"no head listens in {directory}: {error}" if _same(directory, CLIENT_DIRECTORY) else ""
    if head is not None:
        socket_directory = os.path.dirname(head.head.socket)
        if _same(directory, socket_directory):
            return (
                f"no head listens in {directory}: this is the host of the head {head.head.name} of the cluster"
                f" {head.cluster.id}; 'systemctl start heorot-head' starts it if it does not run, and"
                " 'heorot status', as root, says why it does not lead"
            )
        if _same(directory, CLIENT_DIRECTORY, head.cluster.directory):
            return (
                f"no head listens in {directory}: commands reach the cluster {head.cluster.id} of this host"
                f" through {socket_directory}; set HEOROT_DIR={socket_directory}"
            )
    return _of_node(directory, node) if node is not None else ""


def _of_node(directory: str, node: NodeFile) -> str:
    here = f"no head listens in {directory}: this host is the node n{node.node.number} of the cluster {node.cluster.id}"
    hosts = ", ".join(address.host for address in node.node.heads)
    passed_on = os.path.dirname(node.node.socket)
    if passed_on and _same(directory, passed_on):
        return (
            f"{here}, whose agent passes commands on: 'systemctl start heorot-node' starts it if it does not run;"
            f" on the host of a head ({hosts}) they need no agent"
        )
    if not _same(directory, CLIENT_DIRECTORY, node.cluster.directory):
        return ""
    if passed_on:
        return f"{here}; commands reach it through {passed_on}: set HEOROT_DIR={passed_on}"
    return f"{here}; commands are run on the host of a head ({hosts})"


def require_no_other(directory: str) -> None:
    """See that `directory` belongs to no cluster of many machines, so that ``heorot up`` may make one there.

    Commands would reach another cluster than the one that this host is for, or keys of that one would be in its way.

    Raises
    ------
    HeorotError
        If it does.
    """
    from heorot.core.errors import HeorotError

    there = _occupant(directory)
    if there:
        advice = "name a directory of its own with --dir or HEOROT_DIR"
        raise HeorotError(f"no cluster is made in {directory}: {there}; {advice}")


def _occupant(directory: str) -> str:
    from heorot.core.errors import HeorotError

    try:
        head, node = _head(), _node()
    except HeorotError as error:
        return str(error) if _same(directory, CLIENT_DIRECTORY, STATE_DIRECTORY) else ""
    roles = []
    if head is not None:
        own = os.path.dirname(head.head.socket), head.cluster.directory
        roles.append((f"the head {head.head.name}", head.cluster.id, own))
    if node is not None:
        own = os.path.dirname(node.node.socket), node.cluster.directory
        roles.append((f"the node n{node.node.number}", node.cluster.id, own))
    for who, cluster, (sockets, state) in roles:
        if _same(directory, state):
            return f"it holds the keys and the state of {who} of the cluster {cluster}"
        if _same(directory, CLIENT_DIRECTORY, *filter(None, [sockets])):
            return f"commands look there for the cluster {cluster}, of which this host has {who}"
    return ""


def state_directory(directory: str) -> str:
    """Return where this host's head has its keys and state, if commands reach its cluster through `directory`.

    Empty for any other directory. Raises ConfigError if the configuration cannot be read.
    """
    head = _head()
    if head is None:
        return STATE_DIRECTORY if _same(directory, CLIENT_DIRECTORY) else ""
    ours = _same(directory, os.path.dirname(head.head.socket), head.cluster.directory)
    return str(head.cluster.directory) if ours else ""


def units() -> str:
    """Return which daemons of a cluster of many machines this host has, and how they are started; empty: none."""
    from heorot.core.errors import HeorotError

    found = []
    try:
        head, node = _head(), _node()
    except HeorotError:
        return ""
    if head is not None:
        found.append(f"the head {head.head.name} ('systemctl start heorot-head')")
    if node is not None:
        found.append(f"the node n{node.node.number} ('systemctl start heorot-init heorot-node')")
    return f"of a cluster of many machines this host has {' and '.join(found)}" if found else ""


def require_head_host() -> None:
    """See that this host is not one where only nodes are configured.

    Raises
    ------
    ConfigError
        If it is, or if its configuration cannot be read.
    """
    node = _node()
    if node is not None and _head() is None:
        from heorot.config.files import ConfigError

        hosts = ", ".join(address.host for address in node.node.heads)
        raise ConfigError(
            f"this host is the node n{node.node.number} of the cluster {node.cluster.id} and has nothing of a head:"
            f" run this on the host of one ({hosts}), or name a head's directory with --dir"
        )


def _head() -> HeadFile | None:
    if not os.path.exists(HEAD_PATH):
        return None
    # What reads a configuration takes long to load: only where there is one.
    from pathlib import Path

    from heorot.config.files import load_head

    return load_head(Path(HEAD_PATH))


def _node() -> NodeFile | None:
    if not os.path.exists(NODE_PATH):
        return None
    from pathlib import Path

    from heorot.config.files import load_node

    return load_node(Path(NODE_PATH))


def _same(directory: str, *others: str) -> bool:
    return os.path.realpath(directory) in {os.path.realpath(other) for other in others}
