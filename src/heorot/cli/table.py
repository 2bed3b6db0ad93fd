"""Plain text tables, folded node lists and safe text for terminals."""

from __future__ import annotations

import os

from heorot.core.safe_text import printable as printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIN_LAST_COLUMN_CHARS = 8


def text_of(data: bytes) -> str:
    """Return bytes from the system (an argument, a path) as text; what is not UTF-8 is written as ``\\xff``."""
    return data.decode("utf-8", "backslashreplace")


def command_of(argv: Sequence[bytes]) -> str:
    """Return a command as people read it; of Heorot's own, such as a copy, without the options that were not given."""
    own = bool(argv) and argv[0].startswith(b"heorot:")
    return " ".join(text_of(word) for word in argv if word or not own)


def render(header: Sequence[str], rows: Iterable[Sequence[object]], right: str = "", width: int = 0) -> str:
    """Return a table, a line for each row, columns two spaces apart, as wide as their widest cell.

    Parameters
    ----------
    header:
        The columns' names.
    rows:
        As many cells as there are columns.
    right:
        The names of the columns to be aligned to the right, with spaces between.
    width:
        Cut the last column so that no line is wider than this; 0: never cut.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    table = [list(header), *cells]
    last = len(header) - 1
    widths = [max(len(row[column]) for row in table) for column in range(last)]
    to_the_right = [name in right.split() for name in header]
    room = max(width - sum(widths) - 2 * last, MIN_LAST_COLUMN_CHARS) if width else 0
    lines = []
    for row in table:
        parts = [
            cell.rjust(wide) if aligned else cell.ljust(wide)
            for cell, wide, aligned in zip(row[:last], widths, to_the_right[:last], strict=True)
        ]
        parts.append(cut(row[last], room) if room else row[last])
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def cut(text: str, limit: int) -> str:
    """Return the text, or its beginning with ``+`` as the last of `limit` characters, as ps(1) marks it."""
    return text if len(text) <= limit else text[: limit - 1] + "+"


def fold_numbers(numbers: Iterable[int]) -> str:
    """Return ``0-3,7`` for 0, 1, 2, 3, 7: ranges of the sorted numbers without repeats."""
    parts: list[str] = []
    first = last = None
    for number in [*sorted(set(numbers)), None]:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = number
    return ",".join(parts)


def fold_nodes(numbers: Iterable[int]) -> str:
    """Return a node list in its folded form: ``n3``, ``n[0-63,70]``; the head is ``master``."""
    numbers = set(numbers)
    nodes = sorted(number for number in numbers if number >= 0)
    parts = ["master"] if len(nodes) < len(numbers) else []
    if nodes:
        parts.append(f"n{nodes[0]}" if len(nodes) == 1 else f"n[{fold_numbers(nodes)}]")
    return ",".join(parts)


def node_name(number: int) -> str:
    """Return ``n7``, or ``master`` for the head."""
    return f"n{number}" if number >= 0 else "master"


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Return columns (``COLUMNS`` overrides them) and rows of the terminal, or (0, 0) if it is none."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    columns = os.environ.get("COLUMNS", "")
    return (int(columns) if columns.isdecimal() and int(columns) > 0 else size.columns or 80), size.lines or 24


def processor_time(milliseconds: int) -> str:
    """Return ``1:02.3``: minutes, seconds, tenths; hours in front where there are any."""
    tenths = milliseconds // 100
    hours, rest = divmod(tenths, 36_000)
    minutes, tenths = divmod(rest, 600)
    seconds, tenth = divmod(tenths, 10)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}.{tenth}"


def memory(count_bytes: int) -> str:
    """Return the bytes in the largest unit that leaves a number of at most four digits, ``12M``."""
    for unit in "BKMGT":
        if count_bytes < 10_000 or unit == "T":
            return f"{count_bytes}{unit}" if unit != "B" else str(count_bytes)
        count_bytes //= 1024
    raise AssertionError("unreachable: the last unit returns")


def clock_time(milliseconds: int, now_s: float) -> str:
    """Return when something started, as ps(1) does: ``14:05`` in the last day, ``Nov23`` before, ``2025`` long ago."""
    import time

    started = milliseconds / 1000
    form = "%H:%M" if now_s - started < 86_400 else "%b%d" if now_s - started < 300 * 86_400 else "%Y"
    return time.strftime(form, time.localtime(started))
