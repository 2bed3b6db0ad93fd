"""What the head tells a client of the ends of ranks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.client_messages import Exited, ExitedAlike
from heorot.core.job import exits_of
from heorot.core.messages import encode

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
