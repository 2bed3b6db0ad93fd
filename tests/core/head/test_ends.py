"""What is shown of how a rank ended, and told to a client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.head.ends import ExitedRank, LostRank, NeverRan, RankEnd, exits_of
from heorot.core.wire.clients import Exited, ExitedAlike
from heorot.core.wire.rows import RankStatus
from heorot.core.wire.tree import encode

ENDS = st.tuples(st.integers(0, 1), st.integers(0, 1), st.just(0))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ExitedRank(0, 5, 0), RankStatus(code=0)),
        (ExitedRank(42 << 8, 0, 0), RankStatus(code=42)),
        (ExitedRank(9, 0, 0), RankStatus(signal=9)),
        (ExitedRank(6 | 0x80, 0, 0), RankStatus(signal=6)),
        (NeverRan(2, "no such file"), RankStatus(code=127, error="no such file")),
        (NeverRan(13, "permission denied"), RankStatus(code=126, error="permission denied")),
        (LostRank(3, "n3 is down"), RankStatus(lost="n3 is down")),
    ],
)
def test_what_is_shown_of_an_end(end: RankEnd, status: RankStatus) -> None:
    assert end.status() == status


@given(st.dictionaries(st.integers(0, 40), ENDS, min_size=1))
def test_either_message_says_the_same(ends: dict[int, tuple[int, int, int]]) -> None:
    message = exits_of("1.1", [value for rank, end in ends.items() for value in (rank, *end)])
    if isinstance(message, Exited):
        told = {message.ranks[i]: tuple(message.ranks[i + 1 : i + 4]) for i in range(0, len(message.ranks), 4)}
    else:
        alike = (message.wait_status, message.stdout_bytes, message.stderr_bytes)
        runs = message.runs
        told = {rank: alike for i in range(0, len(runs), 2) for rank in range(runs[i], runs[i] + runs[i + 1])}
    assert told == ends


def test_what_the_head_sends_does_not_grow_with_ranks_that_end_alike() -> None:
    few = exits_of("1.1", [value for rank in range(64) for value in (rank, 256, 5, 0)])
    many = exits_of("1.1", [value for rank in reversed(range(1024)) for value in (rank, 256, 5, 0)])
    assert isinstance(many, ExitedAlike)
    assert many.runs == [0, 1024]
    assert len(encode(many)) <= len(encode(few)) + 2
