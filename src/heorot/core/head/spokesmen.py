"""For whom a node may speak, whose agent passes clients on (`heorot.core.wire.passing`).

Only the node's own kernel has seen who the client is, and whoever has broken into a node makes it say what he likes. So
a node speaks for a user only while a job of that user has a rank there: what runs there could be made to act for that
user anyway. It never speaks for root: nobody may become the administrator of all nodes from one.
"""

from __future__ import annotations

from heorot.core.errors import RequestError
from heorot.core.head.context import Caller, HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.settling import Settling
from heorot.core.machine import ClientOpened
from heorot.core.tree.greeting import removal, replacement

ROOT = 0


class Spokesmen:
    """The nodes that speak for users."""

    def __init__(self, context: HeadContext, jobs: Jobs, settling: Settling) -> None:
        self._context = context
        self._jobs = jobs
        self._settling = settling

    def objection(self, event: ClientOpened) -> str:
        """Return why a node passes nobody on, whoever the client is; empty: it may."""
        outcasts = self._context.members.outcasts
        if outcasts.keeps_out(event.node, event.holder):
            return removal(event.node) if outcasts.is_removed(event.node) else replacement(event.node)
        if event.uid == ROOT:
            return f"n{event.node} does not speak for root: run this on the host of a head"
        return ""

    def require(self, caller: Caller) -> None:
        """Raise RequestError unless a job of the user runs there; the request waits while that is not known."""
        for job in self._jobs.jobs.values():
            if job.ticket.uid == caller.uid and not job.done and job.live_ranks_on(caller.node):
                return
        # A head that is new may not have heard of it yet.
        self._settling.require()
        raise RequestError(
            "not-permitted",
            f"n{caller.node} speaks for {caller.user} only while a job of {caller.user} runs there: run this on the "
            "host of a head",
        )
