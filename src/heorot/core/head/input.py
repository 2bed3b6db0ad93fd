"""A job's input on its way from its client to its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from heorot.core.errors import ProtocolError
from heorot.core.head.context import HeadContext
from heorot.core.head.job import HeadJob
from heorot.core.head.stdin_feed import StdinFeed
from heorot.core.streams import TAKES_NO_MORE
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m


class JobInput:
    """Passes input on, repeats it for nodes that were away, and tells the client how far the slowest has come."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context

    def feed(self, job: HeadJob, message: c.ClientStdin) -> None:
        """Pass a client's input on to the ranks.

        Raises
        ------
        ProtocolError
            If there is no such rank, or as `StdinFeed.take` does.
        """
        rank = message.rank
        if rank < 0:
            feed, nodes, ranks = job.stdin, job.live_nodes(), None
            if job.ticket.spec.stdin_ranks is not None:
                nodes = nodes & job.input_nodes
        else:
            if rank >= len(job.nodes):
                raise ProtocolError(f"input for rank {rank} of job {job.id}, which has {len(job.nodes)} ranks")
            opened = job.rank_stdin.get(rank)
            if opened is None:
                opened = job.rank_stdin[rank] = StdinFeed()
                # Under an earlier head the client may have fed it before; its node knows what it has.
                opened.open([job.nodes[rank]], message.offset if job.adopted else 0)
            feed, nodes, ranks = opened, NodeSet.of([job.nodes[rank]]), [rank]
        offset = feed.sent
        fresh = feed.take(message.offset, message.data, message.end)
        if fresh or message.end:
            self._context.send_down(nodes, m.Stdin(job.id, ranks, offset, fresh, message.end), bulk=True)
        if feed.slowest > message.offset:
            # Sent again after a change of heads, and taken already: nobody else would say so.
            self.tell(job, rank, feed)

    def resume(self, job: HeadJob, acknowledged: list[int]) -> None:
        """A client goes on; flat: rank (-1 is broadcast), the offset up to which it knows that all have its input.

        Raises
        ------
        ProtocolError
            If the list is incomplete or there is no such rank.
        """
        if len(acknowledged) % 2:
            raise ProtocolError("a list of offsets with an incomplete record")
        for rank, offset in zip(acknowledged[0::2], acknowledged[1::2], strict=True):
            if not -1 <= rank < len(job.nodes) or not 0 <= offset < TAKES_NO_MORE:
                raise ProtocolError(f"offset {offset} of the input of rank {rank} of job {job.id}")
            if rank < 0:
                job.stdin.reopen(offset)

    def feed_again(self, job: HeadJob, node: int) -> None:
        """Send a node the input that it has not acknowledged; what it has taken already it leaves out."""
        for rank, feed in [(-1, job.stdin), *job.rank_stdin.items()]:
            taken = feed.offsets.get(node)
            if taken is not None:
                ranks = None if rank < 0 else [rank]
                for offset, data, end in feed.missing(taken):
                    self._context.send_down(NodeSet(1 << node), m.Stdin(job.id, ranks, offset, data, end), bulk=True)

    def acked(self, job: HeadJob, node: int, rank: int, offset: int) -> None:
        """Note how far a node has taken the input; `rank` -1 is the broadcast."""
        feed = job.stdin if rank < 0 else job.rank_stdin.get(rank)
        if feed is not None and feed.ack(node, offset):
            self.tell(job, rank, feed)

    def read_no_more(self, job: HeadJob, nodes: Sequence[int], ranks: Sequence[int]) -> None:
        """These ranks are over: whoever waited for them to take their input waits no longer."""
        if job.rank_stdin:
            for node, rank in zip(nodes, ranks, strict=True):
                own = job.rank_stdin.get(rank)
                if own is not None and own.drop(node):
                    self.tell(job, rank, own)
        if not job.stdin.offsets:
            return
        moved = False
        for node in nodes:
            if job.places.one_on_each or not job.live_ranks_on(node):
                moved = job.stdin.drop(node) or moved
        if moved:
            self.tell(job, -1, job.stdin)

    def node_gone(self, job: HeadJob, node: int) -> None:
        """Nobody waits for this node any more."""
        for rank, feed in [(-1, job.stdin), *job.rank_stdin.items()]:
            if feed.drop(node):
                self.tell(job, rank, feed)

    def tell(self, job: HeadJob, rank: int, feed: StdinFeed) -> None:
        """Tell the client how far the slowest has come."""
        if job.client is not None:
            closed = feed.slowest >= TAKES_NO_MORE
            self._context.to_client(job.client, c.ClientStdinAck(job.id, rank, min(feed.slowest, feed.sent), closed))
