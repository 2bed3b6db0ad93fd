"""Host names of nodes: which may be one, how lists of them are folded (``c[08-10]``) and read.

A host says its name itself, so that is a stranger's word: it has to be a host name in form (RFC 1123, and ``_``), and
no word that means something in a node list already, so that nobody draws a launch to himself that was meant for others:
a number or ``n7``, a state with what may stand in front, ``all``, ``master``.

Folded names have one range of numbers, in brackets, in the place of their last digits; as with ClusterShell, a first
number with a zero in front gives all the same width: ``c[08-10]`` is c08, c09 and c10. Read are any number of brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from heorot.core.errors import NodeListError

MAX_NAME = 64
"""Characters, as of Linux (HOST_NAME_MAX)."""
HERE = ("self", "localhost")
"""Where it is said: the node of the rank that asks, else the head."""
PREFIXES = (("", True), ("allnot", False), ("all", True), ("not", False))
"""What may stand in front of a state, and whether nodes in it are meant."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*")
_NUMBERS = re.compile(r"[n.]?-?[0-9]+(?:-(?:[n.]?[0-9]+)?)?")
_LAST_DIGITS = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})(?:/([0-9]{1,18}))?)?")


def host_name_problem(name: str, states: Iterable[str] = ()) -> str:
    """Return why this, in lower case, cannot be the name of a node's host, for people; empty: it can.

    Parameters
    ----------
    states
        The words that are states of nodes.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        return f"a host name has at most {MAX_NAME} letters, digits, '-', '_' and '.'"
    if _NUMBERS.fullmatch(name):
        return "in a node list it is the number of a node"
    if name in ("all", "master", *HERE) or name.startswith("localhost."):
        return "it has another meaning in a node list or a hosts file"
    if any(name == prefix + state for prefix, _ in PREFIXES for state in states):
        return "in a node list it is a state of nodes"
    return ""


def short_name(name: str) -> str:
    """Return a host name without its domain."""
    return name.partition(".")[0]


def fold_names(names: Iterable[str]) -> str:
    """Return the list of some host names as short as it can be, in the order of their numbers: ``c[08-10],login``."""
    ranges: dict[tuple[str, str, int], list[int]] = {}
    single: list[str] = []
    for name in sorted(set(names)):
        match = _LAST_DIGITS.fullmatch(name)
        # In a node list a bracket without a name in front, or with "n", is one of numbers.
        if match is None or match[1] in ("", "n", "."):
            single.append(name)
            continue
        digits = match[2]
        width = len(digits) if digits[0] == "0" and len(digits) > 1 else 0
        ranges.setdefault((match[1], match[3], width), []).append(int(digits))
    # Numbers that are as wide as others with zeros in front go on with these.
    for (before, after, width), numbers in ranges.items():
        plain = ranges.get((before, after, 0), []) if width else []
        numbers += [number for number in plain if len(str(number)) == width]
        plain[:] = [number for number in plain if len(str(number)) != width]
    folded = [_bracket(*key, sorted(numbers)) for key, numbers in sorted(ranges.items()) if numbers]
    return ",".join([*folded, *single])


def _bracket(before: str, after: str, width: int, numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"{before}{numbers[0]:0{width}d}{after}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs]
    return f"{before}[{','.join(parts)}]{after}"


def expand_names(pattern: str, most: int) -> list[str]:
    """Return the names that a word with brackets stands for, in order, the last bracket going first.

    Raises
    ------
    NodeListError
        If what is in a bracket is no list of numbers and ranges, or there are more than `most` names.
    """
    names = [""]
    for literal, bracket in _parts(pattern):
        inner = list(_numbers(bracket, most)) if bracket is not None else [""]
        if len(names) * len(inner) > most:
            raise NodeListError(f"it stands for more than {most} names")
        names = [name + literal + number for name in names for number in inner]
        if len(names[0]) > MAX_NAME:
            raise NodeListError(f"a host name has at most {MAX_NAME} characters")
    return names


def _parts(pattern: str) -> Iterator[tuple[str, str | None]]:
    """Yield what stands before each bracket and what is in it; at the end what stands behind the last one, and None."""
    while True:
        literal, opened, rest = pattern.partition("[")
        if not opened:
            yield literal, None
            return
        inner, closed, pattern = rest.partition("]")
        if not closed or "[" in inner:
            raise NodeListError("a bracket is not closed")
        yield literal, inner


def _numbers(inner: str, most: int) -> Iterator[str]:
    count = 0
    for part in inner.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise NodeListError(f"{part.strip()[:60]!r} is no number and no range such as 0-7")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first:
            raise NodeListError(f"the range {first}-{last} runs backwards")
        if not step:
            raise NodeListError("a step must be at least 1")
        count += (last - first) // step + 1
        if count > most:
            raise NodeListError(f"it stands for more than {most} names")
        width = len(match[1]) if match[1][0] == "0" else 0
        for number in range(first, last + 1, step):
            yield f"{number:0{width}d}"
