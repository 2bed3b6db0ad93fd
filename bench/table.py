"""The report as text: for the terminal, and for docs/benchmarks.md."""

from __future__ import annotations

from bench.results import Report, Row, shown


def cells(row: Row) -> list[str]:
    """Return what is measured, median, quartiles, goal and verdict."""
    series = row.series
    spread = ""
    if len(series.values) > 1:
        spread = f"{shown(series.quantile(0.25), row.unit)} .. {shown(series.quantile(0.75), row.unit)}"
    goal = "" if row.goal is None else f"<= {shown(row.goal, row.unit)}"
    if row.aim is not None:
        goal += f" (aim {shown(row.aim, row.unit)})"
    return [row.what, shown(series.median, row.unit), spread, goal, row.verdict]


HEADER = ["measured", "median", "quartiles", "goal", ""]


def text(report: Report) -> str:
    """Return a table for a terminal."""
    lines = [HEADER] + [cells(row) for row in report.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not index or index > 2 else cell.rjust(width) for index, (cell, width) in
                  enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip


def markdown(rows: list[Row]) -> str:
    """Return a table for a page."""
    lines = ["| " + " | ".join(HEADER) + " |", "| --- | ---: | ---: | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    return "\n".join(lines)
