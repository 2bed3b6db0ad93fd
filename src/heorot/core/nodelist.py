"""Node lists: the language in which people name nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heorot.core.errors import NodeListError
from heorot.core.nodeset import NodeSet


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node list is read against."""

    known: NodeSet
    states: Mapping[int, str]
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The highest node number; -1 if there is no node."""
        return self.known.mask.bit_length() - 1

    def state_of(self, node: int) -> str:
        """Return the state of a known node."""
        return self.states[node]


def parse(text: str, view: NodeView) -> list[int]:
    """Return the nodes that a list names, in order."""
    if text == "all":
        return list(view.known)
    nodes: list[int] = []
    for part in text.replace("n", "").replace("[", "").replace("]", "").split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise NodeListError(f"{part!r} in {text!r} is no node")
        nodes += range(int(first), int(last or first) + 1)
    for node in nodes:
        if node not in view.known:
            raise NodeListError(f"there is no node n{node}; the nodes are {view.known}")
    return nodes
