"""What both ends of a link in the tree check of each other: the protocol that they speak, and the nodes below."""

from __future__ import annotations

from heorot.core.wire import tree as m

REMOVED = "removed"
"""The code with which a node is refused that was removed from the cluster."""
RELAY_REMOVED = "relay-removed"
"""The code with which such a node refuses those who stand below it."""
REFUSES_US = "it refuses us"
"""Why a neighbour's link was closed, for the log."""
WRONG_BELOW = "a node below it says something wrong"
"""Of a neighbour that passes on what it cannot look into, for the log."""


def differs(mask: int, nodes: int, doubted: bool) -> tuple[bool, bool]:
    """Compare the nodes that are reached through a child with how many it says there are.

    Returns whether there is a doubt, and whether it has lasted since the heartbeat before. It should never: should the
    two ends of a link ever disagree about what is below it, this puts it right.
    """
    wrong = nodes > 0 and mask.bit_count() != nodes
    return wrong and not doubted, wrong and doubted


def incompatibility(hello: m.Hello, cluster: str) -> tuple[str, str] | None:
    """Return a code and a sentence if we cannot talk to this peer, else None."""
    if hello.cluster != cluster:
        return "other-cluster", f"the peer belongs to the cluster {hello.cluster!r}, not to {cluster!r}"
    if hello.oldest_version > m.PROTOCOL_VERSION or hello.version < m.OLDEST_PROTOCOL_VERSION:
        return (
            "version",
            f"the peer (release {hello.release}) speaks protocol {hello.oldest_version} to {hello.version}, this side"
            f" {m.OLDEST_PROTOCOL_VERSION} to {m.PROTOCOL_VERSION}; bring both to neighbouring releases",
        )
    return None


def removal(node: int) -> str:
    """Return why a removed node is refused, and why its ranks are lost."""
    return f"n{node} was removed from the cluster"


def replacement(node: int) -> str:
    """Return why a node is refused whose number was given to another host."""
    return f"n{node} was removed from the cluster, and its number was given to another host"
