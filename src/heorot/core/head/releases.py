"""Telling nodes to forget the jobs that are collected, and knowing afterwards which jobs those were."""

from __future__ import annotations

from heorot.core.head.context import HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.head.timers import ReleaseDue
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m

RELEASE_DELAY_MS = 250
MAX_RELEASES = 256
MAX_FORGOTTEN = 4_096


class Releases:
    """Jobs that their nodes may forget."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._unsent: dict[str, NodeSet] = {}
        self._forgotten: dict[str, None] = {}
        """Jobs of earlier heads that are on the list no more: a node that still holds one is not to bring it back."""

    def __contains__(self, job: str) -> bool:
        return job in self._unsent or job in self._forgotten

    def add(self, job: HeadJob) -> None:
        """Let its nodes forget this job, soon."""
        self._unsent[job.id] = job.node_set
        if len(self._unsent) == 1:
            self._context.set_timer(ReleaseDue(), RELEASE_DELAY_MS)
        elif len(self._unsent) >= MAX_RELEASES:
            self.send()

    def send(self, within: NodeSet | None = None) -> None:
        """Let nodes forget what is collected.

        Nobody waits for it. So it goes with the next launch on the same nodes (`within`), which wakes them anyway, or a
        little later.
        """
        for job, nodes in list(self._unsent.items()):
            if within is None or not nodes - within:
                del self._unsent[job]
                self._context.send_down(nodes, m.Release(job))

    def forget(self, job: HeadJob) -> None:
        """This job leaves the head's list; one of this head's own is recognised by its epoch."""
        if job.adopted:
            self.disown(job.id)

    def disown(self, job: str) -> None:
        """Have nodes that still hold this job of an earlier head forget it when they say so."""
        self._forgotten[job] = None
        if len(self._forgotten) > MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]
