"""What a run of peers found: attempts, the cells of the table, and why some are empty."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TRUE, OUTPUT, COPY_NEW, COPY_AGAIN = "true", "output", "copy-new", "copy-again"
KINDS = (TRUE, OUTPUT, COPY_NEW, COPY_AGAIN)
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Work:
    """One column of the table: a kind of work on a number of nodes."""

    kind: str
    nodes: int

    @property
    def key(self) -> str:
        """Stable name for programs."""
        return f"{self.kind}-{self.nodes}"

    def title(self, output_bytes: int, copy_bytes: int) -> str:
        """Return the head of the column."""
        if self.kind == TRUE:
            return f"`/bin/true` on {self.nodes}"
        if self.kind == OUTPUT:
            return f"{self.nodes} x {mebibytes(output_bytes)} of output"
        return (
            f"{mebibytes(copy_bytes)} to {self.nodes}, new" if self.kind == COPY_NEW else "again, the nodes having it"
        )


def mebibytes(count: float) -> str:
    """Return a number of bytes in words, in units of 1,048,576."""
    return f"{count / MEBIBYTE:.4g} MiB"


@dataclass(frozen=True)
class Attempt:
    """One try at a work.

    Attributes
    ----------
    elapsed_s:
        From before the order until all was done and everything had come.
    problem:
        What was wrong, in a few words for the table's notes; nothing if all that had to be there was.
    said:
        The end of what the program wrote to its standard error; it may name paths, and is not published.
    """

    elapsed_s: float
    problem: str = ""
    said: str = ""


def judged(elapsed_s: float, status: int | None, received: int, expected: int, said: str = "") -> Attempt:
    """Return an attempt with what is wrong about it: too late, a status other than 0, or other than all bytes."""
    problem = ""
    if status is None:
        problem = "was not over in time"
    elif status:
        problem = f"ended with {status}"
    if status is not None and received != expected:
        amounts = f"{received} of {expected} bytes came"
        problem = f"{problem}, {amounts}" if problem else amounts
    return Attempt(elapsed_s, problem, said)


@dataclass
class Row:
    """One line of the table: a program.

    Attributes
    ----------
    absent:
        Why there is nothing else: it could not be installed, or did not start.
    attempts:
        By the key of the work.
    without:
        Why a single work was not tried, by its key.
    fresh_bytes, warm_bytes:
        Memory of a node, before its first work and after its last.
    """

    key: str
    name: str
    how: str
    version: str = ""
    absent: str = ""
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    fresh_bytes: float | None = None
    warm_bytes: float | None = None

    def add(self, work: Work, attempt: Attempt) -> None:
        """Keep one more attempt."""
        self.attempts.setdefault(work.key, []).append(attempt)

    def good_s(self, work: Work) -> list[float]:
        """Return the times of the attempts at which nothing was wrong."""
        return [attempt.elapsed_s for attempt in self.attempts.get(work.key, []) if not attempt.problem]

    def median_s(self, work: Work) -> float | None:
        """Return the median of those, or None if there is none."""
        good = self.good_s(work)
        return statistics.median(good) if good else None

    def problems(self, work: Work) -> Counter[str]:
        """Return what was wrong, and how often."""
        return Counter(attempt.problem for attempt in self.attempts.get(work.key, []) if attempt.problem)

    def as_json(self, works: Iterable[Work]) -> dict[str, Any]:
        """One object of the file's ``rows``, with every single value."""
        return {
            "key": self.key,
            "name": self.name,
            "how": self.how,
            "version": self.version,
            "absent": self.absent,
            "without": self.without,
            "fresh_bytes": self.fresh_bytes,
            "warm_bytes": self.warm_bytes,
            "median_s": {work.key: self.median_s(work) for work in works if work.key in self.attempts},
            "attempts": {key: [vars(attempt) for attempt in tried] for key, tried in self.attempts.items()},
        }


@dataclass
class Found:
    """All rows of one run, and under what it was taken."""

    machine: dict[str, Any]
    works: list[Work]
    output_bytes: int
    copy_bytes: int
    rounds: int
    load_before: float
    load_after: float = 0.0
    rows: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The file that a run writes."""
        return {
            "format": 1,
            "machine": self.machine,
            "rounds": self.rounds,
            "load_before": self.load_before,
            "load_after": self.load_after,
            "output_bytes": self.output_bytes,
            "copy_bytes": self.copy_bytes,
            "rows": [row.as_json(self.works) for row in self.rows],
        }
