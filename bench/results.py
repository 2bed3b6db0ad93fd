"""What is measured and what was wished for: series of repetitions, quotients, goals, verdicts."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Series:
    """Repetitions of one measurement, in the order taken."""

    values: list[float]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def quantile(self, share: float) -> float:
        """The value below which this share of the repetitions lies, interpolated."""
        ordered = sorted(self.values)
        position = share * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

    def ratios_to(self, other: Series) -> Series:
        """Each repetition by the one of `other` that was taken next to it."""
        return Series([mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)])

    def as_json(self) -> dict[str, Any]:
        """Distribution and raw values."""
        return {
            "median": self.median,
            "quartiles": [self.quantile(0.25), self.quantile(0.75)],
            "least": min(self.values),
            "most": max(self.values),
            "values": self.values,
        }


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes
    ----------
    key:
        Stable name for programs.
    what:
        What was measured, for people.
    unit:
        ``s``, ``B``, ``x`` (a quotient) or ``%``.
    goal:
        At most this much, in the same unit; None: reported only.
    aim:
        Wished for beyond the goal; None: nothing.
    """

    key: str
    what: str
    series: Series
    unit: str
    goal: float | None = None
    aim: float | None = None

    @property
    def verdict(self) -> str:
        """``aim met``, ``goal met``, ``missed``, or nothing where nothing was wished for."""
        if self.goal is None:
            return ""
        value = self.series.median
        if self.aim is not None and value <= self.aim:
            return "aim met"
        return "goal met" if value <= self.goal else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """One object of the report's ``rows``."""
        return {
            "key": self.key,
            "what": self.what,
            "unit": self.unit,
            "goal": self.goal,
            "aim": self.aim,
            "verdict": self.verdict,
            **self.series.as_json(),
        }


@dataclass
class Report:
    """All rows of one run, and the machine they were taken on."""

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        key: str,
        what: str,
        values: list[float] | Series,
        unit: str,
        goal: float | None = None,
        aim: float | None = None,
    ) -> Row:
        """Add a line and return it."""
        row = Row(key, what, values if isinstance(values, Series) else Series(values), unit, goal, aim)
        self.rows.append(row)
        return row

    def as_json(self) -> dict[str, Any]:
        """The file that a run writes."""
        return {"format": 1, "machine": self.machine, "rows": [row.as_json() for row in self.rows]}


def shown(value: float, unit: str) -> str:
    """Return a value with a unit that suits it: ``74.1 ms``, ``2.3 MB``, ``2.51 x``."""
    if unit == "s":
        if value < 1:
            return f"{value * 1e3:.3g} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"
        return f"{value:.2f} s"
    if unit == "B":
        for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} B"
    if unit == "x":
        return f"{value:.2f} x"
    return f"{value:.3g} {unit}"
