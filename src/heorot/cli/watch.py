"""Redrawing a picture on the terminal until the user has seen enough."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from heorot.cli.live import Live

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_ERASE_LINE_END = "\x1b[K"
_ERASE_BELOW = "\x1b[J"
_LAST_LINE = "\x1b[{rows};1H\x1b[2mq or Ctrl-C ends this\x1b[0m"


class _Terminated(Exception):
    """SIGTERM or SIGHUP came while the alternate screen was shown."""


def watch(live: Live, draw: Callable[[int, int], str], interval_s: float) -> int:
    """Show what `draw` returns again when something new has come, and every `interval_s` seconds, until q or Ctrl-C,
    which end with status 0.

    On a terminal the picture has a screen of its own and leaves the user's as it was, whatever ends the command.
    Elsewhere (a pipe, a file) each picture that differs from the one before is written after it.

    Parameters
    ----------
    live:
        What it draws.
    draw:
        Called with the columns and rows of the screen (0, 0: not a terminal).
    interval_s:
        At least 0.1.
    """
    import signal

    from heorot.cli.table import terminal_size

    received = 0

    def terminate(number: int, _frame: object) -> None:
        nonlocal received
        received = number
        raise _Terminated

    output = sys.stdout
    on_terminal = output.isatty()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminate)
    previous = ""
    keys = _Keys() if on_terminal else None
    try:
        if on_terminal:
            output.write(_ENTER)
        while True:
            while not live.is_ready:
                if _has_enough(live, keys, time.monotonic() + interval_s):
                    return 0
            if on_terminal:
                columns, rows = terminal_size(output.fileno())
                lines = draw(columns, rows).split("\n")[: max(rows - 1, 1)]
                output.write(_HOME + "".join(line + _ERASE_LINE_END + "\r\n" for line in lines) + _ERASE_BELOW)
                output.write(_LAST_LINE.format(rows=rows))
            else:
                picture = draw(0, 0)
                if picture != previous:
                    output.write(picture)
                previous = picture
            output.flush()
            if _has_enough(live, keys, time.monotonic() + interval_s):
                break
    except (KeyboardInterrupt, _Terminated):
        pass
    finally:
        if keys is not None:
            keys.restore()
            output.write(_LEAVE)
            output.flush()
    if received:
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)
    return 0


def _has_enough(live: Live, keys: _Keys | None, until: float) -> bool:
    """Wait until there is something new to draw, or it is time to; return whether the user wants to see no more."""
    while time.monotonic() < until:
        is_new, is_typed = live.wait(until, keys.descriptor if keys is not None else -1)
        if is_typed and keys is not None and keys.want_end():
            return True
        if is_new:
            break
    return False


class _Keys:
    """The keyboard while a picture is shown: keys come one by one, and are not seen. Without a terminal as standard
    input, and in the background, there is none.
    """

    def __init__(self) -> None:
        import termios

        self._saved: list[Any] | None = None
        try:
            if os.tcgetpgrp(0) == os.getpgrp():
                self._saved = termios.tcgetattr(0)
                mode = termios.tcgetattr(0)
                mode[3] &= ~(termios.ICANON | termios.ECHO)
                mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
                termios.tcsetattr(0, termios.TCSADRAIN, mode)
        except (OSError, termios.error):
            pass

    @property
    def descriptor(self) -> int:
        """What to wait for; -1: nobody can type anything."""
        return 0 if self._saved is not None else -1

    def want_end(self) -> bool:
        """Read what was typed; return whether the user has had enough."""
        typed = os.read(0, 256)
        return not typed or any(key in b"qQ\x04" for key in typed)

    def restore(self) -> None:
        """Leave the terminal as it was."""
        import termios

        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)


def interval(text: str, default_s: float) -> float:
    """Return the seconds that an option's value names.

    Raises
    ------
    UsageError
        If it is not a number from 0.1 to 3600.
    """
    from heorot.cli.arguments import UsageError, is_number

    if not text:
        return default_s
    if not is_number(text) or not 0.1 <= float(text) <= 3600:
        raise UsageError(f"'{text}' is not a number of seconds from 0.1 to 3600")
    return float(text)
