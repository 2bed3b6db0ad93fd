"""Which nodes are on hosts of heads: BProc's ``master``, which runs ranks as other nodes do and is not among all nodes.

The registry says it of each node that joined with the key of that head (`heorot.security.head_proof`). A head that was
taken off the list of heads has no host any more, and the node that was there is one like the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from heorot.core.errors import RequestError
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire.heads import HeadAddress

JOIN_THERE = "'heorot node join' there, as root, makes it one"


class Masters:
    """Knows them, at the head `own`; `heads` as for `know`.

    Parameters
    ----------
    remedy
        What makes the host of the head a node.
    """

    def __init__(self, own: str, heads: Iterable[tuple[int, str]] = (), remedy: str = JOIN_THERE) -> None:
        self._own = own
        self._remedy = remedy
        self._heads: dict[int, str] = {}
        self._listed: frozenset[str] | None = None
        """The names of all heads; None: nobody has said."""
        self.nodes = NodeSet()
        """All of them."""
        self.leading = HEAD
        """The one on the host of this head, which leads; `HEAD`: there is none."""
        self.know(heads)

    def know(self, heads: Iterable[tuple[int, str]]) -> None:
        """Take on which head's host each node is: of all that are on one, in the order in which they have joined."""
        self._heads = dict(heads)
        self._update()

    def listed(self, heads: Iterable[HeadAddress]) -> None:
        """Take which heads there are to be."""
        names = [head.name for head in heads]
        # One that is known by its address only may be any.
        self._listed = frozenset(names) if names and all(names) else None
        self._update()

    def head_of(self, node: int) -> str:
        """Return the head on whose host a node is; empty: none."""
        return self._heads[node] if node in self.nodes else ""

    def missing(self) -> RequestError:
        """Return what to tell who means the node on this head's host, where there is none."""
        text = f"'master' is the host of the head that leads, {self._own}, and that host is no node"
        return RequestError("bad-nodes", f"{text}: {self._remedy}; or name nodes, for example n0")

    def _update(self) -> None:
        there = {node: head for node, head in self._heads.items() if self._listed is None or head in self._listed}
        self.nodes = NodeSet.of(sorted(there))
        # A host that has joined anew, under another number, is the newer one.
        self.leading = next((node for node, head in reversed(there.items()) if head == self._own), HEAD)
