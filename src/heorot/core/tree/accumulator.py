"""Merging the reports of one job on their way up, so that the head's work does not grow with the number of nodes.

A relay counts for each job on how many nodes of its subtree it expects news. It passes the merged report on as soon as
all of them are started, or all of them are over; otherwise a short while after the first news.
"""

from __future__ import annotations

from heorot.core.tree.nodeset import MAX_NODES
from heorot.core.tree.runs import flat, used_of
from heorot.core.wire.framing import MAX_FRAME_BYTES
from heorot.core.wire.tree import Failure, Report

LONGEST_WAIT_FACTOR = 16
LAUNCH_WAIT_MS_PER_NODE = 60
LONGEST_LAUNCH_WAIT_MS = 2_000
"""So long the news of a launch under way waits for the rest of its subtree. A subtree on hosts of its own is complete
after some milliseconds; one on a busy machine that holds many nodes shall not reach the head in pieces."""
CALM_MS = 1_000
"""After this time without news, the next waits as short as the first."""
MAX_MERGED_ENTRIES = 16_384
"""A merged report is sent on at this size, whatever is still missing."""
MAX_MERGED_BYTES = MAX_FRAME_BYTES // 4
"""No two reports that take more than this together are merged: the bound of the buffer and of the frame."""


class Accumulator:
    """The merged, not yet forwarded report of one job."""

    __slots__ = (
        "_first_wait_ms",
        "_sent_at_ms",
        "exited",
        "expected",
        "failed",
        "job",
        "killed",
        "nodes_over",
        "nodes_started",
        "notes",
        "pending_over",
        "pending_started",
        "size_bytes",
        "started",
        "used",
        "used_runs",
        "wait_ms",
    )

    def __init__(self, job: str, expected: int, wait_ms: int) -> None:
        self.job = job
        self.wait_ms = wait_ms
        """How long news may wait for more. Doubles each time that waiting did not complete it, within a bound: a launch
        that takes long on a busy machine must not reach the head in many small pieces."""
        self._first_wait_ms = wait_ms
        self._sent_at_ms = 0
        self.expected = expected
        """Mask of the nodes of this subtree whose reports are waited for."""
        self.nodes_started = 0
        self.nodes_over = 0
        self.started: list[int] = []
        self.exited: list[int] = []
        self.failed: list[Failure] = []
        self.notes: list[Failure] = []
        self.killed: list[int] = []
        self.used_runs: list[int] = []
        self.used: list[int] = []
        self.size_bytes = 0
        """How much it takes in a frame at most."""
        self.pending_started = 0
        self.pending_over = 0

    def add(self, report: Report) -> bool:
        """Merge a report; return True if it is time to forward."""
        self.started += report.started
        self.exited += report.exited
        self.failed += report.failed
        self.notes += report.notes
        self.killed += report.killed
        self.used_runs += report.used_runs
        self.used += report.used
        self.size_bytes += _size_bytes(report)
        self.pending_started = min(self.pending_started + report.nodes_started, MAX_NODES)
        self.pending_over = min(self.pending_over + report.nodes_over, MAX_NODES)
        before_started, before_over = self.nodes_started, self.nodes_over
        expected_nodes = self.expected.bit_count()
        self.nodes_started = min(self.nodes_started + report.nodes_started, MAX_NODES)
        self.nodes_over = min(self.nodes_over + report.nodes_over, MAX_NODES)
        # A failure waits for no one: somebody is looking at a command that cannot run.
        return (
            bool(report.failed)
            or before_started < expected_nodes <= self.nodes_started
            or before_over < expected_nodes <= self.nodes_over
            or len(self.started) + len(self.exited) + len(self.notes) + len(self.killed) > MAX_MERGED_ENTRIES
        )

    def has_room_for(self, report: Report) -> bool:
        """Say whether this report can be merged with what waits."""
        return self.empty or self.size_bytes + _size_bytes(report) <= MAX_MERGED_BYTES

    def take(self) -> Report:
        """Return what was merged since the last call, and forget it."""
        report = Report(
            self.job, self.started, self.exited, self.failed, self.pending_started, self.pending_over, self.notes,
            killed=self.killed, used_runs=self.used_runs, used=self.used,
        )  # fmt: skip
        self.started, self.exited, self.failed, self.notes, self.killed = [], [], [], [], []
        self.used_runs, self.used = [], []
        self.pending_started = self.pending_over = self.size_bytes = 0
        return report

    def due_ms(self, now_ms: int) -> int:
        """Return until when the first news since the last report may wait."""
        if now_ms - self._sent_at_ms >= CALM_MS:
            self.wait_ms = self._first_wait_ms
        expected = self.expected.bit_count()
        if self.nodes_started < expected:
            # The launch is under way. Its news is complete soon, and is told at once then: only for a straggler, or on
            # a machine that holds many nodes, does this wait take its time.
            return now_ms + max(self.wait_ms, min(LONGEST_LAUNCH_WAIT_MS, LAUNCH_WAIT_MS_PER_NODE * expected))
        return now_ms + self.wait_ms

    def waited(self, now_ms: int) -> None:
        """The time to wait is over, and there was more to come."""
        self._sent_at_ms = now_ms
        self.wait_ms = min(2 * self.wait_ms, LONGEST_WAIT_FACTOR * self._first_wait_ms)

    @property
    def empty(self) -> bool:
        """True if nothing waits to be forwarded."""
        news = self.started or self.exited or self.failed or self.notes or self.killed or self.used_runs
        return not (news or self.pending_started or self.pending_over)

    @property
    def finished(self) -> bool:
        """True if every expected node is over and nothing waits."""
        return self.nodes_over >= self.expected.bit_count() and self.empty


def _size_bytes(report: Report) -> int:
    numbers = len(report.started) + len(report.exited) + len(report.killed) + len(report.used_runs) + len(report.used)
    return 9 * numbers + sum(32 + 4 * len(item.text) for item in (*report.failed, *report.notes))


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
    )
    news = part.started or part.exited or part.failed or part.notes or part.killed or part.used_runs
    return part if news else None


def speakable(mask: int, report: Report) -> Report | None:
    """Return what of a report somebody may say who speaks for these nodes; None if that is nothing.

    A node that has just moved may still be spoken of on its former way. That is no breach of the protocol, and
    nothing is lost by leaving it out: its inventory says it again on the new way.
    """
    report = flat(report, mask)
    nodes = report.started[0::3] + report.exited[0::5]
    nodes += [failure.node for failure in report.failed] + [note.node for note in report.notes]
    if all(node >= 0 and mask >> node & 1 for node in nodes):
        return report
    return report_for(mask, report)
