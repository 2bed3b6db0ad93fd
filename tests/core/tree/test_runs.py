"""Reports in runs say the same as without, in fewer numbers, and what is hostile is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.tree.runs import flat, in_runs
from heorot.core.wire.launch import MAX_RANKS
from heorot.core.wire.tree import Report, encode

NUMBERS = st.integers(0, 40)
STARTS = st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(1, 1 << 30)))
ENDS = st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from([0, 9, 256]), st.sampled_from([0, 3]), st.just(0)))


def records(values: list[int], size: int) -> list[tuple[int, ...]]:
    """Return the records of a flat list, in a settled order."""
    return sorted(tuple(values[index : index + size]) for index in range(0, len(values), size))


@given(STARTS, ENDS)
def test_nothing_is_lost_or_added(starts: list[tuple[int, ...]], ends: list[tuple[int, ...]]) -> None:
    report = Report("1.1", [v for s in starts for v in s], [v for e in ends for v in e], [], 3, 2)
    again = flat(in_runs(report))
    assert records(again.started, 3) == sorted(starts)
    assert records(again.exited, 5) == sorted(ends)
    assert (again.job, again.nodes_started, again.nodes_over) == ("1.1", 3, 2)


def test_a_subtree_that_did_the_same_takes_a_few_numbers() -> None:
    nodes = [7, *range(256, 288)]
    report = Report(
        "1.1", [v for n in nodes for v in (n, n, 1000 + n)], [v for n in nodes for v in (n, n, 0, 0, 0)], []
    )
    short = in_runs(report)
    assert short.started_runs == [7, 7, 1, 256, 256, 32]
    assert short.pids == [1000 + n for n in nodes]
    assert short.exited_runs == [7, 7, 1, 0, 0, 0, 256, 256, 32, 0, 0, 0]
    assert short.started == []
    assert short.exited == []
    assert len(encode(short)) < len(encode(report)) / 3


def test_what_ranks_have_used_is_carried_beside_their_ends_and_does_not_part_them() -> None:
    nodes = range(64)
    ended = Report("1.1", [], [v for n in nodes for v in (n, n, 0, 0, 0)], [])
    used_runs = [v for n in reversed(nodes) for v in (n, n, 1)]
    used = [v for n in reversed(nodes) for v in (n, 1, 40_000 + n)]
    short = in_runs(replace(ended, used_runs=used_runs, used=used))
    assert short.exited_runs == [0, 0, 64, 0, 0, 0]
    assert short.used_runs == [0, 0, 64]
    assert short.used == [v for n in nodes for v in (n, 1, 40_000 + n)]
    # Two small numbers and one of three bytes for each rank, and a few bytes for all of them.
    assert len(encode(short)) - len(encode(in_runs(ended))) == 5 * len(nodes) + 5
    assert flat(short).used == short.used
    part = flat(short, 1 << 3 | 1 << 9)
    assert (part.used_runs, part.used) == ([3, 3, 1, 9, 9, 1], [3, 1, 40_003, 9, 1, 40_009])


def test_ranks_that_have_nothing_in_common_stay_as_they_are() -> None:
    report = Report("1.1", [0, 5, 100, 9, 1, 101], [0, 5, 0, 1, 0, 1, 6, 0, 2, 0], [])
    assert in_runs(report) is report
    assert flat(report) is report


@pytest.mark.parametrize(
    "hostile",
    [
        Report("1.1", [], [], [], started_runs=[0, 0], pids=[]),
        Report("1.1", [], [], [], started_runs=[0, 0, 2], pids=[1]),
        Report("1.1", [], [], [], started_runs=[0, 0, -1, 5, 5, 2], pids=[1]),
        Report("1.1", [], [], [], exited_runs=[0, 0, 1, 0, 0]),
        Report("1.1", [], [], [], exited_runs=[0, 0, 0, 0, 0, 0]),
        Report("1.1", [], [], [], exited_runs=[0, 0, 1 << 60, 0, 0, 0]),
        Report("1.1", [], [], [], exited_runs=[0, 0, MAX_RANKS, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        Report("1.1", [1], [], []),
        Report("1.1", [], [1], []),
        Report("1.1", [], [], [], used_runs=[0, 0], used=[]),
        Report("1.1", [], [], [], used_runs=[0, 0, 1], used=[1, 2]),
        Report("1.1", [], [], [], used_runs=[0, 0, 0], used=[]),
        Report("1.1", [], [], [], used_runs=[0, 0, MAX_RANKS, 0, 0, -MAX_RANKS], used=[]),
        Report("1.1", [], [], [], used_runs=[0, 0, 1], used=[1, 2, -1]),
        Report("1.1", [], [], [], used_runs=[0, -1, 1], used=[1, 2, 3]),
    ],
)
def test_a_hostile_report_is_refused_before_it_takes_memory(hostile: Report) -> None:
    with pytest.raises(ProtocolError):
        flat(hostile)


def test_of_a_run_only_what_is_said_of_some_nodes_is_looked_at() -> None:
    report = Report(
        "1.1", [], [], [], started_runs=[2, 0, 3, 9, 3, 1], pids=[5, 6, 7, 8], exited_runs=[0, 0, MAX_RANKS, 0, 1, 0]
    )
    part = flat(report, 0b10_0000_1000)
    assert part.started == [3, 1, 6, 9, 3, 8]
    assert part.exited == [3, 3, 0, 1, 0, 9, 9, 0, 1, 0]
    assert flat(Report("1.1", [], [], [], exited_runs=[-4, 0, 9, 0, 0, 0, 1 << 70, 0, 9, 0, 0, 0]), 0b1).exited == []
