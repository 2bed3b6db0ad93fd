"""Which ranks share a node, in the form that MPI libraries read."""

from __future__ import annotations

import pytest

from heorot.core.pmi.mapping import process_mapping


@pytest.mark.parametrize(
    ("runs", "mapping"),
    [
        ([0, 1], b"(vector,(0,1,1))"),
        ([0, 8], b"(vector,(0,8,1))"),
        # Nodes count from 0 whatever they are called.
        ([40, 2], b"(vector,(0,2,1))"),
        ([3, 1, 3, 1, 4, 1, 4, 1], b"(vector,(0,2,2))"),
        # One after the other, and around again.
        ([0, 2, 0, 2], b"(vector,(0,2,1),(0,2,1))"),
        ([5, 1, 5, 1, 2, 1], b"(vector,(0,1,2),(1,1,1))"),
        ([7, 1, 1, 1, 1, 1, 7, 1], b"(vector,(0,1,1),(1,1,2),(0,1,1))"),
    ],
)
def test_ranks_by_node(runs: list[int], mapping: bytes) -> None:
    assert process_mapping(runs) == mapping


def test_what_is_too_long_for_a_value_is_not_told() -> None:
    runs = [value for number in range(2000) for value in (number % 7 * 3, 1)]
    assert process_mapping(runs) == b""
    assert process_mapping([0, 100_000]) == b"(vector,(0,100000,1))"


@pytest.mark.parametrize(
    ("runs", "total", "mapping"),
    [
        ([0, 4], 16, b"(vector,(0,4,4))"),
        ([0, 3], 8, b"(vector,(0,2,3),(2,1,2))"),
        ([5, 1, 5, 1, 2, 1], 6, b"(vector,(0,1,4),(1,1,2))"),
    ],
)
def test_ranks_in_blocks(runs: list[int], total: int, mapping: bytes) -> None:
    assert process_mapping(runs, total) == mapping
