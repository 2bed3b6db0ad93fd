"""The user's terminal: its size, raw mode, and whether it is ours right now."""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os
import termios

from heorot.cli.foreground import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_ROWS = 24
DEFAULT_COLUMNS = 80


def in_foreground(fd: int) -> bool:
    """Whether our process group may read from this terminal now."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        # A terminal that is not our controlling one does not stop anybody.
        return True


def size(*fds: int) -> tuple[int, int]:
    """Return rows and columns of the first of these that is a terminal and knows, else 24 and 80."""
    for fd in fds:
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if rows > 0 and columns > 0:
            return rows, columns
    return DEFAULT_ROWS, DEFAULT_COLUMNS


class RawMode:
    """Raw mode of a terminal: every key goes to the other side, none is acted on here."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    @property
    def active(self) -> bool:
        """Whether the terminal is raw now."""
        return self._saved is not None

    def enter(self) -> None:
        """Go raw, unless the terminal is not ours now; calling it again does no harm."""
        if self._saved is not None or not in_foreground(self._fd):
            return
        saved = termios.tcgetattr(self._fd)
        raw = [*saved[:6], list(saved[6])]
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
            | termios.ICRNL | termios.IXON
        )  # fmt: skip
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)
        self._saved = saved

    def leave(self) -> None:
        """Give the terminal back as it was."""
        saved, self._saved = self._saved, None
        if saved is None or not in_foreground(self._fd):
            return
        try:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, saved)
        except OSError:
            pass  # the terminal is gone; there is nothing left to restore


def ignore_background_stops() -> None:
    """Reading from the terminal in the background shall fail, not stop us: the command may not want to read at all."""
    signals.ignore(signals.SIGTTIN)
