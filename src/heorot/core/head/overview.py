"""What is shown of nodes, jobs and processes: the same to who asks once as to who watches."""

from __future__ import annotations

from heorot.core.head.contact import Contact, contact_of
from heorot.core.head.context import HeadContext
from heorot.core.head.jobs import Jobs
from heorot.core.head.requests import NOBODY, Requests
from heorot.core.head.settling import Settling, unheard
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire.rows import ClusterStatus, JobRow, NodeRow


class Overview:
    """See the module."""

    def __init__(self, context: HeadContext, jobs: Jobs, requests: Requests, settling: Settling) -> None:
        self._context = context
        self._jobs = jobs
        self._requests = requests
        self._settling = settling

    def status(self) -> ClusterStatus:
        """Return what is known of the cluster."""
        contact, silent = contact_of(self._context), self._settling.unknown
        return self._requests.status(silent, self._untold(contact), contact)

    def _untold(self, contact: Contact) -> NodeSet:
        """Return the nodes whose state this head cannot tell: it is new, or may not lead any more."""
        records = self._context.members.records
        return NodeSet.of(node for node in self._settling.unknown if records[node].word == "down") | contact.unknown

    @property
    def entries_read(self) -> int:
        """What all node lists have cost so far: see `heorot.core.head.requests.Requests`."""
        return self._requests.entries_read

    # ------------------------------------------------------------------ nodes

    def nodes_named(self, text: str) -> list[int]:
        """Return the nodes that a node list means, in its order; all if it is empty. Raises RequestError."""
        if not text:
            return self._context.members.known.numbers()
        return self._requests.select(text, "list", self._untold(contact_of(self._context)))[0]

    def node_rows(self, nodes: list[int]) -> list[NodeRow]:
        """Return what is known of these nodes."""
        untold = self._untold(contact_of(self._context))
        return self._requests.node_rows(nodes, self._settling.unknown, untold)

    def tell_doubts(self, client: int, request: int) -> None:
        """Say of which nodes this head cannot tell, and why."""
        unknown, contact = self._settling.unknown, contact_of(self._context)
        if unknown:
            self._context.to_client(client, c.Notice(request, unheard(unknown), unknown.ranges()))
        if contact.lost:
            self._context.to_client(client, c.Notice(request, contact.text, contact.lost.ranges()))

    # ------------------------------------------------------------------ jobs and processes

    def job_rows(self) -> list[JobRow]:
        """Return what is known of all jobs."""
        return [job.row() for job in self._jobs.jobs.values()]

    def nodes_of_processes(self, text: str, job: str | None) -> NodeSet:
        """Return the nodes that are to be asked for processes: those named, else all that are up, or may be.

        Raises
        ------
        RequestError
            ``bad-nodes`` or ``no-such-job``.
        """
        if text:
            nodes = NodeSet.of(node for node in self._requests.select(text, "list", NOBODY)[0] if node != HEAD)
        else:
            nodes = self._context.members.up | self._settling.unknown
        return nodes & self._requests.job(job).node_set if job is not None else nodes
