"""Reports of many ranks in few numbers: what consecutive ranks on consecutive nodes have in common is said once.

A relay merges what its subtree reports, and its ranks have usually begun together and ended alike. So the head's share
of a launch grows with the number of its children, not with that of the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.messages import MAX_RANKS, Report

RUNS_VERSION = 2
"""Neighbours of an older protocol do not understand runs."""
RANKS_IN_A_RUN = 2
"""Below this mean a run takes more room than its ranks."""

_Record = tuple[int, ...]
"""Rank, node, and what else is said of the rank."""


def in_runs(report: Report) -> Report:
    """Return the same report, shorter where ranks follow one another."""
    started, exited = report.started, report.exited
    started_runs: list[int] = []
    pids: list[int] = []
    exited_runs: list[int] = []
    records: list[_Record] = sorted(zip(started[1::3], started[0::3], started[2::3], strict=True))
    runs = _runs(records, 2)
    if len(runs) * RANKS_IN_A_RUN <= len(records):
        for rank, node, count in runs:
            started_runs += (node, rank, count)
        pids = [record[2] for record in records]
        started = []
    records = sorted(zip(exited[1::5], exited[0::5], exited[2::5], exited[3::5], exited[4::5], strict=True))
    runs = _runs(records, 5)
    if len(runs) * RANKS_IN_A_RUN <= len(records):
        position = 0
        for rank, node, count in runs:
            exited_runs += (node, rank, count, *records[position][2:])
            position += count
        exited = []
    if not started_runs and not exited_runs:
        return report
    return replace(
        report, started=started, exited=exited, started_runs=started_runs, pids=pids, exited_runs=exited_runs
    )


def _runs(records: Sequence[_Record], alike: int) -> list[tuple[int, int, int]]:
    """Return runs (first rank, first node, count) of sorted records; all of one agree in fields 2 to `alike`."""
    runs: list[tuple[int, int, int]] = []
    first: _Record = ()
    count = 0
    for record in records:
        if (
            count
            and record[0] - first[0] == count
            and record[1] - first[1] == count
            and record[2:alike] == first[2:alike]
        ):
            count += 1
            continue
        if count:
            runs.append((first[0], first[1], count))
        first, count = record, 1
    if count:
        runs.append((first[0], first[1], count))
    return runs


def flat(report: Report) -> Report:
    """Return the same report without runs.

    Raises
    ------
    ProtocolError
        If a record is incomplete, or the report is of more ranks than a job can have.
    """
    check(report)
    if not report.started_runs and not report.exited_runs:
        return report
    started, exited, pids = report.started[:], report.exited[:], iter(report.pids)
    runs = report.started_runs
    for index in range(0, len(runs), 3):
        node, rank, count = runs[index : index + 3]
        for step in range(count):
            started += (node + step, rank + step, next(pids))
    runs = report.exited_runs
    for index in range(0, len(runs), 6):
        node, rank, count, *ending = runs[index : index + 6]
        for step in range(count):
            exited += (node + step, rank + step, *ending)
    return replace(report, started=started, exited=exited, started_runs=[], pids=[], exited_runs=[])


def check(report: Report) -> None:
    """Raise ProtocolError if a record is incomplete, or the report is of more ranks than a job can have."""
    if len(report.started) % 3 or len(report.exited) % 5 or len(report.started_runs) % 3 or len(report.exited_runs) % 6:
        raise ProtocolError("a report with an incomplete record")
    started, exited = report.started_runs[2::3], report.exited_runs[2::6]
    if min(started, default=1) < 1 or min(exited, default=1) < 1:
        raise ProtocolError("a report with a run of no ranks")
    if sum(started) != len(report.pids):
        raise ProtocolError(f"a report with {len(report.pids)} PIDs for {sum(started)} ranks")
    if sum(exited) > MAX_RANKS:
        raise ProtocolError(f"a report of {sum(exited)} ranks; no job has more than {MAX_RANKS}")
