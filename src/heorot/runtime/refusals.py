"""What is refused is told once in a while: whoever is refused can come again as often as he likes, and fill a log.

The first refusal of a kind is told at once, those that follow are counted, and the count is told at the end of each
`WINDOW_S`. However many kinds there are, a window costs a bounded number of lines.
"""

from __future__ import annotations

from collections.abc import Callable

from heorot.runtime.loop import Loop, Timer

WINDOW_S = 600.0
MAX_KINDS = 64
"""So many are told of and counted apart in a window."""


class Refusals:
    """All refusals at one socket of a daemon. `log` is as of `heorot.runtime.log.LogFile`."""

    def __init__(self, loop: Loop, log: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._log = log
        self._counts: dict[tuple[str, str], int] = {}
        """By who and why: how often since it was told last."""
        self._others = 0
        """Of kinds for which there was no room."""
        self._timer: Timer | None = None

    def say(self, who: str, why: str, text: str) -> None:
        """Something of `who`, a host or a user, was refused; `text` says all of it. `why` is one of few."""
        kind = who, why
        known = self._counts.get(kind)
        if known is not None:
            self._counts[kind] = known + 1
        elif len(self._counts) < MAX_KINDS:
            self._counts[kind] = 0
        else:
            self._others += 1
        is_news = known is None and kind in self._counts
        self._log("warning" if is_news else "debug", text)
        if self._timer is None:
            self._timer = self._loop.call_at(self._loop.time() + WINDOW_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        for (who, why), count in self._counts.items():
            if count:
                self._log("warning", f"refused {count} more of {who} in {WINDOW_S / 60:g} minutes: {why}")
        if self._others:
            self._log("warning", f"refused {self._others} of still others in {WINDOW_S / 60:g} minutes")
        # Who was quiet is news again.
        self._counts = {kind: 0 for kind, count in self._counts.items() if count}
        self._others = 0
        if self._counts:
            self._timer = self._loop.call_at(self._loop.time() + WINDOW_S, self._tell)

    def close(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()
