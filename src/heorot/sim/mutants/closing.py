"""Mutants that concern what is wanted of nodes; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.wishes import NodeWish


def _forgets_what_is_wanted(head: Any) -> None:
    """A head that is elected does not read what was acknowledged before."""
    for record in head.members.records.values():
        head.members.wish(record, NodeWish(record.node))


def _launches_on_drained_nodes(head: Any) -> None:
    """What is wanted of nodes is shown, and nobody goes by it."""
    members = head.members

    def wish(record: Any, wanted: NodeWish) -> None:
        record.wish = wanted

    members.wish, members.wished_mask = wish, 0


def _acknowledges_a_drain_too_soon(head: Any) -> None:
    """What is on its way to a node that is drained is not waited for."""
    head.clients.wishes._busy = NodeSet


HEAD: dict[str, Callable[[Any], None]] = {
    "head-forgets-what-is-wanted": _forgets_what_is_wanted,
    "head-launches-on-drained-nodes": _launches_on_drained_nodes,
    "head-acknowledges-a-drain-too-soon": _acknowledges_a_drain_too_soon,
}
FOCUS: dict[str, dict[str, Any]] = {
    "head-forgets-what-is-wanted": {"administrators": 2, "head_weight": 8},
    "head-launches-on-drained-nodes": {"administrators": 2, "jobs": 25},
    "head-acknowledges-a-drain-too-soon": {
        "administrators": 6, "jobs": 25, "rush": 80, "image_rate": 0.7, "nodes": 4, "job_span_ms": 15_000,
    },
}  # fmt: skip
