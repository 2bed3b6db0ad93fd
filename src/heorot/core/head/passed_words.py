"""What nodes further down say, as neighbours pass it on: whoever is wrong in it answers for that alone.

A relay does not look into what it passes on, and knows of no job where its ranks are. So a node that says what nobody
can read, or what cannot be, has not made its relay break the protocol: that goes on, and only the node itself is taken
for one that is not reached. If it means well, it is told to attach again, and all is mended by that; once in a while,
because all others below that relay do so, too.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.core.errors import ProtocolError
from heorot.core.head.context import HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.reports import MisplacedError
from heorot.core.machine import Log, Send
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.below_links import LinksBelow
from heorot.core.tree.greeting import WRONG_BELOW
from heorot.core.tree.merged_reports import report_for
from heorot.core.tree.nodeset import NodeSet
from heorot.core.tree.runs import flat
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_ATTACH

ASK_AGAIN_MS = 60_000
"""A node that was wrong is asked to attach again so often at most; else at the heartbeats that show that it lacks."""


class PassedWords:
    """See the module. `take` does what a node has said, which came over a link."""

    def __init__(
        self,
        context: HeadContext,
        jobs: Jobs,
        links_below: LinksBelow,
        take: Callable[[LinkBelow, int, m.NodePayload], None],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._links_below = links_below
        self._take = take
        self._asked_ms: dict[int, int] = {}
        """By node that was wrong: when it was last asked to attach again."""

    def up(self, link: LinkBelow, up: m.Up) -> None:
        """A child passes on what a node says. Raises ProtocolError if it is wrong, and its own."""
        # One that has moved elsewhere meanwhile: its inventory says it again on the new way.
        if not link.mask >> up.node & 1 and m.tag_of(up.payload) != TAG_ATTACH:
            return
        try:
            self._take(link, up.node, m.decode_node_payload(up.payload))
        except ProtocolError as error:
            self._wrong(link, up.node, error)

    def report(self, link: LinkBelow, report: m.Report) -> None:
        """A child passes on what nodes report of their ranks. Raises ProtocolError if it is wrong, and its own."""
        mask = link.mask
        try:
            self._jobs.report(mask, report)
        except MisplacedError as error:
            for node in NodeSet(error.nodes.mask & mask):
                self._wrong(link, node, error)
            left = report_for(mask & ~error.nodes.mask, flat(report, mask))
            if left is not None:
                self._jobs.report(mask, left)

    def _wrong(self, link: LinkBelow, node: int, error: ProtocolError) -> None:
        context = self._context
        if node == link.peer or not link.mask >> node & 1:
            raise error
        context.emit(Log("warning", f"n{node} says something wrong: {error}", link.link, WRONG_BELOW))
        self._links_below.detach(1 << node)
        asked_ms = self._asked_ms.get(node)
        if asked_ms is None or context.now_ms - asked_ms >= ASK_AGAIN_MS:
            self._asked_ms[node] = context.now_ms
            context.emit(Send(link.link, m.Reattached(context.config.epoch)))
