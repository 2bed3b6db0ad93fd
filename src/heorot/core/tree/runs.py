"""Reports of many ranks in few numbers: what consecutive ranks on consecutive nodes have in common is said once.

A relay merges what its subtree reports, and its ranks have usually begun together and ended alike. So the head's share
of a launch grows with the number of its children, not with that of the ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.tree.nodeset import MAX_NODES, NodeSet
from heorot.core.wire.launch import MAX_RANKS
from heorot.core.wire.reports import STOP_NUMBERS
from heorot.core.wire.tree import Report

RANKS_IN_A_RUN = 2
"""Below this mean a run takes more room than its ranks."""
MAX_PID = (1 << 31) - 1
MAX_WAIT_STATUS = 0xFFFF
MAX_SIGNAL = 64
MAX_OUTPUT_BYTES = 1 << 62
MAX_USED = 1 << 53
"""Milliseconds or KiB: beyond it a number is no measure of a process."""

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
    used_runs, used = report.used_runs, report.used
    if len(used_runs) > 3:
        # What ranks have used is seldom alike: only where they are is said once.
        records = sorted((rank, node, *numbers) for node, rank, numbers in _used_by_rank(report, None))
        used_runs = [value for rank, node, count in _runs(records, 2) for value in (node, rank, count)]
        used = [value for record in records for value in record[2:]]
    elif not started_runs and not exited_runs:
        return report
    return replace(
        report, started=started, exited=exited, started_runs=started_runs, pids=pids, exited_runs=exited_runs,
        used_runs=used_runs, used=used,
    )  # fmt: skip


def used_of(report: Report, mask: int) -> tuple[list[int], list[int]]:
    """Return `used_runs` and `used` of a report, checked before, as far as the nodes of a mask are concerned."""
    runs: list[int] = []
    used: list[int] = []
    for node, rank, numbers in _used_by_rank(report, mask):
        runs += (node, rank, 1)
        used += numbers
    return runs, used


def _used_by_rank(report: Report, mask: int | None) -> Iterator[tuple[int, int, list[int]]]:
    """Yield node, rank and what it has used."""
    position = 0
    for index in range(0, len(report.used_runs), 3):
        node, rank, count = report.used_runs[index : index + 3]
        for step in _steps(node, count, mask):
            at = 3 * (position + step)
            yield node + step, rank + step, report.used[at : at + 3]
        position += count


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


def flat(report: Report, mask: int | None = None) -> Report:
    """Return the same report without runs of starts and ends; of runs, only what is said of the nodes of `mask`.

    Then a run takes no more time and memory than there are such nodes, however long it says that it is.

    Raises
    ------
    ProtocolError
        If a record is incomplete, or the report is of more ranks than a job can have.
    """
    check_runs(report)
    if mask is not None and report.used_runs:
        used_runs, used = used_of(report, mask)
        report = replace(report, used_runs=used_runs, used=used)
    if not report.started_runs and not report.exited_runs:
        return report
    started, exited = report.started[:], report.exited[:]
    runs, position = report.started_runs, 0
    for index in range(0, len(runs), 3):
        node, rank, count = runs[index : index + 3]
        for step in _steps(node, count, mask):
            started += (node + step, rank + step, report.pids[position + step])
        position += count
    runs = report.exited_runs
    for index in range(0, len(runs), 6):
        node, rank, count, *ending = runs[index : index + 6]
        for step in _steps(node, count, mask):
            exited += (node + step, rank + step, *ending)
    return replace(report, started=started, exited=exited, started_runs=[], pids=[], exited_runs=[])


def _steps(node: int, count: int, mask: int | None) -> Iterable[int]:
    """Return which of a run's ranks are on nodes of the mask."""
    if mask is None:
        return range(count)
    span = (1 << count) - 1
    here = mask >> node & span if 0 <= node < MAX_NODES else 0
    return range(count) if here == span else NodeSet(here)


def check_runs(report: Report) -> None:
    """See that a report may be true of some job, whatever the job.

    Raises
    ------
    ProtocolError
        If a record is incomplete, a number cannot be what it says, or there are more ranks than a job can have.
    """
    started, exited, started_runs, exited_runs = report.started, report.exited, report.started_runs, report.exited_runs
    used_runs, stops = report.used_runs, report.stops
    if (
        len(started) % 3 or len(exited) % 5 or len(started_runs) % 3 or len(exited_runs) % 6 or len(report.killed) % 3
        or len(used_runs) % 3 or len(stops) % STOP_NUMBERS
    ):  # fmt: skip
        raise ProtocolError("a report with an incomplete record")
    counts = started_runs[2::3], exited_runs[2::6], used_runs[2::3]
    if min(map(min, filter(None, counts)), default=1) < 1:
        raise ProtocolError("a report with a run of no ranks")
    if sum(counts[0]) != len(report.pids):
        raise ProtocolError(f"a report with {len(report.pids)} PIDs for {sum(counts[0])} ranks")
    if sum(counts[1]) > MAX_RANKS:
        raise ProtocolError(f"a report of {sum(counts[1])} ranks; no job has more than {MAX_RANKS}")
    if 3 * sum(counts[2]) != len(report.used):
        raise ProtocolError(f"a report with {len(report.used)} numbers of what {sum(counts[2])} ranks have used")
    if used_runs:
        _require("rank", MAX_RANKS - 1, used_runs[1::3])
        _require("measure of a process", MAX_USED, report.used)
    if stops:
        _require("rank", MAX_RANKS - 1, stops[1::STOP_NUMBERS])
        _require("count of changes", MAX_USED, stops[2::STOP_NUMBERS])
        _require("signal", MAX_SIGNAL, stops[3::STOP_NUMBERS])
        _require("size of output", MAX_OUTPUT_BYTES, stops[4::STOP_NUMBERS], stops[5::STOP_NUMBERS])
    if report.killed:
        _require("rank", MAX_RANKS - 1, report.killed[1::3])
        _require("number of processes", MAX_PID, report.killed[2::3])
    _require("rank", MAX_RANKS - 1, started[1::3], exited[1::5], started_runs[1::3], exited_runs[1::6])
    _require("PID", MAX_PID, started[2::3], report.pids)
    _require("wait status", MAX_WAIT_STATUS, exited[2::5], exited_runs[3::6])
    _require("size of output", MAX_OUTPUT_BYTES, exited[3::5], exited[4::5], exited_runs[4::6], exited_runs[5::6])


def _require(what: str, largest: int, *columns: list[int]) -> None:
    for column in columns:
        if column and (min(column) < 0 or max(column) > largest):
            raise ProtocolError(f"a report with a {what} that is not within 0 and {largest}")
