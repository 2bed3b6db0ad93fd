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
    ("Others", ("peer-",)),
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
    """Replace the generated part of the page.

    Raises
    ------
    ValueError
        If the page does not have the two marks.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} does not have the two lines between which the figures belong: {BEGIN} {END}")
    page.write_text(f"{before}{BEGIN}\n\n{section_text(report)}\n\n{END}{after}")
