"""What a block of verbs made happen, in lines: what several say at once, or are told at once, is one of them."""

from __future__ import annotations

import re

from tests.transcripts.words import folded, unfolded

NUMBERS = re.compile(r"\b([rc])(\d+\b|\[[\d,-]+\])")
"""Ranks, or chunks of an image."""


class Line:
    """One line."""

    def __init__(self, at_us: int, source: str, to: str, text: str) -> None:
        self.at_us = at_us
        self.sources = {source}
        self.to = {to} if to else set[str]()
        self.letter = ""
        self.numbers = set[int]()
        self.text = text
        found = NUMBERS.findall(text)
        if len(found) == 1:
            self.letter, self.numbers = found[0][0], unfolded(found[0][1])
            self.text = NUMBERS.sub("{}", text)

    def takes(self, other: Line, is_last: bool) -> bool:
        """Take another line in, if it says the same of others, or of other numbers; return whether it does.

        What happens at the same time belongs together, and what follows at once; so do all chunks of an image.
        """
        is_near = is_last or self.at_us == other.at_us or self.letter == "c"
        if self.text != other.text or not is_near or self.numbers & other.numbers:
            return False
        if self.to == other.to and not self.sources & other.sources:
            self.sources |= other.sources
        elif self.sources == other.sources and not self.numbers and not self.to & other.to:
            self.to |= other.to
        elif self.sources != other.sources or self.to != other.to or not self.numbers:
            return False
        self.numbers |= other.numbers
        return True

    def __str__(self) -> str:
        to = f" -> {' '.join(sorted(self.to))}" if self.to else ""
        text = self.text.replace("{}", folded(self.letter, self.numbers)) if self.numbers else self.text
        return f"{' '.join(sorted(self.sources))}{to}: {text}"


class Answer:
    """The lines so far, and when the last one was told."""

    def __init__(self) -> None:
        self.told_us = 0
        self._lines: list[Line] = []

    def tell(self, at_us: int, source: str, to: str, text: str) -> None:
        """Add what `source` said to somebody, or, with an empty `to`, did."""
        self.told_us = at_us
        line = Line(at_us, source, to, text)
        if not any(former.takes(line, former is self._lines[-1]) for former in self._lines):
            self._lines.append(line)

    def clear(self) -> None:
        """Begin another answer."""
        self._lines.clear()

    def lines(self) -> list[str]:
        """Return them as they are read."""
        return [str(line) for line in self._lines]
