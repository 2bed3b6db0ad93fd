"""Reports of one job, merged on their way up; and which part of one somebody may say."""

from __future__ import annotations

from heorot.core.tree.accumulator import Merged
from heorot.core.tree.nodeset import MAX_NODES
from heorot.core.tree.runs import flat, in_runs, used_of
from heorot.core.wire.reports import STOP_NUMBERS
from heorot.core.wire.tree import Failure, HeadCommand, Launch, Report

LAUNCH_WAIT_MS_PER_NODE = 60
LONGEST_LAUNCH_WAIT_MS = 2_000
"""So long the news of a launch under way waits for the rest of its subtree. A subtree on hosts of its own is complete
after some milliseconds; one on a busy machine that holds many nodes shall not reach the head in pieces."""
MAX_ABORTS = 4
"""So many reasons for which a job has to end are passed on together."""


class MergedReports(Merged[Report]):
    """What the ranks of one job have come to. Milestones: all of a node's are started; all of them are over."""

    __slots__ = (
        "aborts", "exited", "failed", "has_aborted", "killed", "nodes_over", "nodes_started", "notes", "pending_over",
        "pending_started", "started", "stops", "used", "used_runs",
    )  # fmt: skip
    max_subjects = 16_384

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.nodes_started = 0
        self.nodes_over = 0
        self.has_aborted = False
        """Somebody was told at once that the whole job has to end; whoever says so after that can wait."""
        self._forget()

    def _forget(self) -> None:
        self.started: list[int] = []
        self.exited: list[int] = []
        self.failed: list[Failure] = []
        self.notes: list[Failure] = []
        self.killed: list[int] = []
        self.used_runs: list[int] = []
        self.used: list[int] = []
        self.aborts: list[Failure] = []
        self.stops: dict[tuple[int, int], list[int]] = {}
        """By node and rank; of one that stops and goes on while news waits here, the last."""
        self.pending_started = 0
        self.pending_over = 0

    @staticmethod
    def called_for_by(command: HeadCommand) -> str:
        """See `Merged`: a launch."""
        assert isinstance(command, Launch)
        return command.job

    @staticmethod
    def subject_of(word: Report) -> str:
        """See `Merged`."""
        return word.job

    @staticmethod
    def weigh(word: Report) -> int:
        """See `Merged`."""
        numbers = len(word.started) + len(word.exited) + len(word.killed) + len(word.used_runs) + len(word.used)
        numbers += len(word.stops)
        return 9 * numbers + sum(32 + 4 * len(item.text) for item in (*word.failed, *word.notes, *word.aborts))

    def add(self, word: Report) -> None:
        """See `Merged`."""
        self.started += word.started
        self.exited += word.exited
        self.failed += word.failed
        self.notes += word.notes
        self.killed += word.killed
        self.used_runs += word.used_runs
        self.used += word.used
        # All of a job may say it, and one is enough.
        self.aborts += word.aborts[: MAX_ABORTS - len(self.aborts)]
        for index in range(0, len(word.stops), STOP_NUMBERS):
            record = word.stops[index : index + STOP_NUMBERS]
            where = record[0], record[1]
            known = self.stops.get(where)
            if known is None or known[2] < record[2]:
                self.stops[where] = record
        self.pending_started = min(self.pending_started + word.nodes_started, MAX_NODES)
        self.pending_over = min(self.pending_over + word.nodes_over, MAX_NODES)
        self.nodes_started = min(self.nodes_started + word.nodes_started, MAX_NODES)
        self.nodes_over = min(self.nodes_over + word.nodes_over, MAX_NODES)

    def take(self) -> Report:
        """See `Merged`."""
        assert isinstance(self.subject, str)
        report = Report(
            self.subject, self.started, self.exited, self.failed, self.pending_started, self.pending_over, self.notes,
            killed=self.killed, used_runs=self.used_runs, used=self.used, aborts=self.aborts,
            stops=[value for record in self.stops.values() for value in record] if self.stops else [],
        )  # fmt: skip
        self._forget()
        return in_runs(report)

    @property
    def empty(self) -> bool:
        """See `Merged`."""
        news = self.started or self.exited or self.failed or self.notes or self.killed or self.used_runs or self.aborts
        return not (news or self.stops or self.pending_started or self.pending_over)

    @property
    def entries(self) -> int:
        """See `Merged`."""
        return len(self.started) + len(self.exited) + len(self.notes) + len(self.killed) + len(self.stops)

    @property
    def milestones(self) -> tuple[int, ...]:
        """See `Merged`."""
        return self.nodes_started, self.nodes_over

    def waits_for_no_one(self, word: Report) -> bool:
        """A failure does not: somebody is looking at a command that cannot run, or the others of its job are to end."""
        first_abort = bool(word.aborts) and not self.has_aborted
        self.has_aborted = self.has_aborted or first_abort
        return bool(word.failed) or first_abort

    def patience_ms(self, expected_nodes: int) -> int:
        """The launch is under way. Its news is complete soon, and is told at once then: only for a straggler, or on a
        machine that holds many nodes, does this take its time.
        """
        return min(LONGEST_LAUNCH_WAIT_MS, LAUNCH_WAIT_MS_PER_NODE * expected_nodes)


def report_for(mask: int, report: Report) -> Report | None:
    """Return the part of a report that concerns these nodes, None if there is none; the hints are left out."""

    def of_these(values: list[int], size: int) -> list[int]:
        kept: list[int] = []
        for index in range(0, len(values), size):
            if values[index] >= 0 and mask >> values[index] & 1:
                kept += values[index : index + size]
        return kept

    used_runs, used = used_of(report, mask)
    part = Report(
        report.job,
        of_these(report.started, 3),
        of_these(report.exited, 5),
        [failure for failure in report.failed if mask >> failure.node & 1],
        notes=[note for note in report.notes if mask >> note.node & 1],
        killed=of_these(report.killed, 3),
        used_runs=used_runs,
        used=used,
        aborts=[abort for abort in report.aborts if mask >> abort.node & 1],
        stops=of_these(report.stops, STOP_NUMBERS),
    )
    news = part.started or part.exited or part.failed or part.notes or part.killed or part.used_runs or part.stops
    return part if news or part.aborts else None


def speakable(mask: int, report: Report) -> Report | None:
    """Return what of a report somebody may say who speaks for these nodes; None if that is nothing.

    A node that has just moved may still be spoken of on its former way. That is no breach of the protocol, and
    nothing is lost by leaving it out: its inventory says it again on the new way.
    """
    report = flat(report, mask)
    nodes = report.started[0::3] + report.exited[0::5] + report.killed[0::3] + report.stops[0::STOP_NUMBERS]
    nodes += [failure.node for failure in report.failed] + [note.node for note in report.notes]
    nodes += [abort.node for abort in report.aborts]
    if all(node >= 0 and mask >> node & 1 for node in nodes):
        return report
    return report_for(mask, report)
