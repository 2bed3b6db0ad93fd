"""Redrawing a picture on the terminal until the user has seen enough."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_ERASE_LINE_END = "\x1b[K"
_ERASE_BELOW = "\x1b[J"
_LAST_LINE = "\x1b[{rows};1H\x1b[2mCtrl-C ends this\x1b[0m"


class _Terminated(Exception):
    """SIGTERM or SIGHUP came while the alternate screen was shown."""


def watch(draw: Callable[[int, int], str], interval_s: float) -> int:
    """Show what `draw` returns again every `interval_s` seconds, until Ctrl-C, which ends with status 0.

    On a terminal the picture has a screen of its own and leaves the user's as it was, whatever ends the command.
    Elsewhere (a pipe, a file) each picture that differs from the one before is written after it.

    Parameters
    ----------
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
    try:
        if on_terminal:
            output.write(_ENTER)
        while True:
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
            time.sleep(max(interval_s, 0.1))
    except (KeyboardInterrupt, _Terminated):
        pass
    finally:
        if on_terminal:
            output.write(_LEAVE)
            output.flush()
    if received:
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)
    return 0


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
