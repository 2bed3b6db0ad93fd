"""Puts the figures of a run into docs/benchmarks.md, between two marks; the words around them stay."""

from __future__ import annotations

from pathlib import Path

from bench.machine import sentence
from bench.results import Report
from bench.table import markdown

BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end: written by make bench -->"

SECTIONS = [
    ("Launches", ("floor-", "bpsh-", "library-")),
    ("What a launch costs the daemons", ("head-cpu", "head-tree", "head-client", "head-bytes", "agent-", "init-")),
    ("A cluster at rest", ("node-memory", "head-memory", "idle-")),
    ("Up and down", ("up-", "down-")),
    ("Bytes", ("output", "broadcast")),
]


def section_text(report: Report) -> str:
    """Return the generated part of the page."""
    parts = [f"Measured on {sentence(report.machine)}."]
    for title, prefixes in SECTIONS:
        rows = [row for row in report.rows if row.key.startswith(prefixes)]
        if rows:
            parts += [f"## {title}", markdown(rows)]
    return "\n\n".join(parts)


def publish(report: Report, page: Path) -> None:
    """Replace the part of the page that a report fills. Raises ValueError if the page does not have the two marks."""
    replace(page, (BEGIN, END), section_text(report))


def replace(page: Path, marks: tuple[str, str], content: str) -> None:
    """Replace what is between two marks of a page.

    Raises
    ------
    ValueError
        If the page does not have them.
    """
    text = page.read_text()
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"{page.name} does not have the two lines between which the figures belong: {' '.join(marks)}")
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{after}")
