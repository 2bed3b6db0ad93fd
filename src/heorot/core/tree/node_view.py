"""What a node list is read against: the nodes that there are, their states, groups and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heorot.core.tree.nodeset import HEAD, NodeSet


@dataclass(frozen=True, slots=True)
class NodeView:
    """See the module."""

    known: NodeSet
    """All nodes of the cluster, whatever their state."""
    states: Mapping[int, str] = field(default_factory=dict)
    """The state of each known node; a node that is missing here is down."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group name without ``@`` to a node list."""
    hosts: Mapping[str, int] = field(default_factory=dict)
    """The node that has a host name, in lower case."""
    masters: NodeSet = field(default_factory=NodeSet)
    """Nodes on the hosts of heads."""
    master: int = HEAD
    """The one of the head that leads; `HEAD`: its host is no node."""

    @property
    def highest(self) -> int:
        """The highest number of a known node, -1 if there is none."""
        return self.known.mask.bit_length() - 1

    def state_of(self, node: int) -> str:
        """Return the state of a known node."""
        return self.states.get(node, "down")
