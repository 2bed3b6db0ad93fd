"""The one parser of options, for every command: argparse alone costs as much as the whole of a short command may take.

The usual conventions of getopt_long(3): letters may be bundled (``-nL``, ``-b100``), a value may follow its letter
directly or as the next word, long options take ``=VALUE`` or the next word and may be abbreviated as long as they stay
unambiguous, and ``--`` ends the options.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Of times as timeout(1) takes them."""


class UsageError(Exception):
    """The command line cannot be understood; the message says what is wrong with it."""


class Option:
    """One option of a command.

    Parameters
    ----------
    names:
        All spellings, ``"-n --nodes"``.
    help:
        For ``--help``; one line, or more.
    value:
        What the value is called in the help; empty for a switch.
    optional:
        The value may be left out (it is then ``""``). It must follow its letter directly or after ``=``; a following
        word that is a number counts, too, because these commands have no operands that are plain numbers.
    key:
        What the parsed value is stored under; by default the last name without its dashes.
    """

    __slots__ = ("help", "key", "names", "optional", "value")

    def __init__(self, names: str, help: str, value: str = "", optional: bool = False, *, key: str = "") -> None:
        self.names = names.split()
        self.key = key or self.names[-1].lstrip("-")
        self.help = help
        self.value = value
        self.optional = optional


class Parsed:
    """The options that were given, by key, with the last value of each; and the operands."""

    __slots__ = ("ended", "given", "operands", "spellings", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.given: list[tuple[str, str]] = []
        """Key and value of each option, in order."""
        self.spellings: dict[str, str] = {}
        """How each was written."""
        self.operands: list[str] = []
        self.ended = False
        """The last options that were taken ended with ``--``."""

    def has(self, key: str) -> bool:
        """Say whether the option was given."""
        return key in self.values

    def get(self, key: str, default: str = "") -> str:
        """Return the option's value."""
        return self.values.get(key, default)

    def all(self, key: str) -> list[str]:
        """Return the values of an option that may be given several times."""
        return [value for given, value in self.given if given == key]

    def integer(self, key: str, default: int, minimum: int, maximum: int) -> int:
        """Return the option's value as a number within limits.

        Raises
        ------
        UsageError
            If it is not a number, or outside the limits.
        """
        text = self.values.get(key)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
            raise UsageError(f"option {self.spellings[key]} needs a number from {minimum} to {maximum}, not {text!r}")
        return int(text)

    def milliseconds(self, key: str, default: int, maximum_s: int) -> int:
        """Return an option's value, a time such as ``90``, ``1.5m``, ``2h`` or ``1d``, in milliseconds.

        Raises
        ------
        UsageError
            If it is no time, less than a millisecond, or above the maximum.
        """
        text = self.values.get(key)
        if text is None:
            return default
        unit_ms = _UNITS_MS.get(text[-1:], 0)
        number = text[:-1] if unit_ms else text
        value_ms = round(float(number) * (unit_ms or 1000)) if is_number(number) and len(number) <= 18 else 0
        if not 0 < value_ms <= 1000 * maximum_s:
            raise UsageError(f"option {self.spellings[key]} needs a time such as 90, 1.5m, 2h or 1d, not {text!r}")
        return value_ms


class OptionTable:
    """All options of a command."""

    def __init__(self, options: Iterable[Option]) -> None:
        self._by_name = {name: option for option in options for name in option.names}

    def take(self, words: Sequence[str], start: int, parsed: Parsed) -> int:
        """Take options from `words` at `start`, up to the first word that is none, or a ``--``, which is taken as well.

        Return the index of the first word that was not taken.

        Raises
        ------
        UsageError
            If an option is unknown or ambiguous, or a value is missing or too many.
        """
        index = start
        parsed.ended = False
        while index < len(words) and not parsed.ended:
            word = words[index]
            if len(word) < 2 or word[0] != "-":
                break
            index += 1
            if word == "--":
                parsed.ended = True
            elif word[1] == "-":
                name, equals, value = word.partition("=")
                index = _store(parsed, self._long(name), name, value if equals else None, words, index)
            else:
                index = self._letters(word, words, index, parsed)
        return index

    def _letters(self, word: str, words: Sequence[str], index: int, parsed: Parsed) -> int:
        for position in range(1, len(word)):
            name = "-" + word[position]
            option = self._by_name.get(name)
            if option is None:
                raise UsageError(f"unknown option {name}" + (f" in {word}" if len(word) > 2 else ""))
            rest = word[position + 1 :]
            if option.value and rest:
                return _store(parsed, option, name, rest, words, index)
            index = _store(parsed, option, name, None, words, index)
        return index

    def _long(self, name: str) -> Option:
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        matches = {known: option for known, option in self._by_name.items() if known.startswith(name)}
        if not matches:
            raise UsageError(f"unknown option {name}")
        if len({id(option) for option in matches.values()}) > 1:
            raise UsageError(f"option {name} is ambiguous: {', '.join(sorted(matches))}")
        return next(iter(matches.values()))


def _store(parsed: Parsed, option: Option, name: str, attached: str | None, words: Sequence[str], index: int) -> int:
    """Note an option; return the index of the first word that it does not take."""
    value = attached or ""
    if not option.value:
        if attached is not None:
            raise UsageError(f"option {name} takes no value")
    elif attached is None and (not option.optional or (index < len(words) and is_number(words[index]))):
        if index >= len(words):
            raise UsageError(f"option {name} needs a value: {option.value}")
        value = words[index]
        index += 1
    parsed.values[option.key] = value
    parsed.given.append((option.key, value))
    parsed.spellings[option.key] = name
    return index


def is_number(text: str) -> bool:
    """Say whether the text is a plain decimal number, ``2`` or ``0.5``."""
    return text.replace(".", "", 1).isdecimal() and text.isascii()
