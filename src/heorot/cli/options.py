"""A small option parser: argparse alone costs as much as the whole of a short command may take.

It knows short options that combine (``-nL``, ``-b100``), long ones with ``--name=value`` or ``--name value``,
unambiguous beginnings of long ones, and ``--``.
"""

from __future__ import annotations


class UsageError(Exception):
    """The command line cannot be understood; the message says what is wrong with it."""


class OptionSyntax:
    """One option.

    Parameters
    ----------
    name:
        What the parsed value is stored under.
    spellings:
        All ways to write it: ``-b``, ``--buffer``.
    argument:
        The name of its argument in the help, or empty for a flag.
    repeated:
        It may be given several times; its values are stored with a ``\\0`` in between.
    """

    __slots__ = ("argument", "name", "repeated", "spellings")

    def __init__(self, name: str, *spellings: str, argument: str = "", repeated: bool = False) -> None:
        self.name = name
        self.spellings = spellings
        self.argument = argument
        self.repeated = repeated


class OptionTable:
    """All options of a command."""

    def __init__(self, options: tuple[OptionSyntax, ...]) -> None:
        self._by_spelling = {spelling: option for option in options for spelling in option.spellings}

    def parse(self, words: list[str], start: int, values: dict[str, str]) -> int:
        """Take options from `words` at `start`, up to the first word that is none or a ``--``.

        Flags are stored as ``"1"``. Returns the index of the first word not taken.

        Raises
        ------
        UsageError
            For an unknown option, or an argument that is missing or not wanted.
        """
        index = start
        while index < len(words):
            word = words[index]
            if word == "--":
                return index + 1
            if len(word) < 2 or word[0] != "-":
                break
            index = self._long(words, index, values) if word[1] == "-" else self._short(words, index, values)
        return index

    def _long(self, words: list[str], index: int, values: dict[str, str]) -> int:
        name, equals, value = words[index].partition("=")
        option = self._by_spelling.get(name)
        if option is None:
            found = sorted(spelling for spelling in self._by_spelling if spelling.startswith(name))
            if len({self._by_spelling[spelling].name for spelling in found}) > 1:
                raise UsageError(f"option {name} is ambiguous: {', '.join(found)}")
            if not found:
                raise UsageError(f"unknown option {name}")
            option = self._by_spelling[found[0]]
        if not option.argument:
            if equals:
                raise UsageError(f"option {name} takes no argument")
            values[option.name] = "1"
            return index + 1
        if equals:
            _store(values, option, value)
            return index + 1
        return self._argument(words, index + 1, option, name, values)

    def _short(self, words: list[str], index: int, values: dict[str, str]) -> int:
        letters = words[index]
        for position in range(1, len(letters)):
            spelling = "-" + letters[position]
            option = self._by_spelling.get(spelling)
            if option is None:
                raise UsageError(f"unknown option {spelling}" + (f" in {letters}" if len(letters) > 2 else ""))
            if not option.argument:
                values[option.name] = "1"
            elif position + 1 < len(letters):
                _store(values, option, letters[position + 1 :])
                break
            else:
                return self._argument(words, index + 1, option, spelling, values)
        return index + 1

    def _argument(
        self, words: list[str], index: int, option: OptionSyntax, spelling: str, values: dict[str, str]
    ) -> int:
        if index >= len(words):
            raise UsageError(f"option {spelling} needs an argument: {option.argument}")
        _store(values, option, words[index])
        return index + 1


def _store(values: dict[str, str], option: OptionSyntax, value: str) -> None:
    if option.repeated and option.name in values:
        value = f"{values[option.name]}\0{value}"
    values[option.name] = value


def integer(values: dict[str, str], name: str, spelling: str, default: int, minimum: int, maximum: int) -> int:
    """Return an option's value as a number within limits.

    Raises
    ------
    UsageError
        If it is not a number, or outside the limits.
    """
    text = values.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise UsageError(f"option {spelling} needs a number from {minimum} to {maximum}, not {text!r}")
    return int(text)
