"""Runs the site's hook, a program, for what nodes are shown as: one after the other (`heorot.daemons.site_program`).

It is given a node list, what these nodes were shown as before, and what they are now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from heorot.core.wire.events import TellSite
from heorot.daemons.site_program import SiteProgram
from heorot.runtime.loop import Loop

MAX_WAITING = 1_000
"""Changes that wait for the program; the oldest go first."""


class HookSettings(Struct, frozen=True):
    """The site's program. `log` takes what it writes, anew each time; `clients` is where commands find the head."""

    command: Path
    log: Path
    clients: Path
    limit_ms: int = 60_000


class Hooks:
    """Carries out `TellSite`. Without settings there is no program, and nothing is done."""

    def __init__(self, loop: Loop, settings: HookSettings | None, log: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._settings = settings
        self._log = log
        self._waiting: deque[tuple[str, str, str]] = deque(maxlen=MAX_WAITING)
        self._running: SiteProgram | None = None

    def tell(self, item: TellSite) -> None:
        """Have it told of these."""
        if self._settings is not None:
            if len(self._waiting) + len(item.changes) > MAX_WAITING:
                self._log("warning", "the site's hook is too slow: it is not told of all that nodes are shown as")
            self._waiting.extend(item.changes)
            self._next()

    def close(self) -> None:
        """Tell nothing more."""
        self._waiting.clear()
        if self._running is not None:
            self._running.close()
            self._running = None

    def _next(self) -> None:
        while self._settings is not None and self._waiting and self._running is None:
            settings, change = self._settings, self._waiting.popleft()
            words = [str(settings.command), *change]
            environment = {"HEOROT_DIR": str(settings.clients)}
            try:
                self._running = SiteProgram(
                    self._loop, words, environment, settings.log, settings.limit_ms, self._ended
                )
            except OSError as error:
                self._log("warning", f"the site's hook cannot be run: {error.strerror or error}")

    def _ended(self, error: str) -> None:
        self._running = None
        if error:
            self._log("warning", f"the site's hook: {error}")
        self._next()
