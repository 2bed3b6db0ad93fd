"""Names of files that differ from rank to rank: ``out.%r``. Commands load this only for a name with a ``%`` in it."""

from __future__ import annotations

RANK, NODE, JOB = b"r", b"n", b"j"
WORDS = "%r (rank), %n (node, such as n3), %j (job) and %%"
"""What there is, for people."""

TYPE_CHECKING = False  # commands start without `collections.abc`
if TYPE_CHECKING:
    from collections.abc import Mapping


def expand(pattern: bytes, values: Mapping[bytes, bytes]) -> bytes:
    """Return a name with the values of these letters in place of ``%`` and the letter, and ``%`` in place of ``%%``.

    Raises
    ------
    ValueError
        If another letter follows a ``%``, or none does. The text says which, and what there is.
    """
    name, at = bytearray(), 0
    while (found := pattern.find(b"%", at)) >= 0:
        name += pattern[at:found]
        letter = pattern[found + 1 : found + 2]
        if letter == b"%":
            name += letter
        elif letter in values:
            name += values[letter]
        else:
            shown = (b"%" + letter).decode("ascii", "backslashreplace")
            whole = pattern.decode("utf-8", "backslashreplace")
            raise ValueError(f"{shown!r} in {whole!r} means nothing; there are {_words(values)}")
        at = found + 2
    return bytes(name + pattern[at:])


def _words(values: Mapping[bytes, bytes]) -> str:
    return WORDS if len(values) == len(_ANY) else "%n (node, such as n3) and %%"


_ANY = {RANK: b"0", NODE: b"n0", JOB: b"1.1"}


def why_no_pattern(pattern: bytes) -> str:
    """Return why a name cannot be expanded for a rank; empty: it can be."""
    if b"%" not in pattern:
        return ""
    try:
        expand(pattern, _ANY)
    except ValueError as error:
        return str(error)
    return ""


def is_per_rank(pattern: bytes) -> bool:
    """Say whether each rank has a name of its own by this pattern, which can be expanded."""
    return expand(pattern, _ANY) != expand(pattern, {**_ANY, RANK: b"1"})
