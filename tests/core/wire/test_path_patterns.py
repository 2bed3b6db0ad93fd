"""Names of files that differ from rank to rank, and what is said of those that cannot be meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.wire.path_patterns import JOB, NODE, RANK, WORDS, expand, is_per_rank, why_no_pattern

VALUES = {RANK: b"7", NODE: b"n3", JOB: b"1.42"}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"out", b"out"),
        (b"out.%r", b"out.7"),
        (b"%n/%j/%r%r", b"n3/1.42/77"),
        (b"100%%.%%r", b"100%.%r"),
        (b"\xff%n\xfe", b"\xffn3\xfe"),
    ],
)
def test_letters_stand_for_values(pattern: bytes, name: bytes) -> None:
    assert expand(pattern, VALUES) == name
    assert why_no_pattern(pattern) == ""


@pytest.mark.parametrize(("pattern", "letter"), [(b"out.%x", "%x"), (b"%", "%"), (b"%%%", "%"), (b"%\xff", r"%\\xff")])
def test_anything_else_is_no_pattern_and_what_there_is_is_said(pattern: bytes, letter: str) -> None:
    assert why_no_pattern(pattern).startswith(f"'{letter}' in ")
    assert why_no_pattern(pattern).endswith(WORDS)
    with pytest.raises(ValueError, match="means nothing"):
        expand(pattern, VALUES)


def test_where_there_are_no_ranks_only_nodes_are_offered() -> None:
    assert expand(b"log.%n", {NODE: b"n3"}) == b"log.n3"
    with pytest.raises(ValueError, match=r"there are %n .* and %%$"):
        expand(b"log.%r", {NODE: b"n3"})


def test_a_name_is_a_rank_s_own_only_if_the_rank_is_in_it() -> None:
    assert is_per_rank(b"%n.%r")
    assert not is_per_rank(b"%n.%j.%%r")


@given(st.binary(max_size=30))
def test_any_bytes_survive_if_each_percent_sign_is_doubled(name: bytes) -> None:
    assert expand(name.replace(b"%", b"%%"), VALUES) == name
