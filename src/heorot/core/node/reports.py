"""Reports of a node and of all below it on their way up: those of one job are merged
(`heorot.core.tree.accumulator`).
"""

from __future__ import annotations

from heorot.core.machine import SetTimer
from heorot.core.node.context import NodeContext
from heorot.core.node.timers import MergeDue
from heorot.core.tree.accumulator import Accumulator
from heorot.core.tree.nodeset import NodeSet
from heorot.core.tree.runs import in_runs
from heorot.core.wire import tree as m

MAX_ACCUMULATORS = 16_384
"""The job whose reports have waited long enough follows."""


class SubtreeReports:
    """What this node waits for of each job, and what it has not passed on yet."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self.accumulators: dict[str, Accumulator] = {}

    def expect(self, nodes: NodeSet, payload: bytes) -> None:
        """A launch for these nodes goes by: wait for the reports of those that are here or below."""
        if not self._context.below.by_link and not self.accumulators:
            return
        launch = m.decode_head_command(payload)
        assert isinstance(launch, m.Launch)
        subtree = 1 << self._context.config.node | self._context.below.mask
        expected = nodes.mask & subtree
        known = self.accumulators.get(launch.job)
        if known is not None:
            known.expected |= expected
        elif expected and len(self.accumulators) < MAX_ACCUMULATORS:
            self.accumulators[launch.job] = Accumulator(launch.job, expected, self._context.config.merge_ms)

    def expect_no_more(self, mask: int, job: str | None = None) -> None:
        """Do not wait for reports of these nodes any more: their inventories say it all, or the job is released."""
        if job is None:
            concerned = [accumulator for accumulator in self.accumulators.values() if accumulator.expected & mask]
        else:
            concerned = [self.accumulators[job]] if job in self.accumulators else []
        for accumulator in concerned:
            accumulator.expected &= ~mask
            if job is None or not accumulator.expected:
                # What the others have said waits for nobody: the count of those that are missing is right no more.
                self._flush(accumulator)

    def merge(self, report: m.Report) -> None:
        """Pass a report on, alone or with others."""
        accumulator = self.accumulators.get(report.job)
        if accumulator is not None and not accumulator.has_room_for(report):
            self._flush(accumulator)
            accumulator = self.accumulators.get(report.job)
        if accumulator is None:
            # No launch of this job came by (an agent that was restarted): nothing to wait for.
            self._context.send_up(report)
            return
        was_empty = accumulator.empty
        if accumulator.add(report):
            self._flush(accumulator)
        elif was_empty:
            due_ms = accumulator.due_ms(self._context.now_ms)
            self._context.emit(SetTimer(MergeDue(report.job), due_ms))

    def waited(self, job: str) -> None:
        """The timer of this job has fired."""
        accumulator = self.accumulators.get(job)
        if accumulator is not None:
            accumulator.waited(self._context.now_ms)
            self._flush(accumulator)

    def _flush(self, accumulator: Accumulator) -> None:
        if not accumulator.empty:
            self._context.send_up(in_runs(accumulator.take()))
        if accumulator.finished:
            del self.accumulators[accumulator.job]
