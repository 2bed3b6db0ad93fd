"""The table of peers: what is told of a run, by whichever peers it was; none has to be installed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import publish
from bench.peers import command, table
from bench.peers.results import COPY_AGAIN, COPY_NEW, MEBIBYTE, OUTPUT, TRUE, Attempt, Found, Row, Work, judged

MACHINE = {
    "cores": 2,
    "architecture": "x86_64",
    "virtual": True,
    "memory_gb": 25,
    "kernel": "6.18",
    "python": "3.11.7",
    "as_root": True,
}
LAUNCH, OUT = Work(TRUE, 64), Work(OUTPUT, 64)


def found(*rows: Row) -> Found:
    return Found(MACHINE, command.works([64, 256]), MEBIBYTE, 16 * MEBIBYTE, 3, 0.5, 2.25, list(rows))


def measured() -> Row:
    row = Row("fast", "Fast", "`fast -a`", "1.2")
    for elapsed_s, problem in ((0.3, ""), (0.1, ""), (0.05, "ended with 1"), (0.2, "")):
        row.add(LAUNCH, Attempt(elapsed_s, problem, "/secret/path: no"))
    row.fresh_bytes, row.warm_bytes = 1.25 * MEBIBYTE, 25 * MEBIBYTE
    return row


@pytest.mark.parametrize(
    ("status", "received", "problem"),
    [
        (0, 64, ""),
        (0, 63, "63 of 64 bytes came"),
        (0, 65, "65 of 64 bytes came"),
        (2, 64, "ended with 2"),
        (-9, 1, "ended with -9, 1 of 64 bytes came"),
        (None, 64, "was not over in time"),
    ],
)
def test_a_run_that_lost_output_failed_or_was_late_is_told_from_a_good_one(
    status: int | None, received: int, problem: str
) -> None:
    assert judged(1.0, status, received, 64, "said") == Attempt(1.0, problem, "said")


def test_the_first_number_of_nodes_gets_all_works_and_the_others_launches() -> None:
    assert [work.key for work in command.works([64, 256])] == [
        "true-64",
        "true-256",
        "output-64",
        "copy-new-64",
        "copy-again-64",
    ]
    titles = table.titles(found())
    assert titles == [
        "program",
        "`/bin/true` on 64",
        "`/bin/true` on 256",
        "64 x 1 MiB of output",
        "16 MiB to 64, new",
        "again, the nodes having it",
        "memory of a node (fresh)",
    ]


def test_a_cell_is_the_median_of_the_good_attempts_and_says_how_many_were_not() -> None:
    row = measured()
    assert row.median_s(LAUNCH) == 0.2
    assert table.cells(row, [LAUNCH, OUT]) == ["Fast", "200 ms (1 of 4 failed)", "", "25 MiB (1.25 MiB)"]


def test_a_cell_of_failures_alone_has_no_time() -> None:
    row = Row("bad", "Bad", "`bad`")
    row.add(OUT, Attempt(0.1, "ended with 1"))
    row.add(OUT, Attempt(60.0, "was not over in time"))
    assert row.median_s(OUT) is None
    assert table.cells(row, [LAUNCH, OUT]) == ["Bad", "", "failed, 2 of 2", ""]


def test_a_program_that_is_not_here_has_a_line_that_says_so() -> None:
    gone = Row("gone", "Gone", "`gone`", absent="not installed: Debian's gone")
    shown = table.markdown(found(measured(), gone))
    assert "| Gone | not installed: Debian's gone |  |  |  |  |  |" in shown.splitlines()
    assert "Gone     not installed: Debian's gone" in table.text(found(measured(), gone)).splitlines()


def test_notes_say_how_each_was_driven_what_went_wrong_and_what_was_not_tried() -> None:
    row = measured()
    row.without["true-256"] = "not tried: too large"
    assert table.notes(found(row)) == [
        "Fast 1.2: `fast -a`; `/bin/true` on 64: 1 of 4 ended with 1; `/bin/true` on 256: not tried: too large"
    ]


def test_what_is_published_says_machine_and_load_and_no_more_of_what_programs_said() -> None:
    row = measured()
    row.how = "`a | b`"
    shown = table.markdown(found(row))
    assert "a 2-core x86_64 virtual machine" in shown
    assert "0.50 before the run, 2.25 at its end" in shown
    assert "`a \\| b`" in shown
    assert "secret" not in shown
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}


def test_the_file_has_every_attempt() -> None:
    row = found(measured()).as_json()["rows"][0]
    assert [attempt["elapsed_s"] for attempt in row["attempts"]["true-64"]] == [0.3, 0.1, 0.05, 0.2]
    assert row["attempts"]["true-64"][2] == {
        "elapsed_s": 0.05,
        "problem": "ended with 1",
        "said": "/secret/path: no",
    }
    assert row["median_s"] == {"true-64": 0.2}


def test_the_table_goes_between_its_marks_and_the_other_sections_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = f"# Page\n\n{publish.BEGIN}\n\nkept\n\n{publish.END}\n\n## Peers\n\n"
    page.write_text(f"{other}{command.BEGIN}\nold\n{command.END}\n\n## After\n")
    publish.replace(page, (command.BEGIN, command.END), "new")
    assert page.read_text() == f"{other}{command.BEGIN}\n\nnew\n\n{command.END}\n\n## After\n"


def test_a_page_without_the_marks_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match=r"page\.md does not have the two lines"):
        publish.replace(page, (command.BEGIN, command.END), "new")
    assert page.read_text() == "# Page\n"


def test_the_page_of_benchmarks_has_the_marks_once() -> None:
    text = (Path(command.__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert [text.count(mark) for mark in (command.BEGIN, command.END, publish.BEGIN, publish.END)] == [1, 1, 1, 1]


def test_copies_have_two_columns() -> None:
    assert [work.title(0, 4 * MEBIBYTE) for work in (Work(COPY_NEW, 3), Work(COPY_AGAIN, 3))] == [
        "4 MiB to 3, new",
        "again, the nodes having it",
    ]
