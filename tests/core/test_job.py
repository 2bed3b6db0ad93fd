"""What the head tells a client of a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.client_messages import Exited, ExitedAlike
from heorot.core.job import cut_short, exits_of
from heorot.core.messages import encode

LONG = b"x" * 10_000
ENDS = st.tuples(st.integers(0, 1), st.integers(0, 1), st.just(0))


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


@pytest.mark.parametrize(
    ("argv", "listed"),
    [
        ([b"echo", b"a"], [b"echo", b"a"]),
        ([LONG], [b"x" * 4095, b"..."]),
        ([b"a", LONG, b"b"], [b"a", b"x" * 4093, b"..."]),
        ([b"x" * 4095, b"", b"b"], [b"x" * 4095, b"", b"..."]),
    ],
)
def test_a_listed_command_line_is_cut(argv: list[bytes], listed: list[bytes]) -> None:
    assert cut_short(argv) == listed
