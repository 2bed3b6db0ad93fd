"""Lists of CPUs: one for each rank of a node; what cannot be read is said."""

from __future__ import annotations

import pytest

from heorot.core.wire.cpu_lists import FORMS, MAX_TEXT, cpu_lists, why_no_binding


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ("0", [[0]]),
        ("0:1", [[0], [1]]),
        ("8,0-3:4-7", [[0, 1, 2, 3, 8], [4, 5, 6, 7]]),
        ("1,1,0-1", [[0, 1]]),
        ("8191", [[8191]]),
    ],
)
def test_lists_are_read(text: str, lists: list[list[int]]) -> None:
    assert cpu_lists(text) == lists
    assert why_no_binding(text) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (":", FORMS),
        ("0:", FORMS),
        ("0,", FORMS),
        ("a", "'a' binds to nothing"),
        ("socket", "'socket' binds to nothing"),
        ("-1", FORMS),
        ("3-1", "the first of a range comes first"),
        ("8192", "CPUs are 0 to 8191"),
        ("99999", FORMS),
        ("0:" * MAX_TEXT, "at most 4096 are read"),
    ],
)
def test_what_is_no_list_is_said(text: str, says: str) -> None:
    assert says in why_no_binding(text)
    with pytest.raises(ValueError, match=r"^.+$"):
        cpu_lists(text)


def test_a_core_and_a_cpu_are_no_lists_but_can_be_bound_to() -> None:
    assert [why_no_binding(text) for text in ("", "core", "cpu")] == [""] * 3
