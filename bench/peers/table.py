"""The table of peers, for a terminal and for a page."""

from __future__ import annotations

from bench.machine import sentence
from bench.peers.results import Found, Row, Work, mebibytes
from bench.results import shown

MEMORY = "memory of a node (fresh)"
NOTES = 3
"""At most so many different things that went wrong are told of one cell."""


def titles(found: Found) -> list[str]:
    """Return the heads of the columns."""
    return ["program", *(work.title(found.output_bytes, found.copy_bytes) for work in found.works), MEMORY]


def cell(row: Row, work: Work) -> str:
    """Return the median of the good attempts, and how many were not."""
    attempts = row.attempts.get(work.key, [])
    if not attempts:
        return ""
    failed = sum(row.problems(work).values())
    median = row.median_s(work)
    if median is None:
        return f"failed, {failed} of {len(attempts)}"
    return f"{shown(median, 's')} ({failed} of {len(attempts)} failed)" if failed else shown(median, "s")


def memory(row: Row) -> str:
    """Return the memory of a node after its last work, and before its first."""
    if row.warm_bytes is None:
        return ""
    fresh = "" if row.fresh_bytes is None else f" ({mebibytes(row.fresh_bytes)})"
    return mebibytes(row.warm_bytes) + fresh


def cells(row: Row, works: list[Work]) -> list[str]:
    """Return a line of the table; of a program that is absent, why."""
    if row.absent:
        return [row.name, row.absent, *[""] * len(works)]
    return [row.name, *(cell(row, work) for work in works), memory(row)]


def notes(found: Found) -> list[str]:
    """Return a sentence for each program that says how it was driven, and what was not tried or went wrong."""
    lines = []
    for row in found.rows:
        parts = [f"{row.name}{f' {row.version}' if row.version else ''}: {row.how}"]
        for work in found.works:
            title = work.title(found.output_bytes, found.copy_bytes)
            if work.key in row.without:
                parts.append(f"{title}: {row.without[work.key]}")
            attempts = len(row.attempts.get(work.key, []))
            for problem, times in row.problems(work).most_common(NOTES):
                parts.append(f"{title}: {times} of {attempts} {problem}")
        lines.append("; ".join(parts))
    return lines


def caption(found: Found) -> str:
    """Return under what the table was taken: machine, rounds and load average."""
    return (
        f"Measured on {sentence(found.machine)}; {found.rounds} rounds, medians of the attempts that lost"
        f" nothing. Load average (one minute): {found.load_before:.2f} before the run, {found.load_after:.2f} at its"
        " end, the run's own share included."
    )


def text(found: Found) -> str:
    """Return table and notes for a terminal."""
    lines = [titles(found)] + [cells(row, found.works) for row in found.rows]
    # What is said of an absent program goes over the columns that it does not fill.
    measured = [line for line, row in zip(lines[1:], found.rows, strict=True) if not row.absent]
    widths = [max(len(line[column]) for line in [lines[0], *measured]) for column in range(len(lines[0]))]
    widths[0] = max(len(line[0]) for line in lines)
    table = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *notes(found)])


def markdown(found: Found) -> str:
    """Return caption, table and notes for a page."""
    heads = titles(found)
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    lines += ["| " + " | ".join(_safe(word) for word in cells(row, found.works)) + " |" for row in found.rows]
    return "\n\n".join([caption(found), "\n".join(lines), "\n".join(f"- {_safe(line)}" for line in notes(found))])


def _safe(word: str) -> str:
    return word.replace("|", "\\|").replace("\n", " ")
