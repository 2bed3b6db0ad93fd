"""Nodes that were taken out of the cluster while this head leads: they are refused from then on, wherever they come.

A node that was removed has a certificate that stays valid, and a place that the head has signed. So being refused by
the head is not enough: the relays are told, too (`heorot.core.wire.tree.Barred`), and let it in no more. What stands
below it is placed elsewhere first, while the way over it still serves.
"""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.events import HeadEvents
from heorot.core.head.jobs import Jobs
from heorot.core.head.membership import KnownNode
from heorot.core.head.requests import Requests
from heorot.core.head.states import NodeChange
from heorot.core.machine import NodesRemoved
from heorot.core.tree.below_link import LinkBelow
from heorot.core.tree.below_links import LinksBelow, Objection
from heorot.core.tree.greeting import REMOVED, removal, replacement
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.events import REMOVED as REMOVED_NODE


class Removals:
    """Keeps removed nodes out."""

    def __init__(
        self, context: HeadContext, jobs: Jobs, requests: Requests, links_below: LinksBelow, events: HeadEvents
    ) -> None:
        self._events = events
        self._context = context
        self._jobs = jobs
        self._requests = requests
        self._links_below = links_below
        self._told = 0
        """Mask of the nodes of whose refusal the log tells."""

    def has(self, node: int) -> bool:
        """Say whether a node was removed."""
        return self._context.members.outcasts.is_removed(node)

    def objection(self, link: LinkBelow) -> Objection | None:
        """Return why a neighbour is refused that is none of the cluster's any more; None: it is one.

        It comes again and again: for the log that is news once.
        """
        if not self._context.members.outcasts.keeps_out(link.peer, link.holder):
            return None
        known = self._told >> link.peer & 1
        self._told |= 1 << link.peer
        return REMOVED, self._why(link.peer), "debug" if known else "warning"

    def _why(self, node: int) -> str:
        return removal(node) if self.has(node) else replacement(node)

    def know(self, event: NodesRemoved) -> None:
        """These nodes, and no others, are removed now: one whose number was given anew is no longer among them.

        Who had that number before is: whatever was attached under it is taken out first.
        """
        context, members = self._context, self._context.members
        outcasts = members.outcasts
        mask, former = NodeSet.of(event.nodes).mask, frozenset(event.former)
        replaced = self._replace(dict(event.given_to))
        if mask == outcasts.removed and former == outcasts.former and not replaced:
            return
        new = mask & ~outcasts.removed | replaced
        outcasts.removed, outcasts.former = mask, former
        self._told &= mask
        gone = [members.records[node] for node in NodeSet(new) if node in members.records]
        for record in gone:
            members.step(record, NodeChange.REMOVED)
        for record in self._below(new):
            context.place(record, members.desired_path(record.node))
        for record in gone:
            # Best effort, for a node that still obeys: what runs there is nobody's any more.
            for job in self._jobs.jobs.values():
                if not job.released and record.node in job.node_set:
                    context.send_down(NodeSet(1 << record.node), m.Release(job.id))
        self.tell(context.below.mask & ~mask)
        for record in gone:
            self._end(record)

    def _replace(self, given_to: dict[int, bytes]) -> int:
        """Take note of who has which number; return those under which another one is known here."""
        outcasts, links = self._context.members.outcasts, self._context.below.by_link.values()
        known, outcasts.given_to = outcasts.given_to, given_to
        self._context.members.holders_known()
        replaced = {node for node, holder in given_to.items() if known.get(node, holder) != holder}
        replaced.update(link.peer for link in links if outcasts.is_former(link.peer, link.holder))
        return NodeSet.of(replaced).mask

    def _below(self, mask: int) -> list[KnownNode]:
        """Return the attached nodes that stand below one of these and are not removed themselves."""
        records = self._context.members.records
        below = mask
        found: list[KnownNode] = []
        grown = True
        while grown:
            grown = False
            for record in records.values():
                if record.link is None or below >> record.node & 1 or record.parent < 0:
                    continue
                if below >> record.parent & 1:
                    below |= 1 << record.node
                    found.append(record)
                    grown = True
        return [record for record in found if not self.has(record.node)]

    def _end(self, record: KnownNode) -> None:
        context = self._context
        why = self._why(record.node)
        context.log("warning", why)
        self._events.note(REMOVED_NODE, 1 << record.node, text=why)
        self._jobs.node_gone(record.node, why)
        self._requests.questions.node_gone(record.node)
        record.incarnation = None
        for link in list(context.below.by_link.values()):
            if link.peer == record.node and context.members.outcasts.keeps_out(link.peer, link.holder):
                self._links_below.refuse(link, REMOVED, why)
        self._links_below.detach(1 << record.node)

    def tell(self, mask: int) -> None:
        """Tell these nodes whom they must not let in, those of them that understand it."""
        members = self._context.members
        able = NodeSet.of(node for node in NodeSet(mask) if members.records[node].heads is not None)
        if able:
            self._context.send_down(
                able, m.Barred(NodeSet(members.outcasts.removed).ranges(), sorted(members.outcasts.former))
            )

    def refused(self, link: LinkBelow, node: int) -> None:
        """A node that was removed has come through a relay: the relay does not know."""
        self._context.log("debug", f"n{link.peer} brings n{node}, which was removed")
        if link.mask:
            self.tell(link.mask)
