"""Options and operands of the short commands: one declaration for parsing, ``--help``, man pages and completion.

The usual conventions of getopt_long(3): letters may be bundled, a value may follow its letter directly or as the next
argument, long options take ``=VALUE`` and may be abbreviated as long as they stay unambiguous, ``--`` ends the
options, and options may stand after operands. The standard parser takes half of a short command's time to import.
"""

from __future__ import annotations

from heorot.cli.options import UsageError as UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_STATUS = 2


class Option:
    """One option of a command.

    Parameters
    ----------
    names:
        All spellings, ``"-n --nodes"``; the last one is the key of the parsed value.
    help:
        One line for ``--help``.
    value:
        What the value is called in the help; empty for a switch.
    optional:
        The value may be left out (it is then ``""``). It must follow its letter directly or after ``=``; a following
        argument that is a number counts, too, because these commands have no operands that are plain numbers.
    """

    __slots__ = ("help", "key", "names", "optional", "value")

    def __init__(self, names: str, help: str, value: str = "", optional: bool = False) -> None:
        self.names = names.split()
        self.key = self.names[-1].lstrip("-")
        self.help = help
        self.value = value
        self.optional = optional


class Command:
    """A command (or a subcommand): its name, forms, options and remarks.

    Parameters
    ----------
    name:
        As typed: ``bpps``, ``bpjob show``.
    forms:
        What may follow the name, one form a line.
    summary:
        One sentence.
    options:
        Without `COMMON`, which every command has unless it declares its own.
    notes:
        Printed below the options.
    completes:
        What an operand is, for completion: ``nodes``, ``jobs``, ``targets`` or empty.
    """

    __slots__ = ("completes", "forms", "name", "notes", "options", "summary")

    def __init__(
        self, name: str, forms: str, summary: str, options: Sequence[Option], notes: str = "", completes: str = ""
    ) -> None:
        self.name = name
        self.forms = forms.split("\n")
        self.summary = summary
        declared = {option.key for option in options}
        self.options = [*options, *(option for option in COMMON if option.key not in declared)]
        self.notes = notes
        self.completes = completes

    def help_text(self) -> str:
        """Return what ``--help`` prints."""
        lines = [
            ("usage: " if index == 0 else "       ") + f"{self.name} {form}" for index, form in enumerate(self.forms)
        ]
        lines += ["", self.summary, ""]
        left = []
        for option in self.options:
            names = ", ".join(option.names)
            if option.value:
                joint = "=" if option.names[-1].startswith("--") else " "
                names += f"[{joint.strip()}{option.value}]" if option.optional else joint + option.value
            left.append(names)
        width = min(max(map(len, left)), 30)
        for names, option in zip(left, self.options, strict=True):
            if len(names) > width:
                lines.append(f"  {names}")
                names = ""
            lines.append(f"  {names:<{width}}  {option.help}")
        if self.notes:
            lines += ["", self.notes]
        return "\n".join(lines) + "\n"


class Parsed:
    """The options that were given, by key, with the last value of each, in order; and the operands."""

    __slots__ = ("operands", "order", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.order: list[str] = []
        self.operands: list[str] = []

    def has(self, key: str) -> bool:
        """Say whether the option was given."""
        return key in self.values

    def get(self, key: str, default: str = "") -> str:
        """Return the option's value."""
        return self.values.get(key, default)


DIRECTORY = Option("--dir", "the cluster's directory (HEOROT_DIR, /run/heorot)", "DIR")
HELP = Option("-h --help", "print this help")
VERSION = Option("-v -V --version", "print the version")
COMMON = (DIRECTORY, HELP, VERSION)


def parse(command: Command, arguments: Sequence[str]) -> Parsed:
    """Read a command line.

    Raises
    ------
    UsageError
        If an option is unknown or ambiguous, or a value is missing or too many.
    """
    parsed = Parsed()
    by_name = {name: option for option in command.options for name in option.names}
    rest = list(arguments)
    rest.reverse()

    def take(option: Option, name: str, attached: str | None) -> None:
        if not option.value:
            if attached is not None:
                raise UsageError(f"option {name} takes no value")
            value = ""
        elif attached is not None:
            value = attached
        elif option.optional:
            value = rest.pop() if rest and is_number(rest[-1]) else ""
        elif rest:
            value = rest.pop()
        else:
            raise UsageError(f"option {name} needs a value: {option.value}")
        parsed.values[option.key] = value
        parsed.order.append(option.key)

    while rest:
        argument = rest.pop()
        if argument == "--":
            rest.reverse()
            parsed.operands += rest
            break
        if argument.startswith("--"):
            name, equals, attached = argument.partition("=")
            take(_long_option(by_name, name), name, attached if equals else None)
        elif argument.startswith("-") and len(argument) > 1:
            position = 1
            while position < len(argument):
                name = "-" + argument[position]
                position += 1
                option = by_name.get(name)
                if option is None:
                    raise UsageError(f"unknown option {name}")
                remainder = argument[position:]
                if option.value and remainder:
                    take(option, name, remainder)
                    break
                take(option, name, None)
        else:
            parsed.operands.append(argument)
    return parsed


def _long_option(by_name: dict[str, Option], name: str) -> Option:
    exact = by_name.get(name)
    if exact is not None:
        return exact
    matches = {known: option for known, option in by_name.items() if known.startswith(name) and known.startswith("--")}
    if not matches:
        raise UsageError(f"unknown option {name}")
    if len({id(option) for option in matches.values()}) > 1:
        raise UsageError(f"option {name} is ambiguous: {', '.join(sorted(matches))}")
    return next(iter(matches.values()))


def is_number(text: str) -> bool:
    """Say whether the text is a plain decimal number, ``2`` or ``0.5``."""
    return text.replace(".", "", 1).isdecimal() and text.isascii()
