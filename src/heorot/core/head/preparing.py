"""The site's ``node_up``: what is done for a node before users may start anything there.

A node that attaches is ``boot`` until the site's script has ended for this incarnation of it, and then ``up``, or set
to ``error``. That it has ended is kept with what is wanted of the node, and the next head does not run it again; one
that has not ended when its head dies is run again by the next one. Without a script a node is up at once.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode
from heorot.core.head.wishes import NodeWishes
from heorot.core.wire.wishes import Prepare, Prepared


class Preparing:
    """Has the script run, once for each incarnation."""

    def __init__(self, context: HeadContext, wishes: NodeWishes) -> None:
        self._context = context
        self._members = context.members
        self._wishes = wishes
        self._running: dict[int, int] = {}
        """By node: the incarnation for which the script runs."""

    def listed(self, record: KnownNode) -> None:
        """A node has said what it holds, and is up but for this."""
        incarnation = record.incarnation or 0
        if not self._context.config.node_up or record.wish.prepared == incarnation:
            self._members.prepare(record, False)
            return
        self._members.prepare(record, True)
        if self._running.get(record.node) != incarnation:
            self._running[record.node] = incarnation
            self._context.emit(Prepare(record.node, incarnation, record.host))

    def prepared(self, event: Prepared) -> None:
        """The script has ended, or could not be run."""
        if self._running.get(event.node) != event.incarnation:
            return  # of a former incarnation
        del self._running[event.node]
        record = self._members.records[event.node]
        level = "warning" if event.error else "info"
        self._context.log(level, f"node_up of {record.name}: {event.error or 'done'}")
        if record.incarnation == event.incarnation:
            done = lambda: self._done(record, event.incarnation)  # noqa: E731
            self._wishes.prepared(record, event.incarnation, event.error, done)

    def _done(self, record: KnownNode, incarnation: int) -> None:
        if record.incarnation == incarnation:
            self._members.prepare(record, False)
