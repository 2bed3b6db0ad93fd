"""Tables, folded lists and text that is safe for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.cli import table
from heorot.cli.bpps import sortable
from heorot.cli.bpstat import mode_text, wrapped


def test_a_copy_is_shown_without_the_options_that_it_does_not_have() -> None:
    assert table.command_of([b"heorot:put", b"", b"/tmp/"]) == "heorot:put /tmp/"
    assert table.command_of([b"echo", b"", b"x"]) == "echo  x"
    assert table.command_of([]) == ""


def unfolded(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@given(st.sets(st.integers(0, 300), min_size=1))
def test_folding_loses_nothing_and_is_short(numbers: set[int]) -> None:
    text = table.fold_numbers(numbers)
    assert unfolded(text) == sorted(numbers)
    gaps = sum(number + 1 not in numbers for number in numbers)
    assert text.count(",") == gaps - 1


def test_nodes_fold_into_a_node_list() -> None:
    assert table.fold_nodes([5]) == "n5"
    assert table.fold_nodes([3, 1, 2, 7]) == "n[1-3,7]"
    assert table.fold_nodes([-1, 0, 1]) == "master,n[0-1]"
    assert table.fold_nodes([-1]) == "master"
    assert table.fold_nodes([]) == ""


@given(st.text(), st.integers(1, 40))
def test_nothing_printed_can_drive_a_terminal(text: str, width: int) -> None:
    rendered = table.render(("A", "B"), [(text, text)], width=width)
    assert all(line.isprintable() for line in rendered.split("\n"))


def test_bytes_that_are_not_text_are_shown_as_escapes() -> None:
    assert table.printable(table.text_of(b"a\xffb\x1b[2J")) == "a\\xffb\\x1b[2J"
    assert table.printable("Grüße 🐎") == "Grüße 🐎"


def test_columns_are_aligned_and_the_last_one_is_cut() -> None:
    rows = [(1, "x", "a long command line"), (222, "yy", "short")]
    assert table.render(("PID", "N", "COMMAND"), rows, right="PID", width=20) == (
        "PID  N   COMMAND\n  1  x   a long com+\n222  yy  short\n"
    )
    assert "a long command line" in table.render(("PID", "N", "COMMAND"), rows)


@pytest.mark.parametrize(
    ("mode", "text"), [(0o111, "---x--x--x"), (0o100, "---x------"), (0o001, "---------x"), (0, "----------")]
)
def test_a_mode_shows_who_may_execute(mode: int, text: str) -> None:
    assert mode_text(mode) == text


def test_a_long_node_list_goes_on_in_further_lines() -> None:
    assert wrapped("0-3,5,7,9-12", 5) == ["0-3,5", "7", "9-12"]
    assert wrapped("0-3,5,7,9-12", 80) == ["0-3,5,7,9-12"]
    assert wrapped("100000-200000", 5) == ["100000-200000"]


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0:00.0"), (62_340, "1:02.3"), (3_600_000, "1:00:00"), (90_061_000, "25:01:01")]
)
def test_processor_time(milliseconds: int, text: str) -> None:
    assert table.processor_time(milliseconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (9_999, "9999"), (10_240, "10K"), (5_000_000, "4882K"), (1 << 40, "1024G")]
)
def test_memory(count: int, text: str) -> None:
    assert table.memory(count) == text


def test_missing_values_sort_last_and_jobs_by_number() -> None:
    assert sorted(["1.10", None, "1.9", "2.1"], key=sortable) == ["1.9", "1.10", "2.1", None]
    assert sorted([3, None, 0], key=sortable) == [0, 3, None]


def test_start_times_grow_coarser_with_age() -> None:
    now_s = 1_790_000_000.0
    day_s = 86_400
    assert len(table.clock_time(int((now_s - 60) * 1000), now_s)) == 5
    assert table.clock_time(int((now_s - 60) * 1000), now_s)[2] == ":"
    assert table.clock_time(int((now_s - 10 * day_s) * 1000), now_s)[:3].isalpha()
    assert table.clock_time(int((now_s - 700 * day_s) * 1000), now_s) == "2024"
