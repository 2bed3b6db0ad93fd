"""Launches for this node itself: which of them are obeyed, and when they are handed to bpinit."""

from __future__ import annotations

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.images.hop import Transfers
from heorot.core.node.context import NodeContext
from heorot.core.node.epoch import EpochKeeping
from heorot.core.node.programs import Programs
from heorot.core.node.reports import SubtreeReports
from heorot.core.node.space import KnownSpace
from heorot.core.tickets import clock_problem, open_signed_launch
from heorot.core.wire import tree as m


class OwnLaunches:
    """Checks launches for itself, whoever has passed them on, and answers for those that it refuses."""

    def __init__(
        self,
        context: NodeContext,
        space: KnownSpace,
        epochs: EpochKeeping,
        reports: SubtreeReports,
        transfers: Transfers,
    ) -> None:
        self._context = context
        self._space = space
        self._epochs = epochs
        self._reports = reports
        self.programs = Programs(context.emit, transfers, self._hand_over, self._fail)

    def launch(self, payload: bytes) -> None:
        """A launch has come.

        Raises
        ------
        ProtocolError
            If it says what only this node can know.
        """
        context, space = self._context, self._space
        launch = m.decode_head_command(payload)
        assert isinstance(launch, m.Launch)
        if launch.view or launch.waits:
            raise ProtocolError("a launch from above says what only this node can know")
        try:
            ticket = open_signed_launch(context.verify, launch, cluster=context.config.cluster)
            if ticket.epoch < context.epoch:
                raise SecurityError(f"the launch is of epoch {ticket.epoch}; this node has seen {context.epoch}")
        except SecurityError as error:
            context.log("error", f"launch {launch.job} refused: {error}")
            self._report_failure(launch, self._refusal(str(error)))
            return
        if not self._epochs.has_kept(ticket.epoch, lambda: self.launch(payload)):
            return
        if not space.admitted_after or m.job_order(ticket.job) <= m.job_order(space.admitted_after):
            # Meant for a former incarnation, which may have started it. The head decides by the inventory of this one.
            context.log("warning", f"launch {ticket.job} was not meant for this incarnation and is dropped")
            # So that no relay waits for this node.
            self._reports.of_jobs.merge(m.Report(ticket.job, [], [], [], 1, 1))
            return
        problem = clock_problem(ticket, context.now_ms + context.config.wall_offset_ms)
        if ticket.refused:
            self._fail(launch, self._refusal(ticket.refused))
        elif problem:
            context.log("error", f"launch {launch.job} refused: {problem}")
            self._fail(launch, self._refusal(problem))
        elif ticket.spec.image:
            if m.ranks_on(ticket, context.config.node):
                self.programs.hold(launch, ticket)
            else:
                # Somebody repeats a launch of others: bpinit would say nothing of it, and the image would stay.
                context.log("warning", f"the ticket of job {ticket.job} names no rank on node {context.config.node}")
        else:
            space.give(payload)

    def _hand_over(self, launch: m.Launch) -> None:
        self._space.give(m.encode(launch))

    def _fail(self, launch: m.Launch, why: str) -> None:
        """Report the ranks of a launch whose ticket is in order as failed."""
        # The space may hold the job, or have released it; else it remembers the refusal, for the next head, too.
        self._space.give(m.encode(m.RefuseLaunch(launch.ticket, launch.signature, why)))

    def _refusal(self, why: str) -> str:
        return f"n{self._context.config.node} refuses the launch: {why}"

    def _report_failure(self, launch: m.Launch, why: str) -> None:
        # The ticket may not be trusted, but the head checks every report against what it asked for.
        ticket = m.decode_ticket(launch.ticket)
        node = self._context.config.node
        failed = [m.Failure(node, rank, 0, why) for rank in m.ranks_on(ticket, node)]
        self._reports.of_jobs.merge(m.Report(ticket.job, [], [], failed, 1, 1))
