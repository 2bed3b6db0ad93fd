"""To which CPUs ranks are bound: ``core`` or ``cpu``, one for each rank of a node, or a list for each: ``0-3:4-7``."""

from __future__ import annotations

CORE, CPU = "core", "cpu"
MAX_TEXT = 4096
MAX_CPUS = 8192
"""No kernel counts more."""
FORMS = "none, core, cpu, or the CPUs of each rank of a node, such as 0:1 or 0-3,8:4-7"


def cpu_lists(text: str) -> list[list[int]]:
    """Return the CPUs of the first, second, ... rank of a node, ascending; a further one begins anew.

    Raises
    ------
    ValueError
        If this is no such list.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"the list of CPUs has {len(text)} characters; at most {MAX_TEXT} are read")
    return [_cpus(part, text) for part in text.split(":")]


def _cpus(part: str, text: str) -> list[int]:
    cpus: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        last = last if dash else first
        if not all(number.isascii() and number.isdecimal() and len(number) <= 4 for number in (first, last)):
            raise ValueError(f"{text!r} binds to nothing: it is {FORMS}")
        if not int(first) <= int(last) < MAX_CPUS:
            raise ValueError(
                f"{item!r} in {text!r}: CPUs are 0 to {MAX_CPUS - 1}, and the first of a range comes first"
            )
        cpus.update(range(int(first), int(last) + 1))
    return sorted(cpus)


def why_no_binding(text: str) -> str:
    """Return why nothing can be bound so, for people; empty: it can be, where there are such CPUs."""
    if text in ("", CORE, CPU):
        return ""
    try:
        cpu_lists(text)
    except ValueError as error:
        return str(error)
    return ""
